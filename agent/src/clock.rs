//! The kernel's monotonic time, and from there to the wall clock.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The distance between the two clocks at one moment.
///
/// The wall clock may be stepped or slewed, so an offset is only good for events of that moment:
/// take a new one for each batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset {
    wall_ns: u64,
    monotonic_ns: u64,
}

impl ClockOffset {
    /// Reads both clocks.
    pub fn now() -> nix::Result<Self> {
        Ok(Self {
            wall_ns: read_ns(ClockId::CLOCK_REALTIME)?,
            monotonic_ns: monotonic_ns()?,
        })
    }

    /// Nanoseconds since the Unix epoch at the moment of this offset.
    pub fn wall_ns(self) -> u64 {
        self.wall_ns
    }

    /// Nanoseconds since the Unix epoch for a reading of `CLOCK_MONOTONIC`.
    pub fn to_wall_ns(self, monotonic_ns: u64) -> u64 {
        let age_ns = self.monotonic_ns.saturating_sub(monotonic_ns);
        let ahead_ns = monotonic_ns.saturating_sub(self.monotonic_ns);
        self.wall_ns.saturating_sub(age_ns).saturating_add(ahead_ns)
    }
}

/// `CLOCK_MONOTONIC`, as the programs read it.
pub fn monotonic_ns() -> nix::Result<u64> {
    read_ns(ClockId::CLOCK_MONOTONIC)
}

fn read_ns(clock: ClockId) -> nix::Result<u64> {
    // Neither clock reads negative values or values beyond the year 2554.
    Ok(Duration::from(clock_gettime(clock)?).as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_and_later_readings_keep_their_distance() {
        let offset = ClockOffset {
            wall_ns: 1_000_000,
            monotonic_ns: 500,
        };
        for (monotonic, wall) in [(500, 1_000_000), (400, 999_900), (600, 1_000_100)] {
            assert_eq!(offset.to_wall_ns(monotonic), wall);
        }
        // Nonsense does not overflow.
        assert_eq!(offset.to_wall_ns(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_reading_of_now_is_now() {
        let before = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let offset = ClockOffset::now().unwrap();
        let wall = offset.to_wall_ns(offset.monotonic_ns);
        assert!(wall >= before.as_nanos() as u64);
        assert_eq!(wall, offset.wall_ns());
    }
}
