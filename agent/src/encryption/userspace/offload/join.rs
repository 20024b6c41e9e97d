//! Decrypted packets on their way to the kernel: segments of one TCP connection that follow each
//! other become one packet, as the kernel's own receive offload makes them.
//!
//! Checksums of what is joined are not looked at: nothing changed since the sending node encrypted
//! it, which is why the kernel's WireGuard does not look at them either.

use std::ops::Range;

use ebpf_abi::tcp::{ACK, PSH};

use super::super::MAX_PACKET;
use super::{ChecksumPlace, Kind, Segments, Work, addresses, finish_ipv4, fold, pseudo_header_sum};

/// Most segments in a packet; as many pieces one write has.
pub(in super::super) const MAX_PIECES: usize = 64;

/// Packets that lie one behind the other in a buffer.
pub(in super::super) struct Inbox {
    buffer: Vec<u8>,
    used: usize,
    /// Where what is written lies: packets, and payloads of segments that were joined to one.
    pieces: Vec<Range<usize>>,
    runs: Vec<Run>,
}

/// A packet to write: some pieces, one after the other.
struct Run {
    pieces: usize,
    length: usize,
    /// Absent if nothing can be joined to it any more, and nothing was.
    tcp: Option<TcpRun>,
}

struct TcpRun {
    headers: Headers,
    next_sequence: u32,
    /// Payload of the first one.
    payload: usize,
    push: bool,
}

/// Where the headers of a TCP packet lie that may be joined.
#[derive(Clone, Copy)]
struct Headers {
    ip: usize,
    head: usize,
}

impl Inbox {
    /// With room for packets of this many bytes altogether, and the longest one behind them.
    pub fn new(bytes: usize) -> Self {
        Self {
            buffer: vec![0; bytes + MAX_PACKET],
            used: 0,
            pieces: Vec::with_capacity(MAX_PIECES),
            runs: Vec::with_capacity(MAX_PIECES),
        }
    }

    /// Where the next packet is to be put.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.used..]
    }

    /// Takes the packet that was put there.
    pub fn push(&mut self, length: usize) {
        let at = self.used;
        self.used += length;
        let packet = &self.buffer[at..self.used];
        let headers = Headers::of(packet);
        if let Some(headers) = headers
            && let Some(run) = self.runs.last_mut()
            && let Some(first) = self.pieces.len().checked_sub(run.pieces)
            && run.takes(&self.buffer[self.pieces[first].start..], packet, headers)
        {
            run.take(packet, headers);
            self.pieces.push(at + headers.head..self.used);
            return;
        }
        self.pieces.push(at..self.used);
        self.runs.push(Run {
            pieces: 1,
            length,
            tcp: headers.map(|headers| TcpRun::of(packet, headers)),
        });
    }

    /// Hands out all packets, each with what is left to do on it, and is empty again.
    pub fn drain(&mut self, mut write: impl FnMut(Work, &mut dyn Iterator<Item = &[u8]>)) {
        let mut first = 0;
        for run in &self.runs {
            let pieces = &self.pieces[first..first + run.pieces];
            first += run.pieces;
            let packet = &mut self.buffer[pieces[0].clone()];
            let work = run.finish(packet);
            let mut pieces = pieces.iter().map(|piece| &self.buffer[piece.clone()]);
            write(work, &mut pieces);
        }
        self.runs.clear();
        self.pieces.clear();
        self.used = 0;
    }
}

impl Run {
    fn takes(&self, first: &[u8], packet: &[u8], headers: Headers) -> bool {
        let Some(run) = &self.tcp else { return false };
        let payload = packet.len() - headers.head;
        !run.push
            && self.pieces < MAX_PIECES
            && payload <= run.payload
            // A shorter one was the last.
            && self.length == run.headers.head + self.pieces * run.payload
            && self.length + payload <= MAX_PACKET
            && (headers.ip, headers.head) == (run.headers.ip, run.headers.head)
            && headers.sequence(packet) == run.next_sequence
            && headers.same_connection(first, packet)
    }

    fn take(&mut self, packet: &[u8], headers: Headers) {
        let payload = packet.len() - headers.head;
        self.pieces += 1;
        self.length += payload;
        if let Some(run) = &mut self.tcp {
            run.next_sequence = run.next_sequence.wrapping_add(payload as u32);
            run.push = headers.push(packet);
        }
    }

    /// Makes the first packet's headers those of all.
    fn finish(&self, packet: &mut [u8]) -> Work {
        let (Some(run), true) = (&self.tcp, self.pieces > 1) else {
            return Work::default();
        };
        let Headers { ip, head } = run.headers;
        let ipv6 = ip == IPV6;
        let length = self.length as u16;
        if ipv6 {
            packet[4..6].copy_from_slice(&(length - IPV6 as u16).to_be_bytes());
        } else {
            finish_ipv4(packet, ip, length);
        }
        if run.push {
            packet[ip + 13] |= PSH;
        }
        let pseudo = pseudo_header_sum(&packet[addresses(ipv6)], TCP, length - ip as u16);
        packet[ip + 16..ip + 18].copy_from_slice(&fold(pseudo).to_ne_bytes());
        Work {
            checksum: Some(ChecksumPlace {
                start: ip as u16,
                offset: 16,
            }),
            segments: Some(Segments {
                kind: if ipv6 { Kind::TcpIpv6 } else { Kind::TcpIpv4 },
                header_bytes: head as u16,
                payload_bytes: run.payload as u16,
            }),
        }
    }
}

impl TcpRun {
    fn of(packet: &[u8], headers: Headers) -> Self {
        let payload = packet.len() - headers.head;
        Self {
            headers,
            next_sequence: headers.sequence(packet).wrapping_add(payload as u32),
            payload,
            push: headers.push(packet),
        }
    }
}

const TCP: u8 = 6;
const IPV4: usize = 20;
const IPV6: usize = 40;

impl Headers {
    /// Of a packet with TCP payload and nothing out of the ordinary: no IP options, not a fragment
    /// and never to be one, no flags but ACK and PSH.
    fn of(packet: &[u8]) -> Option<Self> {
        let ip = match packet.first()? {
            0x45 if packet.len() >= IPV4 && packet[6..8] == [0x40, 0] && packet[9] == TCP => IPV4,
            first if first >> 4 == 6 && packet.len() >= IPV6 && packet[6] == TCP => IPV6,
            _ => return None,
        };
        let head = ip + usize::from(packet.get(ip + 12)? >> 4) * 4;
        let ordinary = head >= ip + 20 && packet.len() > head && packet[ip + 13] & !PSH == ACK;
        ordinary.then_some(Self { ip, head })
    }

    fn sequence(self, packet: &[u8]) -> u32 {
        let at = self.ip + 4;
        u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
    }

    fn push(self, packet: &[u8]) -> bool {
        packet[self.ip + 13] & PSH != 0
    }

    /// Whether all is the same in both that is the same in every segment of a large packet.
    fn same_connection(self, one: &[u8], other: &[u8]) -> bool {
        let same = |range: Range<usize>| one[range.clone()] == other[range];
        let ip = if self.ip == IPV6 {
            same(0..4) && same(6..IPV6)
        } else {
            same(0..2) && same(6..10) && same(12..IPV4)
        };
        let tcp = self.ip;
        // Ports; acknowledged; length; window; urgent and options. Flags were looked at.
        ip && same(tcp..tcp + 4)
            && same(tcp + 8..tcp + 13)
            && same(tcp + 14..tcp + 16)
            && same(tcp + 18..self.head)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::split::tests::{large_tcp, split, tcp_work};
    use super::*;

    fn join(packets: &[Vec<u8>]) -> Vec<(Work, Vec<u8>)> {
        let mut inbox = Inbox::new(MAX_PACKET);
        for packet in packets {
            inbox.room()[..packet.len()].copy_from_slice(packet);
            inbox.push(packet.len());
        }
        let mut joined = Vec::new();
        inbox.drain(|work, pieces| joined.push((work, pieces.collect::<Vec<_>>().concat())));
        assert_eq!(
            (inbox.used, inbox.pieces.len(), inbox.runs.len()),
            (0, 0, 0)
        );
        joined
    }

    fn whole(joined: &[(Work, Vec<u8>)]) -> Vec<usize> {
        joined.iter().map(|(_, packet)| packet.len()).collect()
    }

    fn segments(ipv6: bool, bytes: usize) -> Vec<Vec<u8>> {
        let payload: Vec<u8> = (0..bytes).map(|at| (at * 7 % 251) as u8).collect();
        split(tcp_work(ipv6, 1000), &large_tcp(ipv6, ACK | PSH, &payload))
    }

    #[test]
    fn segments_that_follow_each_other_become_one_packet() {
        for ipv6 in [false, true] {
            let ip = if ipv6 { IPV6 } else { IPV4 };
            let joined = join(&segments(ipv6, 2500));
            assert_eq!(whole(&joined), [ip + 32 + 2500]);
            assert_eq!(joined[0].0, tcp_work(ipv6, 1000));
            // Cut again, they are what they were.
            assert_eq!(split(joined[0].0, &joined[0].1), segments(ipv6, 2500));
        }
    }

    #[test]
    fn a_single_packet_is_left_as_it_is() {
        let single = segments(false, 1000);
        assert_eq!(join(&single), [(Work::default(), single[0].clone())]);
    }

    #[test]
    fn what_differs_is_not_joined() {
        let [first, second]: [Vec<u8>; 2] = segments(false, 2000).try_into().unwrap();
        let change = |at: usize, to: u8| {
            let mut changed = second.clone();
            assert_ne!(changed[at], to);
            changed[at] = to;
            changed
        };
        for (what, other) in [
            ("type of service", change(1, 4)),
            ("a fragment", change(6, 0x60)),
            ("time to live", change(8, 9)),
            ("protocol", change(9, 17)),
            ("address", change(19, 77)),
            ("port", change(23, 77)),
            ("sequence", change(27, 77)),
            ("acknowledged", change(31, 77)),
            ("end", change(33, ACK | 1)),
            ("congestion", change(33, ACK | 0x40)),
            ("window", change(35, 77)),
            ("time", change(51, 77)),
        ] {
            let joined = join(&[first.clone(), other.clone()]);
            let expected = [(Work::default(), first.clone()), (Work::default(), other)];
            assert_eq!(joined, expected, "{what}");
        }
        assert_eq!(whole(&join(&[first, second])), [2052]);
    }

    #[test]
    fn a_short_or_pushed_segment_is_the_last() {
        let mut all = segments(true, 1500);
        let mut more = segments(true, 3000);
        assert_eq!(
            whole(&join(&[all.clone(), more.clone()].concat())),
            [1572, 3072]
        );
        // Short, but not pushed: still the last, for all others must be equal.
        all[1][53] &= !PSH;
        let next = 0xffff_f000_u32.wrapping_add(1500);
        more[0][44..48].copy_from_slice(&next.to_be_bytes());
        all.push(more.remove(0));
        assert_eq!(whole(&join(&all)), [1572, 1072]);
    }

    proptest! {
        #[test]
        fn every_byte_comes_out_and_nothing_panics(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..90), 0..20),
            kinds in proptest::collection::vec(0..3_usize, 20),
        ) {
            // Some of them look like TCP.
            let packets: Vec<Vec<u8>> = packets.into_iter().zip(kinds).map(|(mut packet, kind)| {
                let looks = large_tcp(kind == 1, ACK, &packet);
                if kind < 2 { packet = looks; }
                packet
            }).collect();
            let cut: Vec<Vec<u8>> = join(&packets)
                .into_iter()
                .flat_map(|(work, packet)| split(work, &packet))
                .collect();
            prop_assert_eq!(cut.len(), packets.len());
            let lengths = |all: &[Vec<u8>]| all.iter().map(Vec::len).collect::<Vec<_>>();
            prop_assert_eq!(lengths(&cut), lengths(&packets));
        }
    }
}
