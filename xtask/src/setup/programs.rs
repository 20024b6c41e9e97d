//! Programs of the system that verbs call, and the packages that hold them.

use ebpf_build::Places;

use crate::setup::apt::Apt;

/// A program and where it comes from.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    package: &'static str,
    why: &'static str,
}

const fn program(name: &'static str, package: &'static str, why: &'static str) -> Program {
    Program { name, package, why }
}

/// What clusters of network namespaces need.
pub const NETWORK: [Program; 7] = [
    program(
        "ip",
        "iproute2",
        "builds and lists the devices of a cluster",
    ),
    program(
        "tc",
        "iproute2",
        "shows that nothing of ours is left on a device",
    ),
    program(
        "bpftool",
        "bpftool",
        "shows that nothing of ours is left in the kernel",
    ),
    program(
        "wg",
        "wireguard-tools",
        "sets a device up by hand, and shows what ours are",
    ),
    program(
        "wireguard-go",
        "wireguard-go",
        "is a WireGuard of others where the kernel has none",
    ),
    program("dnsmasq", "dnsmasq-base", "is the DNS server of a cluster"),
    program("nft", "nftables", "masquerades as CNI plugins do"),
];

/// What virtual machines need beside the emulator, see [`crate::vm::emulator`].
pub const VM: [Program; 5] = [
    program("busybox", "busybox-static", "is the machine's userland"),
    program("dpkg-deb", "dpkg", "unpacks the kernels"),
    program("xz", "xz-utils", "unpacks compressed kernel modules"),
    program(
        "ip",
        "iproute2",
        "builds and lists the devices of a cluster",
    ),
    program("wg", "wireguard-tools", "sets up encrypted tunnels"),
];

/// What is there, or else what lacks and why it is wanted.
pub fn look(places: &Places, programs: &[Program]) -> Result<String, String> {
    let lacking = lacking(places, programs);
    if lacking.is_empty() {
        let names: Vec<&str> = programs.iter().map(|program| program.name).collect();
        return Ok(names.join(", "));
    }
    let reasons: Vec<String> = lacking
        .iter()
        .map(|program| format!("{} ({})", program.name, program.why))
        .collect();
    Err(format!("no {}", reasons.join(", no ")))
}

/// Installs the packages of what lacks.
pub fn install(apt: &mut Apt, places: &Places, programs: &[Program]) -> anyhow::Result<()> {
    for program in lacking(places, programs) {
        apt.install(
            &[program.package],
            &format!("{} {}", program.name, program.why),
        )?;
    }
    Ok(())
}

fn lacking<'a>(places: &Places, programs: &'a [Program]) -> Vec<&'a Program> {
    programs
        .iter()
        .filter(|program| places.program(program.name).is_none())
        .collect()
}
