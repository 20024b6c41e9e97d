//! Encrypted packets on their way to the network: they wait for those that follow at once, so that
//! many leave with one system call.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use boringtun::noise::{Tunn, TunnResult};

use super::MAX_PACKET;
use super::socket::Sockets;

/// Bytes that encryption adds.
const OVERHEAD: usize = 32;

/// Longest message of the protocol itself.
const MESSAGE: usize = 148;

/// Most datagrams that the kernel takes as one (`UDP_MAX_SEGMENTS`, 64 before 6.9), and their bytes
/// with the headers of IPv6 and UDP.
const MAX_SEGMENTS: usize = 64;
const MAX_BYTES: usize = 65535 - 40 - 8;

/// Bytes, and datagrams, after which nothing more is waited for.
const ENOUGH: usize = 1 << 17;
const MANY: usize = 128;

/// Datagrams that wait.
pub(super) struct Outbox {
    /// By which socket they leave.
    by: usize,
    sockets: Option<Arc<Sockets>>,
    buffer: Vec<u8>,
    used: usize,
    waiting: usize,
    trains: Vec<Train>,
}

/// Datagrams of one length, the last one perhaps shorter, to one destination: the kernel takes them
/// as one and cuts them when they leave (`UDP_SEGMENT`, udp(7)).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Train {
    pub to: SocketAddr,
    /// Where they lie.
    bytes: Range<usize>,
    pub segment: usize,
}

impl Outbox {
    pub fn new(by: usize) -> Self {
        Self {
            by,
            sockets: None,
            buffer: vec![0; ENOUGH + 2 * MAX_PACKET],
            used: 0,
            waiting: 0,
            trains: Vec::with_capacity(MAX_SEGMENTS),
        }
    }

    /// Chooses the sockets for what comes next.
    pub fn leave_by(&mut self, sockets: &Arc<Sockets>) {
        if !self
            .sockets
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, sockets))
        {
            self.flush();
            self.sockets = Some(Arc::clone(sockets));
        }
    }

    /// Encrypts a packet; it leaves with the next [`Self::flush`]. The protocol may keep it, and
    /// ask for a session instead.
    pub fn encrypt(&mut self, tunn: &mut Tunn, packet: &[u8], to: SocketAddr) {
        if self.buffer.len() - self.used < MESSAGE.max(packet.len() + OVERHEAD) {
            self.flush();
        }
        let room = &mut self.buffer[self.used..];
        if let TunnResult::WriteToNetwork(datagram) = tunn.encapsulate(packet, room) {
            let length = datagram.len();
            add(&mut self.trains, self.used, length, to);
            self.used += length;
            self.waiting += 1;
        }
    }

    /// Whether so much waits that it has to leave.
    pub fn is_full(&self) -> bool {
        self.used >= ENOUGH || self.waiting >= MANY
    }

    /// Sends all that waits.
    pub fn flush(&mut self) {
        if let Some(sockets) = &self.sockets {
            for train in &self.trains {
                let bytes = &self.buffer[train.bytes.clone()];
                sockets.send_train(self.by, bytes, train.segment, train.to);
            }
        }
        self.trains.clear();
        (self.used, self.waiting) = (0, 0);
    }
}

fn add(trains: &mut Vec<Train>, at: usize, length: usize, to: SocketAddr) {
    if let Some(last) = trains.last_mut()
        && last.to == to
        && length <= last.segment
        // A shorter one was the last.
        && last.bytes.len() % last.segment == 0
        && last.bytes.len() < MAX_SEGMENTS * last.segment
        && last.bytes.len() + length <= MAX_BYTES
    {
        last.bytes.end += length;
    } else {
        trains.push(Train {
            to,
            bytes: at..at + length,
            segment: length,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trains(datagrams: &[(usize, u16)]) -> Vec<(usize, usize)> {
        let (mut trains, mut at) = (Vec::new(), 0);
        for (length, port) in datagrams {
            add(&mut trains, at, *length, ([10, 0, 0, 1], *port).into());
            at += length;
        }
        let ends: Vec<_> = trains.iter().map(|train| train.bytes.clone()).collect();
        let begins: Vec<_> = std::iter::once(0)
            .chain(ends.iter().map(|it| it.end))
            .collect();
        assert!(
            ends.iter()
                .zip(begins)
                .all(|(range, begin)| range.start == begin)
        );
        trains
            .iter()
            .map(|train| (train.segment, train.bytes.len()))
            .collect()
    }

    #[test]
    fn datagrams_of_one_length_and_destination_travel_together() {
        assert_eq!(trains(&[(100, 1), (100, 1), (40, 1)]), [(100, 240)]);
        assert_eq!(trains(&[(100, 1), (100, 2)]), [(100, 100), (100, 100)]);
        assert_eq!(trains(&[(40, 1), (100, 1)]), [(40, 40), (100, 100)]);
        assert_eq!(
            trains(&[(100, 1), (40, 1), (40, 1)]),
            [(100, 140), (40, 40)],
            "a shorter one is the last"
        );
    }

    #[test]
    fn the_kernel_takes_no_more_at_once() {
        let many = vec![(100, 1); MAX_SEGMENTS + 1];
        assert_eq!(trains(&many), [(100, 6400), (100, 100)]);
        let long = vec![(1452, 1); 46];
        assert_eq!(trains(&long), [(1452, 45 * 1452), (1452, 1452)]);
        assert_eq!(trains(&[(MAX_PACKET, 1)]), [(MAX_PACKET, MAX_PACKET)]);
    }
}
