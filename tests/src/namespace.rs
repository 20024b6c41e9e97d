//! Network namespaces with names, as `ip netns` knows them.
//!
//! Invariant: a thread that entered a namespace never runs anything else. `setns` is per thread,
//! and a thread that were reused would carry the namespace to whoever comes next.

use std::fs::{self, File};
use std::panic;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Directory in which `ip netns` keeps its names.
pub const DIRECTORY: &str = "/run/netns";

/// Path that names the namespace `name`.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Makes the namespace `name` and runs `configure` in it before anyone else can see it.
///
/// # Errors
///
/// When the kernel refuses, the name is taken, or `configure` fails; the name is then free again.
pub fn create(name: &str, configure: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    prepare_directory()?;
    let path = path(name);
    File::create_new(&path).with_context(|| format!("create {}", path.display()))?;
    let made = on_own_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
        configure()?;
        let own = "/proc/thread-self/ns/net";
        mount(
            Some(own),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .with_context(|| format!("bind {own} to {}", path.display()))
    });
    if made.is_err() {
        // The name is ours and nothing is mounted on it, or the mount is what failed.
        let _ = fs::remove_file(&path);
    }
    made
}

/// Makes the directory of names a shared mount of its own, as `ip netns` does before it adds one:
/// done later, by anyone, that mount would cover the names made before.
fn prepare_directory() -> Result<()> {
    fs::create_dir_all(DIRECTORY).with_context(|| format!("create {DIRECTORY}"))?;
    let directory = File::open(DIRECTORY).with_context(|| format!("open {DIRECTORY}"))?;
    // Others do the same at the same time. The lock ends with the descriptor.
    let _lock = Flock::lock(directory, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("lock {DIRECTORY}"))?;
    let (none, shared) = (None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC);
    let bound = MsFlags::MS_BIND | MsFlags::MS_REC;
    if mount(none, DIRECTORY, none, shared, none).is_err() {
        mount(Some(DIRECTORY), DIRECTORY, none, bound, none)
            .and_then(|()| mount(none, DIRECTORY, none, shared, none))
            .with_context(|| format!("make {DIRECTORY} a shared mount"))?;
    }
    Ok(())
}

/// Removes the name `name`; the namespace goes with its last user. No error if there is none.
///
/// # Errors
///
/// When the name exists and cannot be removed.
pub fn remove(name: &str) -> Result<()> {
    let path = path(name);
    if !path.exists() {
        return Ok(());
    }
    // Not a mount point if its maker died between creating the file and binding it.
    let _ = umount2(&path, MntFlags::MNT_DETACH);
    fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
}

/// Runs `action` on a thread inside the namespaces behind the given files, and ends that thread.
///
/// Sockets and threads that `action` makes stay in the network namespace. A panic of `action`
/// continues in the caller.
///
/// # Errors
///
/// When a namespace cannot be entered; `action` did not run then.
pub fn run_inside<T: Send>(
    network: &Path,
    mounts: Option<&Path>,
    action: impl FnOnce() -> T + Send,
) -> Result<T> {
    on_own_thread(|| {
        enter(network, mounts)?;
        Ok(action())
    })
}

/// Moves the calling thread into the namespaces behind the given files, for the rest of its life.
///
/// # Errors
///
/// When a namespace cannot be entered.
pub fn enter(network: &Path, mounts: Option<&Path>) -> Result<()> {
    let file = File::open(network).with_context(|| format!("open {}", network.display()))?;
    let mounts =
        mounts.map(|path| File::open(path).with_context(|| format!("open {}", path.display())));
    let mounts = mounts.transpose()?;
    setns(&file, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("enter {}", network.display()))?;
    if let Some(mounts) = mounts {
        // The kernel lets nobody change its mounts while it shares a root directory.
        unshare(CloneFlags::CLONE_FS).context("take an own root directory")?;
        setns(&mounts, CloneFlags::CLONE_NEWNS).context("enter the mount namespace")?;
    }
    Ok(())
}

/// Runs `action` on a thread of its own and waits for it.
pub fn on_own_thread<T: Send>(action: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(action).join() {
        Ok(value) => value,
        Err(payload) => panic::resume_unwind(payload),
    })
}
