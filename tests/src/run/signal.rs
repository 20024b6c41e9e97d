//! Ctrl-C and SIGTERM remove the runs of this process before it ends.
//!
//! The handler itself only writes the number of the signal into a pipe; a thread does the work.

use std::fs::File;
use std::io::Read;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{OnceLock, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::unistd::pipe2;

use super::{CHANGING, Record, live};

/// Writing end of the pipe, -1 before [`install`].
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// Installs the handler once per process.
pub fn install() -> Result<()> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let done = DONE.get_or_init(|| install_once().map_err(|error| format!("{error:#}")));
    done.clone()
        .map_err(|text| anyhow!("install the signal handler: {text}"))
}

fn install_once() -> Result<()> {
    let (reader, writer): (OwnedFd, OwnedFd) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
    // Stays open for the life of the process: a signal may come at any time.
    PIPE.store(writer.into_raw_fd(), Ordering::SeqCst);
    thread::Builder::new()
        .name("cluster-removal".into())
        .spawn(move || remove_on_signal(File::from(reader)))
        .context("start a thread")?;
    let action = SigAction::new(
        SigHandler::Handler(on_signal),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler makes one `write` call, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("handle {signal}"))?;
    }
    Ok(())
}

extern "C" fn on_signal(number: libc::c_int) {
    // Signals are numbered from 1 to 64.
    let byte = number.cast_unsigned() as u8;
    // SAFETY: the buffer is one readable byte; a bad descriptor is an error, which is ignored
    // since a handler could do nothing about it.
    unsafe { libc::write(PIPE.load(Ordering::SeqCst), (&raw const byte).cast(), 1) };
}

fn remove_on_signal(mut pipe: File) {
    let mut byte = [0];
    if pipe.read_exact(&mut byte).is_err() {
        return;
    }
    // Until the process ends: nothing is built or removed by others any more.
    let _only_here = CHANGING.write().unwrap_or_else(PoisonError::into_inner);
    for id in live() {
        eprintln!("removing cluster {id}");
        if let Err(error) = Record::read(&id).and_then(|record| record.remove()) {
            eprintln!("{error:#}");
        }
    }
    end_by(i32::from(byte[0]));
}

/// Ends the process as the signal would have without a handler.
fn end_by(number: i32) {
    if let Ok(signal) = Signal::try_from(number) {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: restores the default action and runs no code of ours.
        if unsafe { sigaction(signal, &default) }.is_ok() {
            let _ = raise(signal);
        }
    }
    std::process::exit(128 + number);
}
