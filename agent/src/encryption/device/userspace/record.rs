//! Which process serves a device: its number and when it began. Numbers are used again, so the
//! second tells whether a process is still the same one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::encryption::InterfaceName;

/// A process of this boot.
#[expect(
    clippy::unsafe_derive_deserialize,
    reason = "the system calls are sound for every number; that it is the right one is checked"
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number.
    pid: i32,
    /// When it began, in the kernel's ticks since the machine started.
    started: u64,
    /// Which start of the machine.
    boot: String,
}

impl Record {
    /// The record of a process that runs.
    pub fn of(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        Ok(Self {
            pid,
            started: start_of(pid)?,
            boot: boot()?,
        })
    }

    /// The record of a device's process, if there is one.
    ///
    /// # Errors
    /// Also if it cannot be understood; it is not removed then.
    pub fn read(name: &InterfaceName, folder: &Path) -> io::Result<Option<Self>> {
        match fs::read(path(name, folder)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it at once or not at all.
    pub fn write(&self, name: &InterfaceName, folder: &Path) -> io::Result<()> {
        let unfinished = folder.join(format!("wireguard-{name}.new"));
        let mut file = File::create(&unfinished)?;
        serde_json::to_writer(&mut file, self)?;
        file.flush()?;
        fs::rename(unfinished, path(name, folder))
    }

    /// Removes the record of a device's process, and its log.
    pub fn remove(name: &InterfaceName, folder: &Path) -> io::Result<()> {
        for path in [path(name, folder), log_path(name, folder)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the process runs.
    pub fn is_running(&self) -> bool {
        matches!(self.open(), Ok(Some(_)))
    }

    /// Ends the process, kindly at first, and waits until it is gone. Another process that has got
    /// its number is left alone.
    pub fn stop(&self, patience: Duration) -> io::Result<()> {
        let Some(process) = self.open()? else {
            return Ok(());
        };
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            send(&process, signal)?;
            if ends_within(&process, patience)? {
                return Ok(());
            }
        }
        Err(io::Error::from_raw_os_error(libc::ETIMEDOUT))
    }

    /// A handle on the process: it names this one and no other, whatever happens to the number.
    fn open(&self) -> io::Result<Option<OwnedFd>> {
        if boot()? != self.boot {
            return Ok(None);
        }
        // SAFETY: the call takes two numbers and returns a new descriptor or -1.
        let process = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) };
        if process == -1 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ESRCH) => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: the descriptor is new and nobody else has it.
        let process = unsafe { OwnedFd::from_raw_fd(process as i32) };
        // Looked at after the handle was opened, so it is about the process of the handle.
        let same = start_of(self.pid).is_ok_and(|started| started == self.started);
        let ended = ends_within(&process, Duration::ZERO)?;
        Ok((same && !ended).then_some(process))
    }
}

fn send(process: &OwnedFd, signal: Signal) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    let number = signal as libc::c_int;
    // SAFETY: the descriptor is open; without a `siginfo` the kernel fills in its own.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            number,
            none,
            0,
        )
    };
    match io::Error::last_os_error() {
        error if sent == -1 && error.raw_os_error() != Some(libc::ESRCH) => Err(error),
        _ => Ok(()),
    }
}

fn ends_within(process: &OwnedFd, patience: Duration) -> io::Result<bool> {
    let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    Ok(poll(&mut polled, patience)? > 0)
}

/// When a process began: the 22nd word of its `stat`, counted behind the name, which may hold
/// anything.
fn start_of(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest);
    let started = after_name.and_then(|rest| rest.split_whitespace().nth(19)?.parse().ok());
    started.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no start in the stat file"))
}

fn boot() -> io::Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(id.trim().to_owned())
}

fn path(name: &InterfaceName, folder: &Path) -> PathBuf {
    folder.join(format!("wireguard-{name}.json"))
}

fn log_path(name: &InterfaceName, folder: &Path) -> PathBuf {
    folder.join(format!("wireguard-{name}.log"))
}

/// The file for what the process has to say, empty.
pub fn open_log(name: &InterfaceName, folder: &Path) -> io::Result<File> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(log_path(name, folder))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A process that waits to be ended.
    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            let mut command = Command::new("sleep");
            Self(command.arg("60").spawn().expect("sleep is installed"))
        }

        fn record(&self) -> Record {
            Record::of(self.0.id()).expect("it runs")
        }

        fn has_ended(&mut self) -> bool {
            self.0.try_wait().expect("ours").is_some()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ended_already = self.0.kill();
            let _told_before = self.0.wait();
        }
    }

    #[test]
    fn a_process_is_ended_and_found_to_be_gone() {
        let mut sleeper = Sleeper::start();
        let record = sleeper.record();
        assert!(record.is_running());
        record.stop(Duration::from_secs(10)).expect("ended");
        assert!(!record.is_running(), "a zombie does not run");
        assert!(sleeper.has_ended());
        record.stop(Duration::from_secs(10)).expect("nothing to do");
    }

    #[test]
    fn a_process_that_got_the_number_of_another_is_not_hit() {
        let mut sleeper = Sleeper::start();
        let record = sleeper.record();
        for other in [
            Record {
                started: record.started - 1,
                ..record.clone()
            },
            Record {
                boot: "another boot".to_owned(),
                ..record.clone()
            },
        ] {
            assert!(!other.is_running());
            other.stop(Duration::from_secs(10)).expect("nothing to do");
        }
        assert!(record.is_running() && !sleeper.has_ended());
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let name: InterfaceName = "weir0".parse().expect("valid");
        assert_eq!(Record::read(&name, folder.path()).expect("none"), None);
        let record = Record::of(std::process::id()).expect("we run");
        record.write(&name, folder.path()).expect("written");
        let read = Record::read(&name, folder.path()).expect("read");
        assert_eq!(read, Some(record));
        fs::write(path(&name, folder.path()), "{").expect("ours");
        Record::read(&name, folder.path()).expect_err("damaged");
        Record::remove(&name, folder.path()).expect("removed");
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 0);
    }
}
