//! Whether nodes answer, judged by their handshakes. Pure.
//!
//! WireGuard shakes hands again every two minutes while there is something to send, and sends nothing
//! with keys older than three. A node that is being sent to with keys older than that does not
//! answer; a node that nobody sends to is only silent.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Age at which a session is no longer used (`Reject-After-Time` of the WireGuard paper, section 6).
const REJECT_AFTER: Duration = Duration::from_mins(3);
/// Allowance for what was sent with the last of the session and is counted late.
const GRACE: Duration = Duration::from_secs(10);
/// How long a handshake may take: two attempts, five seconds apart.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of a node by its handshakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handshake {
    /// There was none, and nothing to send.
    #[default]
    None,
    /// There is a session.
    Fresh,
    /// The last session has ended, and nothing was sent since.
    Idle,
    /// There was none, though there is something to send: it does not answer.
    Never,
    /// The last session has ended, and it does not answer to a new handshake.
    Stale,
}

impl Handshake {
    /// All of them with the names that users see.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::None, "none"),
        (Self::Fresh, "fresh"),
        (Self::Idle, "idle"),
        (Self::Never, "never"),
        (Self::Stale, "stale"),
    ];

    /// The name that users see.
    pub fn name(self) -> &'static str {
        let mut all = Self::ALL.iter();
        all.find(|(handshake, _)| *handshake == self)
            .map_or("", |(_, name)| name)
    }

    /// Whether packets wait for a node that does not answer.
    pub fn is_unanswered(self) -> bool {
        matches!(self, Self::Never | Self::Stale)
    }
}

/// What is remembered of nodes from one look to the next.
#[derive(Clone, Debug, Default)]
pub struct HandshakeWatch {
    nodes: BTreeMap<String, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Bytes sent to it.
    sent_bytes: u64,
    /// When something was first sent to it without a session.
    unanswered_since: Option<SystemTime>,
}

impl HandshakeWatch {
    /// Judges one node by its last handshake and by all bytes that were ever for it, of which only
    /// the growth counts. One that `is_called` should answer without any.
    pub fn judge(
        &mut self,
        node: &str,
        last: Option<SystemTime>,
        sent_bytes: u64,
        is_called: bool,
        now: SystemTime,
    ) -> Handshake {
        // A time to come is that of a clock that was set back since.
        let age = last.map(|last| now.duration_since(last).unwrap_or_default());
        let has_session = age.is_some_and(|age| age <= REJECT_AFTER + GRACE);
        let Some(seen) = self.nodes.get_mut(node) else {
            let seen = Seen {
                sent_bytes,
                unanswered_since: None,
            };
            self.nodes.insert(node.to_owned(), seen);
            return match last {
                _ if has_session => Handshake::Fresh,
                Some(_) => Handshake::Idle,
                None => Handshake::None,
            };
        };
        let sends = is_called || sent_bytes > seen.sent_bytes;
        seen.sent_bytes = sent_bytes;
        if has_session {
            seen.unanswered_since = None;
            return Handshake::Fresh;
        }
        if sends {
            seen.unanswered_since.get_or_insert(now);
        }
        let unanswered = seen
            .unanswered_since
            .and_then(|since| now.duration_since(since).ok())
            .is_some_and(|waited| waited >= PATIENCE);
        match (last, unanswered) {
            (None, false) => Handshake::None,
            (None, true) => Handshake::Never,
            (Some(_), false) => Handshake::Idle,
            (Some(_), true) => Handshake::Stale,
        }
    }

    /// Forgets nodes that are gone.
    pub fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.nodes.retain(|node, _| is_there(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at one node: seconds of the look, second of its last handshake, bytes sent to it.
    fn look(watch: &mut HandshakeWatch, now: u64, last: Option<u64>, sent: u64) -> Handshake {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        watch.judge("node", last.map(at), sent, false, at(now))
    }

    #[test]
    fn a_session_is_fresh_for_three_minutes() {
        let mut watch = HandshakeWatch::default();
        assert_eq!(look(&mut watch, 1_000, Some(1_000), 0), Handshake::Fresh);
        assert_eq!(look(&mut watch, 1_190, Some(1_000), 10), Handshake::Fresh);
        assert_eq!(look(&mut watch, 1_191, Some(1_000), 10), Handshake::Idle);
        // A clock that was set back.
        assert_eq!(look(&mut watch, 900, Some(1_000), 10), Handshake::Fresh);
    }

    #[test]
    fn silence_is_no_reason_to_worry() {
        let mut watch = HandshakeWatch::default();
        for now in [0, 1_000, 100_000] {
            assert_eq!(look(&mut watch, now, None, 500), Handshake::None);
        }
        for now in [200_000, 300_000] {
            assert_eq!(look(&mut watch, now, Some(100_001), 500), Handshake::Idle);
        }
    }

    #[test]
    fn what_is_sent_without_an_answer_is_told_after_a_while() {
        let mut watch = HandshakeWatch::default();
        assert_eq!(look(&mut watch, 1_000, Some(1), 0), Handshake::Idle);
        assert_eq!(look(&mut watch, 1_002, Some(1), 148), Handshake::Idle);
        assert_eq!(look(&mut watch, 1_011, Some(1), 296), Handshake::Idle);
        assert_eq!(look(&mut watch, 1_012, Some(1), 444), Handshake::Stale);
        // WireGuard has given up; the node is not known to be better.
        assert_eq!(look(&mut watch, 2_000, Some(1), 444), Handshake::Stale);
        assert_eq!(look(&mut watch, 2_002, Some(2_001), 600), Handshake::Fresh);
    }

    #[test]
    fn a_node_that_never_answered_is_told_apart() {
        let mut watch = HandshakeWatch::default();
        assert_eq!(look(&mut watch, 0, None, 0), Handshake::None);
        assert_eq!(look(&mut watch, 5, None, 148), Handshake::None);
        assert_eq!(look(&mut watch, 15, None, 148), Handshake::Never);
    }

    #[test]
    fn a_node_that_is_called_in_vain_is_told_without_traffic() {
        let mut watch = HandshakeWatch::default();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut called = |now| watch.judge("node", None, 0, true, at(now));
        let seen = [0, 2, 11, 12].map(&mut called);
        assert_eq!(seen[..3], [Handshake::None; 3]);
        assert_eq!(seen[3], Handshake::Never);
    }

    #[test]
    fn a_node_that_comes_back_is_judged_anew() {
        let mut watch = HandshakeWatch::default();
        look(&mut watch, 0, None, 0);
        look(&mut watch, 5, None, 1);
        watch.keep(|_| false);
        assert_eq!(look(&mut watch, 60, None, 9), Handshake::None);
    }
}
