//! How often a step may be made: many changes in quick succession share one.

use std::time::{Duration, Instant};

/// A step that took some time is followed by so many times that time without one, so all steps
/// together take a tenth of a processor at most.
const REST: u32 = 9;

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
    pub fn took(&mut self, time: Duration) {
        self.not_before = Instant::now() + (time * REST).min(LONGEST);
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
        for (took, rest) in [(1, 9), (100, 900), (10_000, 5_000)] {
            pace.took(Duration::from_millis(took));
            let left = pace.not_before.duration_since(Instant::now());
            let rest = Duration::from_millis(rest);
            assert!(left <= rest, "{left:?}");
            assert!(left + Duration::from_millis(500) > rest, "{left:?}");
        }
    }
}
