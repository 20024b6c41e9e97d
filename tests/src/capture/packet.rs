//! What a test wants to know of a frame: written apart from the data path's own parser on purpose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;

const ETHERNET_BYTES: usize = 14;
const IPV6_BYTES: usize = 40;

/// An IP packet in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Source; port 0 if the protocol has none.
    pub source: SocketAddr,
    /// Destination; port 0 if the protocol has none.
    pub destination: SocketAddr,
    /// Protocol number, of the first header after IPv6's own.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
}

impl Summary {
    /// Of an Ethernet frame, if it holds a complete IPv4 or IPv6 header.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let ip = Ip::of(frame)?;
        let port = |at: usize| {
            let bytes = ip.payload.get(at..at + 2)?;
            matches!(ip.protocol, TCP | UDP).then(|| u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        Some(Self {
            source: SocketAddr::new(ip.source, port(0).unwrap_or(0)),
            destination: SocketAddr::new(ip.destination, port(2).unwrap_or(0)),
            protocol: ip.protocol,
            ttl: ip.ttl,
        })
    }
}

/// The parts of an IP packet.
pub(super) struct Ip<'a> {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub ttl: u8,
    /// IPv4 header with options, empty for IPv6.
    pub header: &'a [u8],
    /// What follows the header, without padding of the frame; short if the frame was cut.
    pub payload: &'a [u8],
    /// Is the packet one piece of a larger one?
    pub fragment: bool,
}

impl<'a> Ip<'a> {
    pub(super) fn of(frame: &'a [u8]) -> Option<Self> {
        let packet = frame.get(ETHERNET_BYTES..)?;
        match (frame[12], frame[13]) {
            (0x08, 0x00) => Self::v4(packet),
            (0x86, 0xdd) => Self::v6(packet),
            _ => None,
        }
    }

    fn v4(packet: &'a [u8]) -> Option<Self> {
        let length = usize::from(packet.first()? & 0xf) * 4;
        let header = packet.get(..length).filter(|header| header.len() >= 20)?;
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let address = |at: usize| {
            IpAddr::from(Ipv4Addr::new(
                header[at],
                header[at + 1],
                header[at + 2],
                header[at + 3],
            ))
        };
        Some(Self {
            source: address(12),
            destination: address(16),
            protocol: header[9],
            ttl: header[8],
            header,
            payload: &packet[length..total.clamp(length, packet.len())],
            // More fragments, or an offset.
            fragment: u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0,
        })
    }

    fn v6(packet: &'a [u8]) -> Option<Self> {
        let header = packet.get(..IPV6_BYTES)?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let address = |at: usize| {
            <[u8; 16]>::try_from(&header[at..at + 16])
                .map(|bytes| IpAddr::from(Ipv6Addr::from(bytes)))
        };
        Some(Self {
            source: address(8).ok()?,
            destination: address(24).ok()?,
            protocol: header[6],
            ttl: header[7],
            header: &[],
            payload: &packet[IPV6_BYTES..(IPV6_BYTES + length).min(packet.len())],
            fragment: false,
        })
    }
}
