//! The cgroup tree of a run: the one complete list of its processes.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::wait;

/// How long killed processes may take to go.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// Where cgroup v2 is mounted: `/sys/fs/cgroup`, or below it on a machine with both versions.
///
/// # Errors
///
/// When it is not mounted; the text says how to.
pub fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    mount_point_in(&mounts)
        .context("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup")
}

fn mount_point_in(mounts: &str) -> Option<PathBuf> {
    let mut lines = mounts.lines().map(|line| line.split_ascii_whitespace());
    lines.find_map(|mut fields| {
        let point = fields.nth(1)?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(point))
    })
}

/// Kills every process in the tree below `root` and removes the tree. No error if it is not there.
///
/// # Errors
///
/// When a process does not go in time or a directory cannot be removed.
pub fn remove(root: &Path) -> Result<()> {
    wait::until(
        &format!("the processes in {} to end", root.display()),
        KILL_DEADLINE,
        || {
            let directories = tree(root);
            let mut alive = Vec::new();
            for directory in &directories {
                alive.extend(processes(directory));
            }
            for pid in &alive {
                // Gone in the meantime is as good.
                let _ = signal::kill(*pid, Signal::SIGKILL);
            }
            if !alive.is_empty() {
                return Err(anyhow!("{alive:?} still run"));
            }
            // Children come after their parents in the list.
            for directory in directories.iter().rev() {
                match fs::remove_dir(directory) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(error)
                            .with_context(|| format!("remove {}", directory.display()));
                    }
                    _ => {}
                }
            }
            Ok(())
        },
    )
}

/// Kills all processes of a cgroup and of those below it.
///
/// # Errors
///
/// When the kernel refuses; before 5.14 there is no such file, and processes are killed in turn.
pub fn kill(root: &Path) -> Result<()> {
    match fs::write(root.join("cgroup.kill"), "1") {
        Err(error)
            if error.kind() == ErrorKind::NotFound
                || error.raw_os_error() == Some(libc::EACCES) =>
        {
            for pid in tree(root).iter().flat_map(|directory| processes(directory)) {
                // Gone in the meantime is as good.
                let _ = signal::kill(pid, Signal::SIGKILL);
            }
            Ok(())
        }
        result => result.with_context(|| format!("kill what is in {}", root.display())),
    }
}

/// Processes of one cgroup, without its children.
pub fn processes(directory: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.parse().ok())
        .map(Pid::from_raw)
        .collect()
}

/// `root` and all directories below, parents first; empty if there is none.
pub(super) fn tree(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = vec![root.to_path_buf()];
    while let Some(directory) = next.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        let children = entries
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        next.extend(children.map(|entry| entry.path()));
        found.push(directory);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mount_on_hybrid_and_ordinary_machines() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let ordinary = "sysfs /sys sysfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        let cases = [
            (hybrid, Some("/sys/fs/cgroup/unified")),
            (ordinary, Some("/sys/fs/cgroup")),
            ("", None),
        ];
        for (mounts, expected) in cases {
            assert_eq!(
                mount_point_in(mounts),
                expected.map(PathBuf::from),
                "{mounts}"
            );
        }
    }
}
