//! Places on the machine.

use std::path::PathBuf;

use super::problem::Finding;
use super::section::section;

/// Longest path a unix socket can be bound to: the kernel's field without its closing zero.
const SOCKET_PATH_MAX: usize = 107;

section! {
    /// Places on this machine.
    pub struct Paths {
        settings {
            /// Where a BPF file system is mounted. Programs, maps and links are pinned below
            /// `weir/` in it, so that they outlive the agent.
            "bpffs" bpffs: PathBuf = PathBuf::from("/sys/fs/bpf"),
            /// Directory for what must survive a reboot: the last good state of the source, and with
            /// encryption the node's private key and the guarded ranges. Created if missing.
            "state" state: PathBuf = PathBuf::from("/var/lib/weir"),
            /// Unix socket of the agent's API, for root only.
            "socket" socket: PathBuf = PathBuf::from("/run/weir/agent.sock"),
            /// Root of the cgroup v2 hierarchy, or the part of it whose processes have their
            /// connections translated. Empty: where cgroup v2 is mounted.
            "cgroup" cgroup: Option<PathBuf> = None,
            /// Settings of the kernel. Encryption sets those of its own device below `net/`, and a
            /// container cannot write those of `/proc/sys`.
            "sysctl" sysctl: PathBuf = PathBuf::from("/proc/sys"),
        }
    }
}

impl Paths {
    pub(super) fn check(&self, findings: &mut Vec<Finding>) {
        let length = self.socket.as_os_str().len();
        if length > SOCKET_PATH_MAX {
            findings.push(Finding::new(
                "paths.socket",
                format!("has {length} bytes, more than a socket's path can have"),
                format!("choose one of at most {SOCKET_PATH_MAX} bytes"),
            ));
        }
    }
}
