//! Where a command or a closure runs: a network namespace, perhaps a mount namespace, a cgroup.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use crate::namespace;

/// A member of a cluster as a place to run things in.
#[derive(Clone, Debug)]
pub struct Place {
    name: String,
    network: PathBuf,
    mounts: Option<PathBuf>,
    cgroup: PathBuf,
}

impl Place {
    /// The place `name` made of the namespace files `network` and `mounts` and a cgroup directory.
    pub fn new(name: &str, network: PathBuf, mounts: Option<PathBuf>, cgroup: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            network,
            mounts,
            cgroup,
        }
    }

    /// Name of the member.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// File that names the network namespace.
    pub fn network(&self) -> &Path {
        &self.network
    }

    /// Cgroup directory of the processes started here.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// This place with the processes in the cgroup `child` of its own one, which must exist.
    #[must_use]
    pub fn in_cgroup(&self, child: &str) -> Self {
        Self {
            cgroup: self.cgroup.join(child),
            ..self.clone()
        }
    }

    /// Runs `action` on a thread in the namespaces of this place, and ends the thread.
    ///
    /// Only processes have a cgroup, so socket hooks of an agent do not see what `action` does:
    /// start a [`Place::command`] where that matters.
    ///
    /// # Errors
    ///
    /// When the namespaces cannot be entered.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T> {
        namespace::run_inside(&self.network, self.mounts.as_deref(), action)
            .with_context(|| format!("enter {}", self.name))
    }

    /// A command that will run here, to be set up further and started by the caller.
    ///
    /// # Errors
    ///
    /// When the place no longer exists.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let open = |path: &Path| {
            File::open(path).with_context(|| format!("{}: open {}", self.name, path.display()))
        };
        let network = open(&self.network)?;
        let mounts = self.mounts.as_deref().map(open).transpose()?;
        let procs = self.cgroup.join("cgroup.procs");
        let cgroup = OpenOptions::new()
            .write(true)
            .open(&procs)
            .with_context(|| format!("{}: open {}", self.name, procs.display()))?;
        let mut command = Command::new(program);
        let enter = move || enter_child(&network, mounts.as_ref(), &cgroup);
        // SAFETY: the closure makes system calls on descriptors opened before the fork and
        // allocates nothing, as code between fork and exec must.
        unsafe { command.pre_exec(enter) };
        Ok(command)
    }

    /// Runs a command here to its end and returns what it wrote to standard output.
    ///
    /// # Errors
    ///
    /// When it cannot be started or fails; the text holds what it wrote to standard error.
    pub fn output<S: AsRef<OsStr>>(&self, program: &str, args: &[S]) -> Result<String> {
        let mut command = self.command(program)?;
        command.args(args).stdin(Stdio::null());
        let output = command
            .output()
            .with_context(|| format!("{}: start {program}", self.name))?;
        self.text_of(program, &output)
    }

    /// Runs `ip` here with these words.
    ///
    /// # Errors
    ///
    /// When it fails; the text says why.
    pub fn ip(&self, words: &str) -> Result<()> {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.output("ip", &words).map(drop)
    }

    /// Makes a private key of WireGuard in the file `path` of this place, and returns the public one.
    ///
    /// # Errors
    ///
    /// When `wg` cannot be run.
    pub fn make_wireguard_key(&self, path: &str) -> Result<String> {
        let script = format!("umask 077; wg genkey > {path}; wg pubkey < {path}");
        let key = self.output("sh", &["-c", &script]);
        Ok(key.context("make a WireGuard key")?.trim().to_owned())
    }

    /// Standard output of a finished command, if it succeeded.
    ///
    /// # Errors
    ///
    /// When it failed; the text holds its standard error.
    pub fn text_of(&self, program: &str, output: &Output) -> Result<String> {
        let stdout = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!(
                "{}: {program} failed ({}): {}{}",
                self.name,
                output.status,
                stderr.trim(),
                stdout
            );
        }
        Ok(stdout.into_owned())
    }
}

/// Moves the calling process, just forked, to its place.
fn enter_child(network: &File, mounts: Option<&File>, cgroup: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open and the buffer is one readable byte.
    if unsafe { libc::write(cgroup.as_raw_fd(), b"0".as_ptr().cast(), 1) } != 1 {
        return Err(io::Error::last_os_error());
    }
    setns(network, CloneFlags::CLONE_NEWNET)?;
    if let Some(mounts) = mounts {
        setns(mounts, CloneFlags::CLONE_NEWNS)?;
    }
    Ok(())
}
