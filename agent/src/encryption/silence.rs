//! Peers that packets are sent to and that do not answer. Pure.
//!
//! A node may publish a key that it does not have, or have another secret, or be unreachable: its
//! packets go into the tunnel and nowhere else. WireGuard says nothing of it; this does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use super::key::PublicKey;

/// Life of a session (`REJECT_AFTER_TIME` of the protocol): for so long no answer is due.
const SESSION: Duration = Duration::from_mins(3);
/// How long an answer may take: the second attempt is made after five seconds.
const PATIENCE: Duration = Duration::from_secs(8);

/// What is known of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// End of the last handshake.
    pub last_handshake: Option<SystemTime>,
    /// Packets encrypted for it, ever.
    pub packets: u64,
}

/// Since when peers have been silent.
#[derive(Debug, Default)]
pub struct Silence(BTreeMap<PublicKey, Watched>);

#[derive(Debug)]
struct Watched {
    seen: Seen,
    waiting_since: Option<Instant>,
}

/// Whether a session may have ended, and with it the time of silence begun.
pub fn is_without_session(last_handshake: Option<SystemTime>, now: SystemTime) -> bool {
    let age = last_handshake.map(|time| now.duration_since(time).unwrap_or_default());
    age.is_none_or(|age| age >= SESSION)
}

impl Silence {
    /// Takes a look at the peers that are without a session, and returns those that ought to have
    /// answered.
    pub fn look(&mut self, peers: &BTreeMap<PublicKey, Seen>, now: Instant) -> Vec<PublicKey> {
        self.0.retain(|key, _| peers.contains_key(key));
        let mut silent = Vec::new();
        for (key, seen) in peers {
            let watched = self.0.entry(*key).or_insert(Watched {
                seen: *seen,
                waiting_since: None,
            });
            if watched.seen.last_handshake != seen.last_handshake {
                watched.waiting_since = None;
            } else if watched.seen.packets != seen.packets {
                watched.waiting_since.get_or_insert(now);
            }
            watched.seen = *seen;
            let waiting = watched.waiting_since.map(|since| now.duration_since(since));
            if waiting.is_some_and(|waiting| waiting >= PATIENCE) {
                silent.push(*key);
            }
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::key::PrivateKey;

    fn seen(handshake: Option<u64>, packets: u64) -> Seen {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Seen {
            last_handshake: handshake.map(at),
            packets,
        }
    }

    #[test]
    fn only_who_is_sent_to_and_does_not_answer_is_silent() {
        let key = PrivateKey::generate().public();
        let start = Instant::now();
        let mut silence = Silence::default();
        let mut look = |second, seen| {
            let peers = BTreeMap::from([(key, seen)]);
            silence.look(&peers, start + Duration::from_secs(second)) == [key]
        };
        assert!(!look(0, seen(None, 0)));
        assert!(!look(100, seen(None, 0)), "nothing was sent");
        assert!(!look(101, seen(None, 3)), "it has just been sent to");
        assert!(!look(108, seen(None, 9)));
        assert!(look(109, seen(None, 9)));
        assert!(look(300, seen(None, 9)), "it still owes an answer");
        assert!(!look(301, seen(Some(1), 12)), "it has answered");
        assert!(!look(400, seen(Some(1), 12)));
    }

    #[test]
    fn no_answer_is_due_while_a_session_lives() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(is_without_session(None, at(0)));
        assert!(!is_without_session(Some(at(0)), at(179)));
        assert!(is_without_session(Some(at(0)), at(180)));
        assert!(!is_without_session(Some(at(9)), at(0)), "clocks go back");
    }
}
