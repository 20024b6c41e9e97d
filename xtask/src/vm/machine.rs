//! One QEMU process, from boot to power-off, and never longer.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use crate::process::{self, End};
use crate::vm::emulator::Emulator;

/// Log of the first serial port: the kernel and the first process.
pub const CONSOLE: &str = "console.log";

/// Log of the second serial port: the suites.
pub const RESULTS: &str = "results.log";

/// How a machine came to rest.
#[derive(Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It powered itself off.
    PoweredOff,
    /// The kernel gave up, saying this.
    Panicked(String),
    /// It was killed after this time.
    TimedOut(Duration),
}

/// What the time of a machine goes by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Clock {
    /// The time outside: fast, and as uneven as whatever else runs there.
    Outside,
    /// The instructions that the machine has executed, a nanosecond for each; idle time passes at once.
    /// What is measured then differs little from one time to the next, and the emulation of an instruction may take as
    /// long as it likes.
    Instructions,
}

impl Clock {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Outside => &["-accel", "tcg,thread=multi"],
            Self::Instructions => &[
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=0,sleep=off",
            ],
        }
    }
}

/// What a kernel prints when it is beyond rescue.
const PANIC_MARKERS: [&str; 6] = [
    "Kernel panic",
    "Oops: ",
    "kernel BUG at",
    "BUG: kernel NULL pointer dereference",
    "BUG: unable to handle",
    "general protection fault",
];

/// Everything that QEMU can emulate but the fast string instructions: it copies and clears memory
/// byte by byte with them, which makes the verifier three times as slow.
const CPU: &str = "max,-erms,-fsrm";

/// Boots a kernel; both logs lie in `folder` afterwards.
pub fn boot(
    emulator: &Emulator,
    kernel: &Path,
    initramfs: &Path,
    folder: &Path,
    clock: Clock,
    limit: Duration,
) -> anyhow::Result<Verdict> {
    let results = folder.join(RESULTS);
    fs::write(&results, b"").with_context(|| format!("cannot write {}", results.display()))?;
    let mut console = File::create(folder.join(CONSOLE)).context("cannot log the console")?;
    let mut panicked = None;
    let mut command = command(emulator, kernel, initramfs, &results);
    command.args(clock.arguments());
    let end = process::follow(&mut command, limit, |line| {
        // A log that cannot be written must not end the run it describes.
        let _ = writeln!(console, "{line}");
        if is_panic(line) {
            panicked = Some(line.trim().to_owned());
        }
        panicked.is_none()
    })?;
    Ok(match (end, panicked) {
        (_, Some(line)) => Verdict::Panicked(line),
        (End::TimedOut, None) => Verdict::TimedOut(limit),
        (End::Exited(status), None) => {
            anyhow::ensure!(status.success(), "qemu failed ({status})");
            Verdict::PoweredOff
        }
        (End::Stopped, None) => anyhow::bail!("qemu was stopped without a reason"),
    })
}

fn command(emulator: &Emulator, kernel: &Path, initramfs: &Path, results: &Path) -> Command {
    let mut command = emulator.command();
    command
        .args(["-cpu", CPU, "-smp", "1", "-m", "3G"])
        .args(["-nodefaults", "-no-reboot", "-display", "none"])
        .args([
            "-serial",
            "stdio",
            "-serial",
            &format!("file:{}", results.display()),
        ])
        .args([
            "-append",
            "console=ttyS0 quiet loglevel=4 panic=-1 tsc=reliable rcupdate.rcu_expedited=1",
        ])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs);
    command
}

fn is_panic(line: &str) -> bool {
    PANIC_MARKERS.iter().any(|marker| line.contains(marker))
}

#[cfg(test)]
mod tests {
    use super::is_panic;

    #[test]
    fn panics_are_told_from_complaints() {
        for (line, expected) in [
            (
                "[    1.2] Kernel panic - not syncing: Attempted to kill init!",
                true,
            ),
            (
                "[    3.4] BUG: kernel NULL pointer dereference, address: 0000000000000010",
                true,
            ),
            (
                "[    3.4] general protection fault, probably for non-canonical address",
                true,
            ),
            (
                "[    9.9] watchdog: BUG: soft lockup - CPU#1 stuck for 22s!",
                false,
            ),
            (
                "[    9.9] wireguard: loading out-of-tree module taints kernel.",
                false,
            ),
        ] {
            assert_eq!(is_panic(line), expected, "{line}");
        }
    }
}
