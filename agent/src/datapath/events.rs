//! The ring buffer, as the flow reader sees it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{Array, MapData, RingBuf};
use ebpf_abi::Counter;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::counters::Counters;
use crate::flows::reader::EventSource;

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

    /// Together with the counter of what did not fit, and what was told of that, as the flow reader
    /// wants it.
    pub fn with_losses(
        self,
        counters: Arc<Counters>,
        told: Array<MapData, u64>,
    ) -> EventsAndLosses {
        EventsAndLosses {
            events: self,
            counters,
            told,
        }
    }
}

/// Records and the number of those that were lost.
pub struct EventsAndLosses {
    events: Events,
    counters: Arc<Counters>,
    told: Array<MapData, u64>,
}

impl EventSource for EventsAndLosses {
    /// The kernel wakes as long as there are records, so none written between a look and the wait
    /// is missed.
    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(self.events.ring.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn poll(&mut self, limit: usize, record: &mut dyn FnMut(&[u8])) -> usize {
        self.events.drain(limit, record)
    }

    fn lost(&mut self) -> io::Result<u64> {
        self.counters
            .get(Counter::EventsLost)
            .map_err(io::Error::other)
    }

    fn told(&mut self) -> io::Result<u64> {
        self.told.get(&0, 0).map_err(io::Error::other)
    }

    fn tell(&mut self, lost: u64) -> io::Result<()> {
        self.told.set(0, lost, 0).map_err(io::Error::other)
    }
}
