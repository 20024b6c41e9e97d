//! `weir encrypt`: is it encrypted, with whom, did anything leave in clear text, and a new key.

mod peers;
mod report;
mod rotate;
mod status;

use std::io::Write;
use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use weir_proto::admin::{EncryptionBackend, HandshakeState};

use crate::args::EncryptCommand;
use crate::connect::Server;
use crate::failure::Failure;
use crate::output::{Hue, Paint};
use crate::status::span;

pub(crate) use report::ReportArgs;
pub(crate) use rotate::RotateArgs;

pub(crate) async fn run(
    server: &Server,
    command: EncryptCommand,
    paint: Paint,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    match command {
        EncryptCommand::Status(args) => status::run(server, &args, paint, out).await,
        EncryptCommand::Peers(args) => peers::run(server, &args, paint, out).await,
        EncryptCommand::Report(args) => report::run(server, &args, paint, out).await,
        EncryptCommand::RotateKey(args) => rotate::run(server, &args, paint, out).await,
    }
}

/// `kernel` or `userspace`.
pub(crate) fn backend(backend: EncryptionBackend) -> &'static str {
    match backend {
        EncryptionBackend::Kernel => "kernel",
        EncryptionBackend::Userspace => "userspace",
        EncryptionBackend::Unspecified => "not there yet",
    }
}

/// How long ago a time was; nothing for one that is not set.
fn ago(time: Option<&Timestamp>, now: SystemTime) -> Option<String> {
    let age = now.duration_since(at(time)?).unwrap_or_default();
    Some(format!("{} ago", seconds(age)))
}

/// How long there is until a time; none if it has passed.
fn until(time: Option<&Timestamp>, now: SystemTime) -> Option<String> {
    let left = at(time)?.duration_since(now).ok()?;
    Some(seconds(left))
}

fn at(time: Option<&Timestamp>) -> Option<SystemTime> {
    SystemTime::try_from(*time?).ok()
}

fn seconds(duration: Duration) -> String {
    span(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
}

/// What the last handshake says, with a colour where it says that something is wrong.
fn handshake(
    state: HandshakeState,
    last: Option<&Timestamp>,
    now: SystemTime,
    paint: Paint,
) -> String {
    let age = ago(last, now).unwrap_or_else(|| "none".to_owned());
    match state {
        HandshakeState::Fresh => age,
        HandshakeState::Unspecified => "none yet".to_owned(),
        HandshakeState::Idle => format!("{age}, idle"),
        HandshakeState::Never => paint.paint(Hue::Red, "NEVER, does not answer"),
        HandshakeState::Stale => paint.paint(Hue::Red, &format!("{age}, DOES NOT ANSWER")),
    }
}

/// Bytes as people read them: `512 B`, `1.5 KiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter().copied();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_handshake_that_is_missed_stands_out() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let last = Timestamp {
            seconds: 700,
            nanos: 0,
        };
        let shown = |state, last| handshake(state, last, now, Paint::new(false));
        assert_eq!(shown(HandshakeState::Fresh, Some(&last)), "5m0s ago");
        assert_eq!(shown(HandshakeState::Unspecified, None), "none yet");
        assert_eq!(shown(HandshakeState::Idle, Some(&last)), "5m0s ago, idle");
        assert!(shown(HandshakeState::Stale, Some(&last)).contains("DOES NOT ANSWER"));
        assert!(shown(HandshakeState::Never, None).contains("NEVER"));
        let coloured = handshake(HandshakeState::Never, None, now, Paint::new(true));
        assert!(coloured.starts_with("\x1b[31m"));
    }
}
