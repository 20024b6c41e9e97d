//! Packets as bytes, and what their bytes say.
//!
//! Checksums are computed here over whole headers and payloads, the plain way of RFC 1071, and share
//! no code with the programs under test, which only ever update them.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An Ethernet address.
pub type Mac = [u8; 6];

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;
pub const HOP_BY_HOP: u8 = 0;
pub const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
pub const DESTINATION_OPTIONS: u8 = 60;

pub const ETHERNET: usize = 14;

/// What follows the network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP with these flags.
    Tcp(u8),
    /// UDP.
    Udp,
    /// UDP whose checksum field is zero: "none was computed".
    UdpUnsummed,
    /// ICMP or ICMPv6 of this type and code.
    Icmp(u8, u8),
    /// Another protocol, the payload right behind the network header.
    Other(u8),
}

/// A packet to be written out. Fields are public: a test changes what it is about.
#[derive(Clone, Debug)]
pub struct Packet {
    pub destination_mac: Mac,
    pub source_mac: Mac,
    /// VLAN tags, outermost first: EtherType of the tag and its control field.
    pub tags: Vec<(u16, u16)>,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Flags and offset of an IPv4 packet.
    pub fragment: u16,
    /// Options of an IPv4 header, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: type and bytes, whose first is overwritten by the next header's type.
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub transport: Transport,
    pub payload: Vec<u8>,
    /// Added (one's complement) to the right IPv4 header checksum.
    pub header_checksum_error: u16,
    /// Added (one's complement) to the right transport checksum.
    pub checksum_error: u16,
}

/// An IPv6 extension header of `len` bytes, a multiple of eight, filled with padding options.
pub fn extension(kind: u8, len: usize) -> (u8, Vec<u8>) {
    assert!(len >= 8 && len.is_multiple_of(8), "{len}");
    let mut bytes = vec![0; len];
    bytes[1] = (len / 8 - 1) as u8;
    // PadN over the rest; routing headers read it as type and segments left, both zero.
    if kind != ROUTING && len <= 256 {
        bytes[2] = 1;
        bytes[3] = (len - 4) as u8;
    }
    (kind, bytes)
}

/// An IPv6 fragment header.
pub fn fragment_header(offset: u16, more: bool) -> (u8, Vec<u8>) {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    (FRAGMENT, vec![0, 0, high, low, 0xca, 0xfe, 0xba, 0xbe])
}

impl Packet {
    fn new(source: SocketAddr, destination: SocketAddr, transport: Transport) -> Self {
        Self {
            destination_mac: [0x02, 0, 0, 0, 0, 0x01],
            source_mac: [0x02, 0, 0, 0, 0, 0xfe],
            tags: Vec::new(),
            source,
            destination,
            ttl: 64,
            fragment: 0x4000,
            options: Vec::new(),
            extensions: Vec::new(),
            transport,
            payload: b"weir, a low dam".to_vec(),
            header_checksum_error: 0,
            checksum_error: 0,
        }
    }

    pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Self {
        Self::new(source, destination, Transport::Tcp(flags))
    }

    pub fn udp(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::new(source, destination, Transport::Udp)
    }

    pub fn icmp(source: IpAddr, destination: IpAddr, kind: u8) -> Self {
        let (source, destination) = ((source, 0).into(), (destination, 0).into());
        Self::new(source, destination, Transport::Icmp(kind, 0))
    }

    /// Likewise with the transport named.
    pub fn of(source: SocketAddr, destination: SocketAddr, transport: Transport) -> Self {
        Self::new(source, destination, transport)
    }

    /// The same packet with a few fields changed.
    pub fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut packet = self.clone();
        change(&mut packet);
        packet
    }

    pub fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp(_) => TCP,
            Transport::Udp | Transport::UdpUnsummed => UDP,
            Transport::Icmp(..) if self.source.is_ipv4() => ICMP,
            Transport::Icmp(..) => ICMPV6,
            Transport::Other(protocol) => protocol,
        }
    }

    /// Writes the frame.
    pub fn bytes(&self) -> Vec<u8> {
        let segment = self.segment();
        let mut frame = [self.destination_mac, self.source_mac].concat();
        for (kind, control) in &self.tags {
            frame.extend(kind.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend(0x0800_u16.to_be_bytes());
                frame.extend(self.ipv4_header(source, destination, segment.len()));
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend(0x86dd_u16.to_be_bytes());
                frame.extend(self.ipv6_headers(source, destination, segment.len()));
            }
            mixed => panic!("two families in one packet: {mixed:?}"),
        }
        frame.extend(segment);
        frame
    }

    /// The packet without its Ethernet header, as the device that encrypts has it.
    ///
    /// The kernel's runner takes frames only and reads the EtherType from the 13th and 14th byte,
    /// which here lie in the source address: 8.0.0.0/16 for IPv4, `xxxx:xxxx:86dd::/48` for IPv6.
    pub fn bare_bytes(&self) -> Vec<u8> {
        let bytes = self.bytes().split_off(ETHERNET);
        let expected = if self.source.is_ipv4() {
            [8, 0]
        } else {
            [0x86, 0xdd]
        };
        assert_eq!(
            bytes[12..14],
            expected,
            "{} reads as no EtherType",
            self.source
        );
        bytes
    }

    /// Length from the network header on, as the programs count it.
    pub fn len(&self) -> u64 {
        (self.bytes().len() - ETHERNET - 4 * self.tags.len()) as u64
    }

    fn ipv4_header(&self, source: Ipv4Addr, destination: Ipv4Addr, payload: usize) -> Vec<u8> {
        let len = 20 + self.options.len();
        let mut header = vec![0x40 | (len / 4) as u8, 0x10];
        header.extend(((len + payload) as u16).to_be_bytes());
        header.extend(0x1234_u16.to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, self.protocol(), 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(&self.options);
        let sum = off_by(checksum(&[&header]), self.header_checksum_error);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    fn ipv6_headers(&self, source: Ipv6Addr, destination: Ipv6Addr, payload: usize) -> Vec<u8> {
        let kinds = self.extensions.iter().map(|(kind, _)| *kind);
        let mut kinds = kinds.chain([self.protocol()]);
        let extensions_len: usize = self.extensions.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut header = vec![0x60, 0x05, 0x43, 0x21];
        header.extend(((extensions_len + payload) as u16).to_be_bytes());
        header.extend([kinds.next().expect("the transport at least"), self.ttl]);
        header.extend(source.octets());
        header.extend(destination.octets());
        for (_, bytes) in &self.extensions {
            header.push(kinds.next().expect("the transport at least"));
            header.extend(&bytes[1..]);
        }
        header
    }

    fn segment(&self) -> Vec<u8> {
        let ports = [self.source.port(), self.destination.port()].map(u16::to_be_bytes);
        let (mut segment, field) = match self.transport {
            Transport::Tcp(flags) => {
                let mut tcp = ports.concat();
                tcp.extend([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
                // Eight words: a time stamp option (RFC 7323) behind two of padding.
                tcp.extend([0x80, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
                tcp.extend([1, 1, 8, 10, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 1]);
                (tcp, Some(16))
            }
            Transport::Udp | Transport::UdpUnsummed => {
                let mut udp = ports.concat();
                udp.extend(((8 + self.payload.len()) as u16).to_be_bytes());
                udp.extend([0, 0]);
                (udp, Some(6))
            }
            Transport::Icmp(kind, code) => (vec![kind, code, 0, 0, 0, 1, 0, 2], Some(2)),
            Transport::Other(_) => (Vec::new(), None),
        };
        segment.extend(&self.payload);
        if let Some(field) = field.filter(|_| self.transport != Transport::UdpUnsummed) {
            let right = checksum(&[&self.pseudo_header(segment.len()), &segment]);
            let mut sum = off_by(right, self.checksum_error);
            if sum == 0 && self.transport == Transport::Udp {
                sum = 0xffff;
            }
            segment[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        }
        segment
    }

    fn pseudo_header(&self, len: usize) -> Vec<u8> {
        pseudo_header(
            self.source.ip(),
            self.destination.ip(),
            self.protocol(),
            len,
        )
    }
}

fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    match (source, destination) {
        // ICMP for IPv4 is the one that covers no pseudo header.
        (IpAddr::V4(_), IpAddr::V4(_)) if protocol == ICMP => {}
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes.extend([0, protocol]);
            bytes.extend((len as u16).to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes.extend((len as u32).to_be_bytes());
            bytes.extend([0, 0, 0, protocol]);
        }
        mixed => panic!("two families in one packet: {mixed:?}"),
    }
    bytes
}

/// The internet checksum over several pieces, each but the last of even length, in host order.
fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for piece in pieces {
        for pair in piece.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

/// A checksum made wrong by `error`, in one's-complement arithmetic: updating the wrong checksum
/// must give the updated right one, wrong by the same.
fn off_by(right: u16, error: u16) -> u16 {
    let sum = u32::from(right) + u32::from(error);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// Asserts that every checksum of an untagged frame is right, reading the frame from its bytes.
pub fn assert_checksums(frame: &[u8]) {
    let packet = &frame[ETHERNET..];
    let (source, destination, protocol, offset) = match packet[0] >> 4 {
        4 => {
            let len = usize::from(packet[0] & 15) * 4;
            assert_eq!(checksum(&[&packet[..len]]), 0, "IPv4 header checksum");
            (ip4(&packet[12..16]), ip4(&packet[16..20]), packet[9], len)
        }
        6 => {
            let (mut protocol, mut offset) = (packet[6], 40);
            while [HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS].contains(&protocol) {
                protocol = packet[offset];
                offset += 8 + usize::from(packet[offset + 1]) * 8;
            }
            (ip6(&packet[8..24]), ip6(&packet[24..40]), protocol, offset)
        }
        version => panic!("version {version}"),
    };
    let segment = &packet[offset..];
    if protocol == UDP && segment[6..8] == [0, 0] {
        return;
    }
    let pseudo = pseudo_header(source, destination, protocol, segment.len());
    assert_eq!(checksum(&[&pseudo, segment]), 0, "transport checksum");
}

/// Gives a TCP packet without Ethernet header, IP options and extension headers these TCP options,
/// which fill the room of twelve bytes that [`Packet`] leaves for them.
pub fn set_tcp_options(packet: &mut [u8], options: [u8; 12]) {
    let (source, destination, offset) = match packet[0] >> 4 {
        4 => (ip4(&packet[12..16]), ip4(&packet[16..20]), 20),
        _ => (ip6(&packet[8..24]), ip6(&packet[24..40]), 40),
    };
    let segment = &mut packet[offset..];
    segment[20..32].copy_from_slice(&options);
    segment[16..18].fill(0);
    let pseudo = pseudo_header(source, destination, TCP, segment.len());
    let sum = checksum(&[&pseudo, segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
}

fn ip4(bytes: &[u8]) -> IpAddr {
    <[u8; 4]>::try_from(bytes).expect("four bytes").into()
}

fn ip6(bytes: &[u8]) -> IpAddr {
    <[u8; 16]>::try_from(bytes).expect("sixteen bytes").into()
}

/// Source port of a frame without tags, options and extension headers.
pub fn source_port(frame: &[u8]) -> u16 {
    let offset = match frame[ETHERNET] >> 4 {
        4 => ETHERNET + 20,
        _ => ETHERNET + 40,
    };
    u16::from_be_bytes([frame[offset], frame[offset + 1]])
}

/// Bytes as lines of sixteen, for messages.
pub fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (line, chunk) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let (offset, hex) = (line * 16, hex.join(" "));
        writeln!(text, "{offset:4}  {hex}").expect("a string takes everything");
    }
    text
}
