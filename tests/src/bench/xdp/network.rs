//! The network namespace that the programs run in: an uplink whose neighbours are all known, so
//! that the routing table answers as it does on a busy node.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::{fs, panic, thread};

use anyhow::{Context, ensure};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use nix::sched::{CloneFlags, unshare};

/// Name of the uplink.
pub const UPLINK: &str = "uplink";
/// Backends of every service.
pub const BACKENDS: u16 = 100;
/// Port of every frontend.
pub const FRONTEND_PORT: u16 = 80;
/// Port that backends listen on.
pub const BACKEND_PORT: u16 = 8080;
/// Frontends that no packet is for, so that the map is not empty around those that are dialled.
pub const OTHER_FRONTENDS: u16 = 1_000;

/// The node.
pub const NODE4: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
/// Likewise.
pub const NODE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// Frontend whose backends are on other nodes.
pub const REMOTE4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Likewise.
pub const REMOTE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
/// Frontend whose backends are on this node.
pub const LOCAL4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// No frontend, though a client may well dial it.
pub const UNKNOWN4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// Likewise.
pub const UNKNOWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 9);
/// A client.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 4, 0, 0, 0, 0, 1);

/// A backend on another node, from 1 on.
pub fn remote4(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(172, 16, 1 + high, low).into()
}

/// Likewise.
pub fn remote6(number: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 1, number).into()
}

/// A backend on this node, from 1 on.
pub fn local4(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(172, 17, high, low).into()
}

/// A frontend nobody dials, from 1 on.
pub fn other4(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(198, 18, high, low).into()
}

/// Likewise.
pub fn other6(number: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, number).into()
}

/// Runs `action` on a thread of its own in a new network namespace with the uplink; the namespace
/// ends with the thread.
pub fn inside<T: Send>(action: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let in_namespace = || {
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace; be root")?;
        configure()?;
        let _receiver = receive()?;
        action()
    };
    thread::scope(|scope| match scope.spawn(in_namespace).join() {
        Ok(result) => result,
        Err(payload) => panic::resume_unwind(payload),
    })
}

fn configure() -> anyhow::Result<()> {
    let mut commands = vec![
        format!("link add {UPLINK} type veth peer name far"),
        "link set lo up".into(),
        "link set far up".into(),
        format!("link set {UPLINK} up"),
        format!("address add {NODE4}/16 dev {UPLINK}"),
        format!("address add {NODE6}/64 dev {UPLINK} nodad"),
    ];
    for number in 1..=BACKENDS {
        let [high, low] = number.to_be_bytes();
        for backend in [remote4(number), remote6(number)] {
            commands.push(format!(
                "neighbour add {backend} lladdr 02:00:00:00:{high:02x}:{low:02x} dev {UPLINK} \
                 nud permanent"
            ));
        }
    }
    ip_batch(&commands)?;
    // The routing table answers programs only where the node forwards.
    for setting in ["ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding"] {
        let path = format!("/proc/sys/net/{setting}");
        fs::write(&path, "1").with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}

/// Attaches an empty XDP program: only a device prepared for XDP lends itself to test runs. It stays
/// as long as the value returned.
fn receive() -> anyhow::Result<Ebpf> {
    let mut programs = EbpfLoader::new().load(ebpf_object::bench()?)?;
    let pass = programs
        .program_mut("xdp_pass")
        .context("program xdp_pass")?;
    let pass: &mut Xdp = pass.try_into()?;
    pass.load()?;
    pass.attach(UPLINK, XdpMode::Driver)?;
    Ok(programs)
}

fn ip_batch(commands: &[String]) -> anyhow::Result<()> {
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start ip (iproute2)")?;
    let mut input = ip.stdin.take().expect("it is piped");
    input.write_all(commands.join("\n").as_bytes())?;
    drop(input);
    let status = ip.wait()?;
    ensure!(status.success(), "ip -batch failed ({status})");
    Ok(())
}
