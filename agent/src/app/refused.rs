//! Interfaces that could not be attached to, and when that is tried again. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::datapath::interfaces::{Interface, Role};

/// First pause after a failure; doubled up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_mins(1);

/// Those that should have programs and have none, or not all, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Refused {
    interfaces: BTreeMap<u32, Attempt>,
}

/// The last attempt at an interface.
#[derive(Debug)]
struct Attempt {
    interface: Interface,
    reason: String,
    /// From this attempt to the next one.
    pause: Duration,
    next: Instant,
}

impl Refused {
    /// An attempt failed now. True if it is the first, or failed otherwise than the one before.
    pub(super) fn failed(&mut self, interface: &Interface, reason: &str, now: Instant) -> bool {
        let before = self.interfaces.get(&interface.ifindex);
        let is_news = before.is_none_or(|before| before.reason != reason);
        let pause = before.map_or(RETRY_FIRST, |before| (before.pause * 2).min(RETRY_MAX));
        let attempt = Attempt {
            interface: interface.clone(),
            reason: reason.to_owned(),
            pause,
            next: now + pause,
        };
        self.interfaces.insert(interface.ifindex, attempt);
        is_news
    }

    /// An attempt succeeded, or the interface is gone.
    pub(super) fn forget(&mut self, ifindex: u32) {
        self.interfaces.remove(&ifindex);
    }

    /// Whether the last attempt at this one failed.
    pub(super) fn holds(&self, ifindex: u32) -> bool {
        self.interfaces.contains_key(&ifindex)
    }

    /// Whether an uplink is among them.
    pub(super) fn has_uplink(&self) -> bool {
        let mut attempts = self.interfaces.values();
        attempts.any(|attempt| attempt.interface.role == Role::Uplink)
    }

    /// Those to be tried again now.
    pub(super) fn due(&self, now: Instant) -> Vec<Interface> {
        let attempts = self.interfaces.values();
        let due = attempts.filter(|attempt| attempt.next <= now);
        due.map(|attempt| attempt.interface.clone()).collect()
    }

    /// How long nothing is to be tried again.
    pub(super) fn until_next(&self, now: Instant) -> Duration {
        let attempts = self.interfaces.values();
        let pauses = attempts.map(|attempt| attempt.next.saturating_duration_since(now));
        pauses.min().unwrap_or(Duration::MAX)
    }

    /// `NAME: REASON` of each.
    pub(super) fn texts(&self) -> Vec<String> {
        let attempts = self.interfaces.values();
        let text = |attempt: &Attempt| format!("{}: {}", attempt.interface.name, attempt.reason);
        attempts.map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::interfaces::MacAddr;

    fn interface(ifindex: u32, name: &str) -> Interface {
        Interface {
            ifindex,
            name: name.into(),
            role: Role::Uplink,
            mtu: 1500,
            mac: MacAddr::default(),
            is_veth: false,
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (mut refused, eth0) = (Refused::default(), interface(2, "eth0"));
        let mut now = Instant::now();
        assert_eq!(refused.until_next(now), Duration::MAX);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            refused.failed(&eth0, "busy", now);
            let pause = Duration::from_secs(seconds);
            assert_eq!(refused.until_next(now), pause);
            assert!(refused.due(now).is_empty());
            now += pause;
            assert!(refused.until_next(now).is_zero());
            assert_eq!(refused.due(now), std::slice::from_ref(&eth0));
        }
        refused.forget(2);
        refused.failed(&eth0, "busy", now);
        assert_eq!(refused.until_next(now), RETRY_FIRST, "it had succeeded");
    }

    #[test]
    fn each_interface_has_its_own_time() {
        let mut refused = Refused::default();
        let now = Instant::now();
        refused.failed(&interface(2, "eth0"), "busy", now);
        refused.failed(&interface(2, "eth0"), "busy", now);
        refused.failed(&interface(3, "eth1"), "busy", now);
        assert_eq!(refused.until_next(now), RETRY_FIRST);
        assert_eq!(refused.due(now + RETRY_FIRST), [interface(3, "eth1")]);
        assert_eq!(refused.due(now + RETRY_FIRST * 2).len(), 2);
    }

    #[test]
    fn what_is_told_is_the_last_attempt() {
        let mut refused = Refused::default();
        let now = Instant::now();
        assert!(refused.failed(&interface(2, "eth0"), "busy", now));
        assert!(!refused.failed(&interface(2, "eth0"), "busy", now));
        assert!(refused.failed(&interface(2, "lan0"), "not supported", now));
        assert_eq!(refused.texts(), ["lan0: not supported"]);
        assert!(refused.holds(2) && !refused.holds(3));
        refused.forget(2);
        assert!(refused.texts().is_empty() && !refused.holds(2));
    }
}
