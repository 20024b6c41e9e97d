//! How long to wait before the next attempt.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Bounds of the pauses.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// The first one.
    pub first: Duration,
    /// The longest one.
    pub longest: Duration,
}

/// Pauses that double from failure to failure, each drawn at random from its upper half, so that the
/// nodes of a cluster that lost its API server do not all come back at once.
#[derive(Debug)]
pub(super) struct Backoff {
    pauses: Pauses,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(pauses: Pauses) -> Self {
        Self {
            pauses,
            failures: 0,
        }
    }

    /// The pause after a failure.
    pub(super) fn next(&mut self) -> Duration {
        let factor = 1_u32 << self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let most = (self.pauses.first * factor).min(self.pauses.longest);
        most / 2 + jitter(most / 2)
    }

    /// Things went well for long enough that the next failure is a first one.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A time between nothing and `most`, at random.
pub(super) fn jitter(most: Duration) -> Duration {
    // Every `RandomState` has keys of its own: random enough to spread load.
    let random = RandomState::new().hash_one(()) >> 32;
    most.mul_f64(random as f64 / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_anew() {
        let pauses = Pauses {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(1),
        };
        let mut backoff = Backoff::new(pauses);
        for most in [100, 200, 400, 800, 1_000, 1_000] {
            let pause = backoff.next().as_millis();
            assert!((most / 2..=most).contains(&pause), "{pause} of {most}");
        }
        for _ in 0..100 {
            assert!(backoff.next() <= pauses.longest);
        }
        backoff.reset();
        assert!(backoff.next() <= pauses.first);
    }

    #[test]
    fn jitter_spreads() {
        let most = Duration::from_secs(1);
        let drawn: Vec<_> = (0..200).map(|_| jitter(most)).collect();
        assert!(drawn.iter().all(|time| *time <= most));
        assert!(drawn.iter().any(|time| *time < most / 4));
        assert!(drawn.iter().any(|time| *time > most * 3 / 4));
    }
}
