//! How often a step may be made: many changes in quick succession share one.

use std::time::{Duration, Instant};

/// A step that took some time is followed by so many times that time without one, so all steps
/// together take a tenth of a processor at most.
const REST: u32 = 9;

/// Likewise while a node changes its key: connections to it stand still until the step that sees the
/// new one in use.
const REST_DURING_ROTATION: u32 = 2;

/// No change waits longer, however long steps take.
const LONGEST: Duration = Duration::from_secs(5);

/// When the next step may be made.
pub(super) struct Pace {
    not_before: Instant,
}

impl Pace {
    /// At once.
    pub fn new() -> Self {
        Self {
            not_before: Instant::now(),
        }
    }

    /// A step has ended that took so long.
    pub fn took(&mut self, time: Duration, keys_change: bool) {
        let rest = if keys_change {
            REST_DURING_ROTATION
        } else {
            REST
        };
        self.not_before = Instant::now() + (time * rest).min(LONGEST);
    }

    /// Waits until the next one may be made; not at all after some quiet.
    pub async fn rest(&self) {
        tokio::time::sleep_until(self.not_before.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_take_a_tenth_of_a_processor_at_most() {
        let mut pace = Pace::new();
        let rows = [(1, false, 9), (100, false, 900), (10_000, false, 5_000)];
        for (took, keys_change, rest) in rows.into_iter().chain([(100, true, 200)]) {
            pace.took(Duration::from_millis(took), keys_change);
            let left = pace.not_before.duration_since(Instant::now());
            let rest = Duration::from_millis(rest);
            assert!(left <= rest, "{left:?}");
            assert!(left + Duration::from_millis(500) > rest, "{left:?}");
        }
    }
}
