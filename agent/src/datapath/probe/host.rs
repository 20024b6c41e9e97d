//! What the host has beside eBPF: privileges, mounts, limits, settings.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use aya_obj::generated::bpf_map_type;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use super::Found;
use super::bpf::{self, MapSpec};
use crate::config::PortRange;

/// Capabilities the data plane needs, with their bit.
const CAPABILITIES: [(&str, u32); 3] =
    [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

/// Has the powers of `CAP_PERFMON` and `CAP_BPF`, from before there were those.
const CAP_SYS_ADMIN: u32 = 21;

/// A map of so many bytes beyond the limit shows whether the limit counts.
const BEYOND_MEMLOCK: u64 = 1 << 20;

/// Limits from here on are never in the way, and a map beyond them would be.
const LARGE_MEMLOCK: u64 = 1 << 30;

/// Kernel settings that decide what becomes of forwarded packets.
const SETTINGS: [&str; 8] = [
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/default/rp_filter",
    "net/ipv4/ip_local_port_range",
    "net/core/bpf_jit_enable",
    "net/core/rmem_max",
    "kernel/unprivileged_bpf_disabled",
];

/// As `uname -r` says it.
pub fn kernel_release() -> String {
    read("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// The needed capabilities that this process lacks.
pub fn missing_capabilities() -> Vec<&'static str> {
    missing_in(&read("/proc/self/status").unwrap_or_default())
}

fn missing_in(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective & (1 << bit) != 0;
    let covered = |name: &str| name != "CAP_NET_ADMIN" && has(CAP_SYS_ADMIN);
    CAPABILITIES
        .into_iter()
        .filter(|(name, bit)| !has(*bit) && !covered(name))
        .map(|(name, _)| name)
        .collect()
}

/// Lifts the limit on locked memory, which bounds maps on kernels before 5.11. Newer ones count
/// maps to the cgroup, and then it does not matter that it cannot be lifted.
pub fn raise_memlock() -> Found {
    if setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_ok() {
        return Found::Yes("the limit was lifted".into());
    }
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_MEMLOCK) else {
        return Found::No("the limit cannot be read".into());
    };
    if limit >= LARGE_MEMLOCK {
        return Found::Yes("the limit is high".into());
    }
    let beyond = MapSpec {
        kind: bpf_map_type::BPF_MAP_TYPE_ARRAY,
        key_bytes: 4,
        value_bytes: 1024,
        entries: u32::try_from((limit + BEYOND_MEMLOCK) / 1024).expect("below the large limit"),
        flags: 0,
    };
    match bpf::create_map(&beyond, None) {
        Ok(_) => Found::Yes(format!(
            "the limit of {limit} bytes does not count for maps"
        )),
        Err(error) => Found::NotPermitted(format!(
            "lifting the limit of {limit} bytes takes CAP_SYS_RESOURCE, and a larger map: {error}"
        )),
    }
}

/// Where cgroup v2 is mounted.
pub fn cgroup2_mount() -> Option<PathBuf> {
    cgroup2_in(&read("/proc/self/mountinfo")?)
}

/// The hierarchy at or below a given folder: on nodes with both versions v2 is in the folder `unified` of the
/// one that all look in, and who mounts that into a container cannot know.
pub fn cgroup2_at(given: PathBuf) -> PathBuf {
    let below = given.join("unified");
    if !is_cgroup2(&given) && is_cgroup2(&below) {
        below
    } else {
        given
    }
}

/// Whether the folder is one of a cgroup v2 hierarchy.
pub fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Finds the mount in the text of `/proc/self/mountinfo`: the first one of the whole hierarchy,
/// else the first.
fn cgroup2_in(mountinfo: &str) -> Option<PathBuf> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        file_system.starts_with("cgroup2 ").then_some((root, point))
    });
    let mounts: Vec<_> = mounts.collect();
    let (_, point) = mounts
        .iter()
        .find(|(root, _)| *root == "/")
        .or(mounts.first())?;
    Some(PathBuf::from(point.replace("\\040", " ")))
}

/// Whether bpffs is mounted at `path`.
pub fn bpffs(path: &Path) -> Found {
    match statfs(path) {
        Ok(found) if found.filesystem_type() == BPF_FS_MAGIC => {
            Found::Yes(path.display().to_string())
        }
        Ok(_) => Found::No(format!("{} is another file system", path.display())),
        Err(error) => Found::No(format!("{}: {error}", path.display())),
    }
}

/// Whether the TUN driver answers.
pub fn tun() -> Found {
    Found::by(
        OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun"),
    )
}

/// Ports the node gives its own clients.
pub fn ephemeral_ports() -> Option<PortRange> {
    let text = read("/proc/sys/net/ipv4/ip_local_port_range")?;
    let mut ports = text.split_whitespace().map(str::parse);
    Some(PortRange {
        first: ports.next()?.ok()?,
        last: ports.next()?.ok()?,
    })
}

/// The settings in their usual dotted spelling; those the kernel does not have are left out.
pub fn settings() -> Vec<(&'static str, String)> {
    SETTINGS
        .into_iter()
        .filter_map(|name| {
            let text = read(&format!("/proc/sys/{name}"))?;
            Some((name, text.split_whitespace().collect::<Vec<_>>().join(" ")))
        })
        .collect()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_mount_is_found_wherever_it_is() {
        let ordinary = "\
24 30 0:22 / /proc rw,nosuid - proc proc rw
31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        let hybrid = "\
30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
        let container = "\
31 24 0:27 /pod1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw
40 24 0:27 / /host\\040node/cgroup rw - cgroup2 cgroup2 rw";
        let cases = [
            (ordinary, Some("/sys/fs/cgroup")),
            (hybrid, Some("/sys/fs/cgroup/unified")),
            (container, Some("/host node/cgroup")),
            ("24 30 0:22 / /proc rw - proc proc rw", None),
            ("", None),
        ];
        for (mountinfo, expected) in cases {
            assert_eq!(
                cgroup2_in(mountinfo),
                expected.map(PathBuf::from),
                "{mountinfo}"
            );
        }
    }

    #[test]
    fn a_folder_that_holds_the_hierarchy_leads_to_it() {
        let Some(mount) = cgroup2_mount() else { return };
        assert_eq!(cgroup2_at(mount.clone()), mount);
        if mount.ends_with("unified") {
            let both = mount.parent().unwrap().to_owned();
            assert_eq!(cgroup2_at(both), mount);
        }
        let other = std::env::temp_dir();
        assert_eq!(
            cgroup2_at(other.clone()),
            other,
            "what is wrong is told by its name"
        );
    }

    #[test]
    fn the_old_capability_covers_the_new_ones() {
        let missing = |hex: &str| missing_in(&format!("Name:\tx\nCapEff:\t{hex}\n"));
        assert_eq!(missing("000001ffffffffff"), [""; 0]);
        assert_eq!(
            missing("0000000000000000"),
            ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]
        );
        assert_eq!(missing("000000c000001000"), [""; 0], "the three alone");
        assert_eq!(missing("0000000000200000"), ["CAP_NET_ADMIN"]);
        assert_eq!(missing("0000008000001000"), ["CAP_PERFMON"]);
    }
}
