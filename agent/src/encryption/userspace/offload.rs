//! Packets longer than the device's MTU, which the kernel hands over and takes as a whole: some
//! forty segments pass its stack, and the border to this process, at once.
//!
//! Each packet at the TUN device has a header in front that says what is left to do: segments to
//! cut, a checksum to fill in (virtio 1.2, 5.1.6; numbers in the machine's byte order). [`split`]
//! does it for packets on their way out. [`join`] leaves it to do for those on their way in.

pub(super) mod join;
pub(super) mod split;

/// Size of the header.
pub(super) const HEADER_BYTES: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;

const NOTHING: u8 = 0;
const TCP_IPV4: u8 = 1;
const TCP_IPV6: u8 = 4;
const UDP: u8 = 5;

/// What is left to do on a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// The checksum field holds the sum over the pseudo header only.
    pub checksum: Option<ChecksumPlace>,
    /// The payload is that of several packets.
    pub segments: Option<Segments>,
}

/// Where a checksum is missing, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChecksumPlace {
    /// Where what it covers begins, in the packet: the transport header.
    pub start: u16,
    /// Where the field is, in what it covers.
    pub offset: u16,
}

/// How to cut a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segments {
    pub kind: Kind,
    /// Length of all headers.
    pub header_bytes: u16,
    /// Payload of each packet but the last one, which may have less.
    pub payload_bytes: u16,
}

/// What is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    TcpIpv4,
    TcpIpv6,
    /// Of either family.
    Udp,
}

impl Work {
    /// Reads the header; `None` if it asks for what nobody promised to do.
    pub fn from_bytes(header: [u8; HEADER_BYTES]) -> Option<Self> {
        let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let kind = match header[1] {
            NOTHING => None,
            TCP_IPV4 => Some(Kind::TcpIpv4),
            TCP_IPV6 => Some(Kind::TcpIpv6),
            UDP => Some(Kind::Udp),
            _ => return None,
        };
        Some(Self {
            checksum: (header[0] & NEEDS_CHECKSUM != 0).then(|| ChecksumPlace {
                start: word(6),
                offset: word(8),
            }),
            segments: kind.map(|kind| Segments {
                kind,
                header_bytes: word(2),
                payload_bytes: word(4),
            }),
        })
    }

    /// Writes the header.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let mut word = |at: usize, value: u16| {
            header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        };
        if let Some(place) = self.checksum {
            word(6, place.start);
            word(8, place.offset);
        }
        if let Some(segments) = self.segments {
            word(2, segments.header_bytes);
            word(4, segments.payload_bytes);
        }
        header[0] = self.checksum.map_or(0, |_| NEEDS_CHECKSUM);
        header[1] = self.segments.map_or(NOTHING, |it| match it.kind {
            Kind::TcpIpv4 => TCP_IPV4,
            Kind::TcpIpv6 => TCP_IPV6,
            Kind::Udp => UDP,
        });
        header
    }
}

/// Sum of 16-bit words as they lie in memory, not folded; an odd last byte is the first of a word
/// (RFC 1071). Written so that the compiler takes many words at a time.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(4);
    let rest = words.remainder();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let all: u64 = words
        .map(|word| u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]])))
        .sum();
    all + u64::from(u32::from_ne_bytes(last))
}

/// Folds a sum into 16 bits, adding the carries back.
fn fold(mut sum: u64) -> u16 {
    while sum > u64::from(u16::MAX) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Sum over the pseudo header that TCP and UDP checksums cover too (RFC 9293, RFC 8200).
fn pseudo_header_sum(addresses: &[u8], protocol: u8, length: u16) -> u64 {
    let protocol = u16::from_ne_bytes([0, protocol]);
    sum(addresses) + u64::from(protocol) + u64::from(length.to_be())
}

/// Offset and length of both addresses in an IP header.
fn addresses(ipv6: bool) -> std::ops::Range<usize> {
    if ipv6 { 8..40 } else { 12..20 }
}

/// Writes length and checksum of an IPv4 header; `packet` begins with it.
fn finish_ipv4(packet: &mut [u8], header: usize, length: u16) {
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[10..12].fill(0);
    let checksum = !fold(sum(&packet[..header]));
    packet[10..12].copy_from_slice(&checksum.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_written_as_they_are_read() {
        let work = Work {
            checksum: Some(ChecksumPlace {
                start: 20,
                offset: 16,
            }),
            segments: Some(Segments {
                kind: Kind::TcpIpv4,
                header_bytes: 52,
                payload_bytes: 1368,
            }),
        };
        assert_eq!(Work::from_bytes(work.to_bytes()), Some(work));
        assert_eq!(Work::default().to_bytes(), [0; HEADER_BYTES]);
        assert_eq!(Work::from_bytes([0; HEADER_BYTES]), Some(Work::default()));
        let with_ecn = [0, 0x81, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Work::from_bytes(with_ecn), None, "never promised");
    }

    #[test]
    fn sums_are_those_of_the_data_path() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1500).collect();
        for length in [0, 1, 2, 3, 4, 5, 20, 39, 40, 1499, 1500] {
            let expected = ebpf_abi::checksum::compute(&bytes[..length], 0);
            assert_eq!(!fold(sum(&bytes[..length])), expected, "{length} bytes");
        }
    }
}
