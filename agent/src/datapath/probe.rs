//! What this kernel and these devices can do, found out by trying and never by comparing versions:
//! distributions carry features back and leave others out.
//!
//! The answers choose between ways to do the same thing (TCX or `clsact`, WireGuard in the kernel
//! or in a process) and tell an operator what a node lacks. Everything is tried with programs that
//! change nothing, on loopback, in a network namespace of its own where the privileges suffice for
//! one.

mod bpf;
pub mod command;
pub mod device;
mod genetlink;
mod host;
mod report;
mod trial;

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use device::Device;
pub use report::{Report, Row};

use crate::config::PortRange;

/// The answer to "is it there?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "found", content = "detail", rename_all = "kebab-case")]
pub enum Found {
    /// Tried, works. The text says more, or is empty.
    Yes(String),
    /// Tried, does not work, and why.
    No(String),
    /// The kernel refused this process, whatever it can do for others.
    NotPermitted(String),
    /// Not tried, and why.
    NotTried(String),
}

impl Found {
    /// Tried and works, with nothing more to say.
    pub fn yes() -> Self {
        Self::Yes(String::new())
    }

    /// Whether it was tried and works.
    pub fn is_yes(&self) -> bool {
        matches!(self, Self::Yes(_))
    }

    /// What an attempt says that was made by a system call.
    fn by<T>(attempt: io::Result<T>) -> Self {
        match attempt {
            Ok(_) => Self::yes(),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Self::NotPermitted(String::new())
            }
            Err(error) => Self::No(error.to_string()),
        }
    }

    /// In a word or two.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Yes(_) => "yes",
            Self::No(_) => "no",
            Self::NotPermitted(_) => "not permitted",
            Self::NotTried(_) => "not tried",
        }
    }

    /// More about it; may be empty.
    pub fn detail(&self) -> &str {
        let (Self::Yes(text) | Self::No(text) | Self::NotPermitted(text) | Self::NotTried(text)) =
            self;
        text
    }
}

/// A helper function of the kernel, for one type of program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Helper {
    /// Type of program that calls it.
    pub program: &'static str,
    /// Name, as in `bpf-helpers(7)` without `bpf_`.
    pub name: &'static str,
    /// Whether such a program may call it.
    pub found: Found,
}

/// What to look at.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where bpffs should be mounted.
    pub bpffs: PathBuf,
    /// cgroup to attach to, if not the mount point of cgroup v2.
    pub cgroup: Option<PathBuf>,
    /// Names of the devices to look at; empty: those with a default route.
    pub devices: Vec<String>,
    /// Attach to the devices to find out about native XDP. Some drivers reset the link for it, so
    /// it is the operator's choice.
    pub attach: bool,
}

/// Everything found.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Release of the kernel, for people.
    pub kernel: String,
    /// Capabilities out of those the data plane needs that this process lacks.
    pub missing_capabilities: Vec<&'static str>,
    /// Programs and maps for networking can be loaded.
    pub programs: Found,
    /// Locked memory does not stand in the way of maps.
    pub memlock: Found,
    /// The kernel describes its types (`/sys/kernel/btf/vmlinux`).
    pub btf: Found,
    /// Ring buffer maps.
    pub ring_buffer: Found,
    /// LRU hash maps.
    pub lru_hash: Found,
    /// Hash maps of maps.
    pub map_in_map: Found,
    /// Maps in a map may differ in size (`BPF_F_INNER_MAP`).
    pub inner_map_sizes: Found,
    /// XDP can be held by a link that is pinned and updated in place.
    pub xdp_link: Found,
    /// TC programs can be held by links (TCX); else by filters of a `clsact` qdisc.
    pub tcx: Found,
    /// Where cgroup v2 is mounted, or the one configured.
    pub cgroup_path: Option<PathBuf>,
    /// Programs for connect, sendmsg, recvmsg and getpeername of both families can be attached to
    /// that cgroup.
    pub cgroup_hooks: Found,
    /// Helper functions.
    pub helpers: Vec<Helper>,
    /// bpffs is mounted at the configured place.
    pub bpffs: Found,
    /// WireGuard devices.
    pub wireguard: Found,
    /// TUN devices.
    pub tun: Found,
    /// Ports the node gives its own clients.
    pub ephemeral_ports: Option<PortRange>,
    /// Settings of the kernel that decide what becomes of forwarded packets.
    pub settings: Vec<(&'static str, String)>,
    /// The devices asked for.
    pub devices: Vec<Device>,
}

impl Probe {
    /// Tries everything. Blocks for some tens of milliseconds.
    pub fn run(options: &Options) -> Self {
        // First, since on old kernels a low limit makes every other attempt fail.
        let memlock = host::raise_memlock();
        let given = options.cgroup.clone().map(host::cgroup2_at);
        let cgroup_path = given.or_else(host::cgroup2_mount);
        let attachments = trial::on_loopback();
        Self {
            kernel: host::kernel_release(),
            missing_capabilities: host::missing_capabilities(),
            programs: trial::programs(),
            memlock,
            btf: Found::by(std::fs::File::open("/sys/kernel/btf/vmlinux")),
            ring_buffer: trial::map(aya::maps::MapType::RingBuf),
            lru_hash: trial::map(aya::maps::MapType::LruHash),
            map_in_map: trial::map(aya::maps::MapType::HashOfMaps),
            inner_map_sizes: Found::by(trial::inner_map_of_any_size()),
            xdp_link: attachments.xdp_link,
            tcx: attachments.tcx,
            cgroup_hooks: trial::cgroup_hooks(cgroup_path.as_deref()),
            cgroup_path,
            helpers: trial::helpers(),
            bpffs: host::bpffs(&options.bpffs),
            wireguard: wireguard(),
            tun: host::tun(),
            ephemeral_ports: host::ephemeral_ports(),
            settings: host::settings(),
            devices: device::probe(&options.devices, options.attach),
        }
    }

    /// What stands in the way of running at all: feature and finding. Empty on a node that will do.
    pub fn obstacles(&self) -> Vec<(String, &Found)> {
        let maps = [
            ("eBPF programs", &self.programs),
            ("ring buffer", &self.ring_buffer),
            ("LRU hash maps", &self.lru_hash),
            ("maps of maps", &self.map_in_map),
            ("inner maps of any size", &self.inner_map_sizes),
            ("bpffs", &self.bpffs),
        ];
        // Without the cgroup's, connections are translated packet by packet.
        let helpers = self
            .helpers
            .iter()
            .filter(|helper| helper.program != "cgroup");
        maps.into_iter()
            .map(|(feature, found)| (feature.to_owned(), found))
            .chain(helpers.map(|helper| (helper.feature(), &helper.found)))
            .filter(|(_, found)| !found.is_yes())
            .collect()
    }
}

impl Helper {
    /// As a feature of the kernel.
    fn feature(&self) -> String {
        format!("{} helper {}", self.program, self.name)
    }
}

impl Default for Options {
    /// As configured by default.
    fn default() -> Self {
        Self {
            bpffs: Path::new("/sys/fs/bpf").into(),
            cgroup: None,
            devices: Vec::new(),
            attach: false,
        }
    }
}

/// Whether the kernel has WireGuard.
pub fn kernel_has_wireguard() -> bool {
    wireguard().is_yes()
}

fn wireguard() -> Found {
    genetlink::family("wireguard").map_or_else(
        |error| Found::by::<()>(Err(error)),
        |family| family.map_or(Found::No("no kernel module".into()), |_| Found::yes()),
    )
}

#[cfg(test)]
mod tests;
