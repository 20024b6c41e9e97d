//! The mount namespace of a node: what the node's agent sees as `/run`, `/sys` and its cgroup root.
//!
//! A node has a private `/run` (a directory of the run, so that sockets and files in it can be
//! reached from outside too), a sysfs that shows its own interfaces, a bpffs of its own, and its
//! own cgroup as the only cgroup v2 mount, at `/sys/fs/cgroup` as on an ordinary node. All pins
//! and links made in there die with the namespace.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

use crate::namespace;

/// What a node's mount namespace is made of.
pub struct NodeMounts {
    /// Network namespace whose interfaces `/sys/class/net` shows.
    pub network: PathBuf,
    /// Directory that becomes `/run`.
    pub run: PathBuf,
    /// Directory of a cgroup v2 mount that becomes `/sys/fs/cgroup`.
    pub cgroup: PathBuf,
    /// Empty directory on the way of the cgroup mount.
    pub scratch: PathBuf,
}

impl NodeMounts {
    /// Makes the namespace and keeps it under the name `file`, which lies on a private mount.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a step; nothing of the namespace is left then.
    pub fn create(&self, file: &Path) -> Result<()> {
        File::create_new(file).with_context(|| format!("create {}", file.display()))?;
        let (made, wait_made) = mpsc::channel();
        let (kept, wait_kept) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                let result = self.enter_new().map(|()| gettid());
                let alive = result.is_ok();
                // The other side waits for exactly one message, so it cannot be gone.
                let _ = made.send(result);
                if alive {
                    // Ends with an error when the sender is dropped: both mean the name is made.
                    let _ = wait_kept.recv();
                }
            });
            let thread = wait_made
                .recv()
                .map_err(|_| anyhow!("the thread in it panicked"))??;
            let own = format!("/proc/self/task/{thread}/ns/mnt");
            let bound = mount(
                Some(own.as_str()),
                file,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            );
            drop(kept);
            bound.with_context(|| format!("bind {own} to {}", file.display()))
        })
    }

    fn enter_new(&self) -> Result<()> {
        namespace::enter(&self.network, None)?;
        unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .context("make mounts private")?;
        bind(&self.cgroup, &self.scratch)?;
        // Takes every cgroup mount of the machine along: the node must find its own only.
        umount2("/sys", MntFlags::MNT_DETACH).context("unmount /sys")?;
        mount(
            Some("sysfs"),
            "/sys",
            Some("sysfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .context("mount sysfs")?;
        mount(
            Some("bpf"),
            "/sys/fs/bpf",
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .context("mount bpffs on /sys/fs/bpf")?;
        let moved = MsFlags::MS_MOVE;
        mount(
            Some(&self.scratch),
            "/sys/fs/cgroup",
            None::<&str>,
            moved,
            None::<&str>,
        )
        .context("move the cgroup mount to /sys/fs/cgroup")?;
        bind(&self.run, Path::new("/run"))
    }
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("bind {} to {}", from.display(), to.display()))
}
