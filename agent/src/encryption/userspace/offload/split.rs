//! One packet from the kernel, as the packets it stands for.

use ebpf_abi::tcp::{CWR, FIN, PSH};

use super::{Kind, Segments, Work, addresses, finish_ipv4, fold, pseudo_header_sum, sum};

/// Longest headers of a packet that can be cut: beyond TCP's and IPv6's own ones, there is room for
/// extension headers.
const MAX_HEADER: usize = 256;

/// The packets, one after the other, each made in the place where its payload lies: its headers
/// cover the end of the one before, which is used up by then.
pub(in super::super) struct Packets<'a> {
    packet: &'a mut [u8],
    cut: Option<Cut>,
    /// Number of the next one.
    next: usize,
}

/// How to make the headers of a segment.
struct Cut {
    headers: [u8; MAX_HEADER],
    /// Length of the IP header, and of all headers.
    ip: usize,
    head: usize,
    payload: usize,
    count: usize,
    ipv6: bool,
    kind: Transport,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    fn protocol(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// Where its checksum is.
    fn checksum(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

impl<'a> Packets<'a> {
    /// `None` if work and packet do not go together.
    pub fn new(work: Work, packet: &'a mut [u8]) -> Option<Self> {
        let cut = if let Some(segments) = work.segments {
            Some(Cut::new(work, segments, packet)?)
        } else {
            complete(work, packet)?;
            None
        };
        Some(Self {
            packet,
            cut,
            next: 0,
        })
    }

    /// The next packet.
    pub fn next_packet(&mut self) -> Option<&[u8]> {
        let number = self.next;
        self.next += 1;
        match &self.cut {
            None => (number == 0).then_some(&*self.packet),
            Some(cut) if number < cut.count => Some(cut.make(number, self.packet)),
            Some(_) => None,
        }
    }
}

/// Fills in the checksum that is missing, if one is.
fn complete(work: Work, packet: &mut [u8]) -> Option<()> {
    let Some(place) = work.checksum else {
        return Some(());
    };
    let covered = packet.get_mut(usize::from(place.start)..)?;
    let at = usize::from(place.offset);
    covered.get(at..at + 2)?;
    // The field holds the sum over the pseudo header, so it is covered as it is.
    let checksum = match !fold(sum(covered)) {
        // Computed as zero, UDP sends all ones, for zero means "none" (RFC 768).
        0 if at == Transport::Udp.checksum() => u16::MAX,
        checksum => checksum,
    };
    covered[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
    Some(())
}

impl Cut {
    fn new(work: Work, segments: Segments, packet: &[u8]) -> Option<Self> {
        let ip = usize::from(work.checksum?.start);
        let ipv6 = packet.first()? >> 4 == 6;
        let (kind, head) = match segments.kind {
            Kind::Udp => (Transport::Udp, ip + 8),
            Kind::TcpIpv4 | Kind::TcpIpv6 => (
                Transport::Tcp,
                ip + usize::from(packet.get(ip + 12)? >> 4) * 4,
            ),
        };
        let shortest = if ipv6 { 40 } else { 20 };
        let payload = usize::from(segments.payload_bytes);
        let whole = packet.len().checked_sub(head)?;
        if ip < shortest || head < ip + 8 || head > MAX_HEADER || payload == 0 || whole == 0 {
            return None;
        }
        let mut headers = [0; MAX_HEADER];
        headers[..head].copy_from_slice(&packet[..head]);
        Some(Self {
            headers,
            ip,
            head,
            payload,
            count: whole.div_ceil(payload),
            ipv6,
            kind,
        })
    }

    fn make<'p>(&self, number: usize, packet: &'p mut [u8]) -> &'p [u8] {
        let start = number * self.payload;
        let end = packet.len().min(start + self.head + self.payload);
        let segment = &mut packet[start..end];
        segment[..self.head].copy_from_slice(&self.headers[..self.head]);
        let length = segment.len() as u16;
        if self.ipv6 {
            segment[4..6].copy_from_slice(&(length - 40).to_be_bytes());
        } else {
            let first = u16::from_be_bytes([segment[4], segment[5]]);
            segment[4..6].copy_from_slice(&first.wrapping_add(number as u16).to_be_bytes());
            finish_ipv4(segment, self.ip, length);
        }
        let pseudo = pseudo_header_sum(
            &segment[addresses(self.ipv6)],
            self.kind.protocol(),
            length - self.ip as u16,
        );
        let transport = &mut segment[self.ip..];
        match self.kind {
            Transport::Tcp => self.finish_tcp(number, transport),
            Transport::Udp => {
                let length = transport.len() as u16;
                transport[4..6].copy_from_slice(&length.to_be_bytes());
            }
        }
        let at = self.kind.checksum();
        transport[at..at + 2].fill(0);
        let checksum = match !fold(pseudo + sum(transport)) {
            0 if self.kind == Transport::Udp => u16::MAX,
            checksum => checksum,
        };
        transport[at..at + 2].copy_from_slice(&checksum.to_ne_bytes());
        segment
    }

    fn finish_tcp(&self, number: usize, header: &mut [u8]) {
        let first = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let sequence = first.wrapping_add((number * self.payload) as u32);
        header[4..8].copy_from_slice(&sequence.to_be_bytes());
        if number + 1 < self.count {
            header[13] &= !(FIN | PSH);
        }
        // "Congestion window reduced" is said once (RFC 3168).
        if number > 0 {
            header[13] &= !CWR;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::ChecksumPlace;
    use super::*;

    /// A packet as the kernel hands it over: headers with the sum over the pseudo header alone.
    pub fn large_tcp(ipv6: bool, flags: u8, payload: &[u8]) -> Vec<u8> {
        let ip = if ipv6 { 40 } else { 20 };
        let length = (ip + 32 + payload.len()) as u16;
        let mut packet = vec![0; ip];
        if ipv6 {
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&(length - 40).to_be_bytes());
            (packet[6], packet[7]) = (6, 63);
            (packet[8], packet[23], packet[24], packet[39]) = (0xfd, 1, 0xfd, 2);
        } else {
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&length.to_be_bytes());
            packet[4..8].copy_from_slice(&[0xff, 0xfe, 0x40, 0]);
            (packet[8], packet[9]) = (63, 6);
            packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        }
        let pseudo = pseudo_header_sum(&packet[addresses(ipv6)], 6, length - ip as u16);
        packet.extend([0x1f, 0x90, 0x00, 0x50, 0xff, 0xff, 0xf0, 0, 0, 0, 0, 7]);
        packet.extend([0x80, flags, 0x01, 0xf6]);
        packet.extend(fold(pseudo).to_ne_bytes());
        packet.extend([0, 0, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        packet.extend(payload);
        packet
    }

    pub fn tcp_work(ipv6: bool, payload_bytes: u16) -> Work {
        let ip = if ipv6 { 40 } else { 20 };
        Work {
            checksum: Some(ChecksumPlace {
                start: ip,
                offset: 16,
            }),
            segments: Some(Segments {
                kind: if ipv6 { Kind::TcpIpv6 } else { Kind::TcpIpv4 },
                header_bytes: ip + 32,
                payload_bytes,
            }),
        }
    }

    pub fn split(work: Work, packet: &[u8]) -> Vec<Vec<u8>> {
        let mut packet = packet.to_vec();
        let mut packets = Packets::new(work, &mut packet).expect("they go together");
        std::iter::from_fn(|| packets.next_packet().map(<[u8]>::to_vec)).collect()
    }

    /// Both checksums as a receiver checks them.
    fn assert_valid(packet: &[u8], protocol: u8) {
        let ipv6 = packet[0] >> 4 == 6;
        let ip = if ipv6 { 40 } else { 20 };
        if !ipv6 {
            assert_eq!(fold(sum(&packet[..20])), 0xffff, "IPv4 header");
        }
        let length = (packet.len() - ip) as u16;
        let pseudo = pseudo_header_sum(&packet[addresses(ipv6)], protocol, length);
        assert_eq!(fold(pseudo + sum(&packet[ip..])), 0xffff, "transport");
    }

    fn payload(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 % 251) as u8).collect()
    }

    #[test]
    fn segments_have_their_own_headers() {
        for ipv6 in [false, true] {
            let (ip, data) = (if ipv6 { 40 } else { 20 }, payload(2500));
            let large = large_tcp(ipv6, 0x10 | FIN | PSH | CWR, &data);
            let segments = split(tcp_work(ipv6, 1000), &large);
            let lengths: Vec<_> = segments.iter().map(|it| it.len() - ip - 32).collect();
            assert_eq!(lengths, [1000, 1000, 500]);
            let flags: Vec<_> = segments.iter().map(|it| it[ip + 13]).collect();
            assert_eq!(flags, [0x10 | CWR, 0x10, 0x10 | FIN | PSH]);
            for (number, segment) in segments.iter().enumerate() {
                assert_valid(segment, 6);
                let sequence = u32::from_be_bytes(segment[ip + 4..ip + 8].try_into().unwrap());
                assert_eq!(sequence, 0xffff_f000_u32.wrapping_add(number as u32 * 1000));
                assert_eq!(
                    segment[ip + 20..ip + 32],
                    large[ip + 20..ip + 32],
                    "options"
                );
                if !ipv6 {
                    let id = u16::from_be_bytes([segment[4], segment[5]]);
                    assert_eq!(id, 0xfffe_u16.wrapping_add(number as u16));
                }
            }
            let joined: Vec<u8> = segments
                .iter()
                .flat_map(|it| it[ip + 32..].to_vec())
                .collect();
            assert_eq!(joined, data);
        }
    }

    #[test]
    fn datagrams_are_cut_too() {
        let mut large = large_tcp(false, 0, &[]);
        large.truncate(20);
        large[9] = 17;
        large.extend([0x1f, 0x90, 0, 0x35, 0, 0, 0, 0]);
        large.extend(payload(250));
        let work = Work {
            checksum: Some(ChecksumPlace {
                start: 20,
                offset: 6,
            }),
            segments: Some(Segments {
                kind: Kind::Udp,
                header_bytes: 28,
                payload_bytes: 100,
            }),
        };
        let datagrams = split(work, &large);
        let lengths: Vec<_> = datagrams
            .iter()
            .map(|it| u16::from_be_bytes([it[24], it[25]]))
            .collect();
        assert_eq!(lengths, [108, 108, 58]);
        for datagram in &datagrams {
            assert_valid(datagram, 17);
        }
    }

    #[test]
    fn a_missing_checksum_is_filled_in() {
        let large = large_tcp(false, 0x18, &payload(77));
        let work = Work {
            segments: None,
            ..tcp_work(false, 0)
        };
        // The IPv4 header of the large packet has no checksum, as nobody asks for it here.
        let whole = split(work, &large).remove(0);
        let pseudo = pseudo_header_sum(&whole[12..20], 6, whole.len() as u16 - 20);
        assert_eq!(fold(pseudo + sum(&whole[20..])), 0xffff);
        assert_eq!(split(Work::default(), &large), [large]);
    }

    proptest! {
        #[test]
        fn nothing_from_the_kernel_makes_it_panic(
            header in any::<[u8; super::super::HEADER_BYTES]>(),
            mut packet in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            if let Some(work) = Work::from_bytes(header)
                && let Some(mut packets) = Packets::new(work, &mut packet)
            {
                while packets.next_packet().is_some() {}
            }
        }
    }
}
