//! The ring buffer, as the flow reader sees it.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Reads `EVENTS`. A new agent goes on where the one before it stopped: the kernel keeps the
/// reader's position with the map.
pub struct Events {
    ring: RingBuf<MapData>,
}

impl Events {
    /// Takes over the map.
    pub fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// Waits until there is a record or the time is over. True if there is one.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut ready, timeout)? > 0)
    }

    /// Hands over the records that are there, up to a number. Returns how many there were.
    pub fn drain(&mut self, limit: usize, mut record: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < limit {
            let Some(item) = self.ring.next() else { break };
            record(&item);
            count += 1;
        }
        count
    }
}
