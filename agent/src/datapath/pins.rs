//! Where maps and links stay between two agents: a folder of our own in a BPF file system.
//!
//! ```text
//! <bpffs>/weir/v<ABI_VERSION>/maps/FRONTENDS4 …
//! <bpffs>/weir/v<ABI_VERSION>/links/xdp_uplink-3 …   program and interface number
//!                              links/cg_connect4 …   program
//!                              used                  programs of the version were attached
//! ```
//!
//! The version in the path keeps an agent from adopting maps of another layout.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ebpf_abi::ABI_VERSION;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// An empty folder of a version; see [`Pins::mark_used`].
const USED: &str = "used";

/// The folder and what is in it.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// No BPF file system is mounted there.
    #[error(
        "paths.bpffs: {path} is not in a BPF file system; mount one with `mount -t bpf bpf {path}`"
    )]
    NotBpffs {
        /// The path configured.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Pins {
    /// The folder below a mounted BPF file system. Nothing is created yet.
    pub fn new(bpffs: &Path) -> Self {
        Self {
            root: bpffs.join("weir"),
        }
    }

    /// Creates the folders.
    pub fn create(&self) -> Result<(), PinsError> {
        let mount = self.root.parent().unwrap_or(Path::new("/"));
        let is_bpffs = statfs(mount).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC);
        if !is_bpffs {
            return Err(PinsError::NotBpffs {
                path: mount.to_owned(),
            });
        }
        for folder in [self.maps(), self.links()] {
            fs::create_dir_all(&folder).map_err(|source| PinsError::Io {
                action: "create",
                path: folder,
                source,
            })?;
        }
        Ok(())
    }

    /// The folder that holds everything of ours.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of this version.
    pub fn version(&self) -> PathBuf {
        self.root.join(format!("v{ABI_VERSION}"))
    }

    /// The folder of the maps.
    pub fn maps(&self) -> PathBuf {
        self.version().join("maps")
    }

    /// The folder of the links.
    pub fn links(&self) -> PathBuf {
        self.version().join("links")
    }

    /// Says that programs of this version are attached from now on. Links say so too, but filters of
    /// kernels before 6.6 are not pinned.
    pub fn mark_used(&self) -> io::Result<()> {
        fs::create_dir_all(self.version().join(USED))
    }

    /// The pin of a map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The pin of a program's link to an interface.
    pub fn interface_link(&self, program: &str, ifindex: u32) -> PathBuf {
        self.links().join(format!("{program}-{ifindex}"))
    }

    /// The pin of a program's link to the cgroup.
    pub fn cgroup_link(&self, program: &str) -> PathBuf {
        self.links().join(program)
    }

    /// The interfaces that pinned links name, each with the program: what an earlier agent attached.
    pub fn linked_interfaces(&self) -> io::Result<Vec<(String, u32)>> {
        let mut found = Vec::new();
        for file in fs::read_dir(self.links())? {
            let name = file?.file_name();
            if let Some((program, ifindex)) = parse_interface_link(&name.to_string_lossy()) {
                found.push((program.to_owned(), ifindex));
            }
        }
        Ok(found)
    }
}

/// Whether programs of the version with this folder are attached, or were when it was left.
pub(super) fn is_used(version: &Path) -> io::Result<bool> {
    let links = super::remove::entries(&version.join("links"))?;
    Ok(!links.is_empty() || version.join(USED).is_dir())
}

pub(super) fn parse_interface_link(name: &str) -> Option<(&str, u32)> {
    let (program, ifindex) = name.rsplit_once('-')?;
    Some((program, ifindex.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_interfaces_are_told_from_links_to_the_cgroup() {
        assert_eq!(
            parse_interface_link("xdp_uplink-12"),
            Some(("xdp_uplink", 12))
        );
        assert_eq!(parse_interface_link("cg_connect4"), None);
        assert_eq!(parse_interface_link("tc_pod_to-x"), None);
    }

    #[test]
    fn a_folder_outside_of_a_bpf_file_system_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Pins::new(folder.path()).create().unwrap_err();
        assert!(error.to_string().contains("mount -t bpf"), "{error}");
    }
}
