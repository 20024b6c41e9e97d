//! How often work may be done that changes ask for: many in quick succession share one time.

use std::time::{Duration, Instant};

/// When work may be done next.
#[derive(Debug)]
pub struct Pace {
    share: u32,
    longest: Duration,
    not_before: Instant,
}

impl Pace {
    /// At once, and in the long run for one part in `share` of a processor's time. No change waits
    /// longer than `longest`, however long the work takes.
    pub fn at_most(share: u32, longest: Duration) -> Self {
        Self {
            share,
            longest,
            not_before: Instant::now(),
        }
    }

    /// Work was done that took so long: it is followed by as much time without any as makes its
    /// share.
    pub fn took(&mut self, time: Duration) {
        let rest = time.saturating_mul(self.share.saturating_sub(1));
        self.not_before = Instant::now() + rest.min(self.longest);
    }

    /// Waits until it may be done again; not at all after some quiet.
    pub async fn rest(&self) {
        tokio::time::sleep_until(self.not_before.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_its_share_of_a_processor_at_most() {
        let mut pace = Pace::at_most(10, Duration::from_secs(5));
        for (took, rest) in [(1, 9), (100, 900), (10_000, 5_000)] {
            pace.took(Duration::from_millis(took));
            let left = pace.not_before.duration_since(Instant::now());
            let rest = Duration::from_millis(rest);
            assert!(left <= rest, "{left:?}");
            assert!(left + Duration::from_millis(500) > rest, "{left:?}");
        }
    }
}
