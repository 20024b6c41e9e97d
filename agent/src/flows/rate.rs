//! Flows per second over the last minute.

/// Seconds that the rate looks back.
const WINDOW: u64 = 60;

/// Counts per second of the last minute.
#[derive(Debug)]
pub struct RateMeter {
    counts: [u64; WINDOW as usize],
    started_s: u64,
    /// Newest second that `counts` covers.
    newest_s: u64,
}

impl RateMeter {
    /// An empty meter. All times are seconds of one clock that never goes back.
    pub fn new(now_s: u64) -> Self {
        Self {
            counts: [0; WINDOW as usize],
            started_s: now_s,
            newest_s: now_s,
        }
    }

    /// Counts events of this second.
    pub fn add(&mut self, now_s: u64, events: u64) {
        self.advance(now_s);
        self.counts[(self.newest_s % WINDOW) as usize] += events;
    }

    /// Events per second over the last minute, or since the start if that is less.
    pub fn per_second(&mut self, now_s: u64) -> f64 {
        self.advance(now_s);
        let span = (self.newest_s - self.started_s + 1).min(WINDOW);
        self.counts.iter().sum::<u64>() as f64 / span as f64
    }

    fn advance(&mut self, now_s: u64) {
        for second in (self.newest_s + 1..=now_s).take(WINDOW as usize) {
            self.counts[(second % WINDOW) as usize] = 0;
        }
        self.newest_s = self.newest_s.max(now_s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_over_the_uptime_first_and_over_a_minute_then() {
        let mut meter = RateMeter::new(100);
        for second in 100..110 {
            meter.add(second, 5);
        }
        assert!((meter.per_second(109) - 5.0).abs() < 1e-9);
        for second in 110..300 {
            meter.add(second, 7);
        }
        assert!((meter.per_second(299) - 7.0).abs() < 1e-9);
    }

    #[test]
    fn silence_ages_out_however_long_it_lasts() {
        for silence in [60, 61, 119, 120, 100_000] {
            let mut meter = RateMeter::new(0);
            (0..60).for_each(|second| meter.add(second, 60));
            assert!((meter.per_second(59 + silence)).abs() < 1e-9, "{silence}");
        }
        let mut meter = RateMeter::new(0);
        (0..60).for_each(|second| meter.add(second, 60));
        assert!((meter.per_second(89) - 30.0).abs() < 1e-9);
    }
}
