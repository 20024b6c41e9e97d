//! The frames that are fed, all of one length.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytemuck::{Zeroable, bytes_of};
use ebpf_abi::bench::FRAME_LEN;
use ebpf_abi::checksum;
use ebpf_abi::packet::{
    ETHERNET_LEN, EthernetHeader, IPV6_LEN, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader, ethertype,
};
use ebpf_abi::{Address, Be16, Protocol};

use super::network::FRONTEND_PORT;

/// A frame as the program finds it.
pub type Frame = [u8; FRAME_LEN];

const NODE_MAC: [u8; 6] = [2, 0, 0, 1, 0, 1];
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 1, 0, 2];
const HOPS: u8 = 64;

/// A transport header as bytes, its checksum still zero.
pub enum Segment {
    /// TCP with these flags.
    Tcp(u8),
    /// UDP.
    Udp,
}

impl Segment {
    fn protocol(&self) -> Protocol {
        match self {
            Self::Tcp(_) => Protocol::TCP,
            Self::Udp => Protocol::UDP,
        }
    }

    /// Header and payload, which fill the frame.
    fn bytes(&self, source_port: u16, len: usize, pseudo_sum: u32) -> Vec<u8> {
        let (source_port, destination_port) = (Be16::new(source_port), Be16::new(FRONTEND_PORT));
        let (mut bytes, checksum_offset) = match self {
            Self::Tcp(flags) => {
                let tcp = TcpHeader {
                    source_port,
                    destination_port,
                    data_offset: 5 << 4,
                    flags: *flags,
                    window: Be16::new(0xffff),
                    ..Zeroable::zeroed()
                };
                (bytes_of(&tcp).to_vec(), 16)
            }
            Self::Udp => {
                let udp = UdpHeader {
                    source_port,
                    destination_port,
                    len: Be16::new(len as u16),
                    checksum: 0,
                };
                (bytes_of(&udp).to_vec(), 6)
            }
        };
        bytes.resize(len, 0xa5);
        let checksum = checksum::compute(&bytes, pseudo_sum);
        bytes[checksum_offset..checksum_offset + 2].copy_from_slice(&checksum.to_ne_bytes());
        bytes
    }
}

/// The sum of the pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1).
fn pseudo_sum<A: Address>(source: A, destination: A, protocol: Protocol, len: usize) -> u32 {
    source.checksum_words()
        + destination.checksum_words()
        + u32::from(Be16::new(protocol.0.into()).0)
        + u32::from(Be16::new(len as u16).0)
}

fn frame(ethertype: Be16, network: &[u8], rest: &[u8]) -> Frame {
    let ethernet = EthernetHeader {
        destination: NODE_MAC,
        source: ROUTER_MAC,
        ethertype,
    };
    let bytes = [bytes_of(&ethernet), network, rest].concat();
    bytes.try_into().expect("frames are filled to their length")
}

/// An IPv4 packet to a frontend's port.
pub fn ipv4(source: (Ipv4Addr, u16), destination: Ipv4Addr, segment: &Segment) -> Frame {
    let len = FRAME_LEN - ETHERNET_LEN - size_of::<Ipv4Header>();
    let mut ip = Ipv4Header {
        version_ihl: 0x45,
        tos: 0,
        total_len: Be16::new((FRAME_LEN - ETHERNET_LEN) as u16),
        id: Be16::new(1),
        fragment: Be16::new(0x4000),
        ttl: HOPS,
        protocol: segment.protocol(),
        checksum: 0,
        source: source.0.into(),
        destination: destination.into(),
    };
    ip.checksum = checksum::compute(bytes_of(&ip), 0);
    let sum = pseudo_sum(ip.source, ip.destination, ip.protocol, len);
    frame(
        ethertype::IPV4,
        bytes_of(&ip),
        &segment.bytes(source.1, len, sum),
    )
}

/// An IPv6 packet to a frontend's port.
pub fn ipv6(source: (Ipv6Addr, u16), destination: Ipv6Addr, segment: &Segment) -> Frame {
    let len = FRAME_LEN - ETHERNET_LEN - IPV6_LEN;
    let ip = Ipv6Header {
        version_class_flow: [0x60, 0, 0, 0],
        payload_len: Be16::new(len as u16),
        next_header: segment.protocol(),
        hop_limit: HOPS,
        source: source.0.into(),
        destination: destination.into(),
    };
    let sum = pseudo_sum(ip.source, ip.destination, ip.next_header, len);
    frame(
        ethertype::IPV6,
        bytes_of(&ip),
        &segment.bytes(source.1, len, sum),
    )
}

/// An ARP request (RFC 826).
pub fn arp() -> Frame {
    const ARP: Be16 = Be16::new(0x0806);
    const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
    let mut rest = [0; FRAME_LEN - ETHERNET_LEN - REQUEST.len()];
    rest[..6].copy_from_slice(&ROUTER_MAC);
    frame(ARP, &REQUEST, &rest)
}
