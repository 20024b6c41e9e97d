//! Parsing of untrusted frames, the same code in the kernel and under `cargo test`.
//!
//! Nothing here trusts a length, an offset or a version that the frame states. A frame that cannot
//! be balanced is not an error: [`Unbalanced`] names the decision, and the caller leaves the frame
//! as it is.

mod frame;
mod header;
mod segment_size;

use core::mem::size_of;

use crate::{Addr4, Addr6, Address, Be16, Protocol, Tuple};

pub use frame::Frame;
use header::ExtensionHeader;
pub use header::{
    ETHERNET_LEN, EthernetHeader, IPV6_LEN, IcmpHeader, Ipv4Header, Ipv6Header, TcpHeader,
    UdpHeader, VLAN_TAG_LEN, VlanTag, ethertype,
};
pub use segment_size::{SegmentSize, max_segment_size};

/// Extension headers walked before a packet is left alone.
const EXTENSION_HEADERS_MAX: usize = 4;
/// Furthest offset of a transport header, in bytes from the start of the frame. A power of two less
/// one, so that programs bound an offset by masking it.
pub const TRANSPORT_OFFSET_MAX: usize = 0x7ff;

/// Bytes of a frame that hold all headers, but for the most unusual ones.
pub const HEADERS_MAX: usize = 128;

/// Why a frame is not looked at further. None of them is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbalanced {
    /// Neither IPv4 nor IPv6: ARP, LLDP and the like.
    NotIp,
    /// Carries a VLAN tag; it belongs to a VLAN interface, whose own hooks see it.
    Vlan,
    /// Too short for its headers, or a header contradicts itself.
    Malformed,
    /// A fragment, first ones included: the stack reassembles.
    Fragment,
    /// Extension headers that hide the transport header, or too many of them.
    ExtensionHeader,
    /// A transport protocol without ports that we could balance.
    OtherTransport,
}

/// What the pipeline needs to know of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<A> {
    /// Addresses, ports and protocol. ICMP has no ports: the type stands in for the source port, the
    /// code for the destination port.
    pub tuple: Tuple<A>,
    /// Bytes from the network header to the end of the packet, as the header states it.
    pub len_bytes: u32,
    /// Offset of the transport header from the start of the frame.
    pub transport_offset: u16,
    /// TCP flags; zero for other protocols.
    pub tcp_flags: u8,
    /// TTL or hop limit.
    pub ttl: u8,
}

/// A parsed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// IPv4.
    V4(Packet<Addr4>),
    /// IPv6.
    V6(Packet<Addr6>),
}

/// Parses a frame.
pub fn parse(frame: &Frame<'_>) -> Result<Parsed, Unbalanced> {
    match network_protocol(frame)? {
        ethertype::IPV4 => Ok(Parsed::V4(parse_ipv4(frame)?)),
        ethertype::IPV6 => Ok(Parsed::V6(parse_ipv6(frame)?)),
        _ => Err(Unbalanced::NotIp),
    }
}

/// The EtherType of an untagged frame.
#[inline(always)]
pub fn network_protocol(frame: &Frame<'_>) -> Result<Be16, Unbalanced> {
    let ethernet: EthernetHeader = frame.read(0).ok_or(Unbalanced::Malformed)?;
    if is_tag(ethernet.ethertype) {
        return Err(Unbalanced::Vlan);
    }
    Ok(ethernet.ethertype)
}

/// The EtherType behind up to two VLAN tags, and the offset of what it names from the start of the
/// frame in bytes. `None` for a frame cut off before it.
///
/// Balancing leaves tagged frames alone ([`network_protocol`]); what must not leave a node is looked
/// for behind tags as well.
#[inline(always)]
pub fn network_header(frame: &Frame<'_>) -> Option<(Be16, usize)> {
    let ethernet: EthernetHeader = frame.read(0)?;
    if !is_tag(ethernet.ethertype) {
        return Some((ethernet.ethertype, ETHERNET_LEN));
    }
    let outer: VlanTag = frame.read(ETHERNET_LEN)?;
    if !is_tag(outer.ethertype) {
        return Some((outer.ethertype, ETHERNET_LEN + VLAN_TAG_LEN));
    }
    let inner: VlanTag = frame.read(ETHERNET_LEN + VLAN_TAG_LEN)?;
    Some((inner.ethertype, ETHERNET_LEN + 2 * VLAN_TAG_LEN))
}

#[inline(always)]
fn is_tag(ethertype: Be16) -> bool {
    matches!(ethertype, ethertype::VLAN | ethertype::VLAN_SERVICE)
}

/// Parses the IPv4 packet behind the link-layer header.
#[inline(always)]
pub fn parse_ipv4<const LINK_LEN: usize>(
    frame: &Frame<'_, LINK_LEN>,
) -> Result<Packet<Addr4>, Unbalanced> {
    const MORE_FRAGMENTS_AND_OFFSET: Be16 = Be16::new(0x3fff);
    let ip: Ipv4Header = frame.read(LINK_LEN).ok_or(Unbalanced::Malformed)?;
    let header_len = usize::from(ip.version_ihl & 0x0f) * 4;
    if ip.version_ihl >> 4 != 4 || header_len < size_of::<Ipv4Header>() {
        return Err(Unbalanced::Malformed);
    }
    if ip.fragment.0 & MORE_FRAGMENTS_AND_OFFSET.0 != 0 {
        return Err(Unbalanced::Fragment);
    }
    if ip.protocol == Protocol::ICMPV6 {
        return Err(Unbalanced::OtherTransport);
    }
    let total_len = u32::from(ip.total_len.get());
    let transport = parse_transport(frame, LINK_LEN + header_len, ip.protocol)?;
    if total_len < header_len as u32 + transport.len_min || !frame.holds(total_len) {
        return Err(Unbalanced::Malformed);
    }
    Ok(transport.packet(ip.source, ip.destination, ip.protocol, total_len, ip.ttl))
}

/// Parses the IPv6 packet behind the link-layer header.
#[inline(always)]
pub fn parse_ipv6<const LINK_LEN: usize>(
    frame: &Frame<'_, LINK_LEN>,
) -> Result<Packet<Addr6>, Unbalanced> {
    let ip: Ipv6Header = frame.read(LINK_LEN).ok_or(Unbalanced::Malformed)?;
    if ip.version_class_flow[0] >> 4 != 6 {
        return Err(Unbalanced::Malformed);
    }
    let (offset, protocol) = if is_transport(ip.next_header) {
        (LINK_LEN + IPV6_LEN, ip.next_header)
    } else {
        skip_extension_headers(frame, ip.next_header)?
    };
    if protocol == Protocol::ICMP {
        return Err(Unbalanced::OtherTransport);
    }
    let transport = parse_transport(frame, offset, protocol)?;
    let total_len = IPV6_LEN as u32 + u32::from(ip.payload_len.get());
    if total_len < (offset - LINK_LEN) as u32 + transport.len_min || !frame.holds(total_len) {
        return Err(Unbalanced::Malformed);
    }
    Ok(transport.packet(ip.source, ip.destination, protocol, total_len, ip.hop_limit))
}

/// What the network header alone tells of an IPv4 packet that [`parse_ipv4`] does not take: a fragment, or
/// one of a protocol without ports.
#[inline(always)]
pub fn network_only_ipv4(frame: &Frame<'_>) -> Option<Packet<Addr4>> {
    let ip: Ipv4Header = frame.read(ETHERNET_LEN)?;
    let transport = Transport::unknown(ip.protocol);
    let total_len = u32::from(ip.total_len.get());
    Some(transport.packet(ip.source, ip.destination, ip.protocol, total_len, ip.ttl))
}

/// What the network header alone tells of an IPv6 packet that [`parse_ipv6`] does not take. Its protocol is
/// that of the first header behind, which may be an extension.
#[inline(always)]
pub fn network_only_ipv6(frame: &Frame<'_>) -> Option<Packet<Addr6>> {
    let ip: Ipv6Header = frame.read(ETHERNET_LEN)?;
    let transport = Transport::unknown(ip.next_header);
    let total_len = IPV6_LEN as u32 + u32::from(ip.payload_len.get());
    Some(transport.packet(
        ip.source,
        ip.destination,
        ip.next_header,
        total_len,
        ip.hop_limit,
    ))
}

/// Bytes from the start of a frame to the end of the last header that is read of it, options included,
/// where the readable bytes tell; [`HEADERS_MAX`] where they do not, and for what is neither IPv4 nor
/// IPv6. `bare_protocol` is the EtherType of a frame that has no link-layer header.
#[inline(always)]
pub fn headers_len<const LINK_LEN: usize>(
    frame: &Frame<'_, LINK_LEN>,
    bare_protocol: Be16,
) -> usize {
    let protocol = if LINK_LEN == 0 {
        bare_protocol
    } else {
        let ethernet = frame.read(0);
        ethernet.map_or(Be16(0), |it: EthernetHeader| it.ethertype)
    };
    let transport = match protocol {
        ethertype::IPV4 => frame.read(LINK_LEN).map(|ip: Ipv4Header| {
            let header_len = usize::from(ip.version_ihl & 0x0f) * 4;
            (LINK_LEN + header_len, ip.protocol)
        }),
        ethertype::IPV6 => frame
            .read(LINK_LEN)
            .map(|ip: Ipv6Header| (LINK_LEN + IPV6_LEN, ip.next_header)),
        _ => None,
    };
    match transport {
        Some((offset, Protocol::TCP)) => {
            frame.read(offset).map_or(HEADERS_MAX, |tcp: TcpHeader| {
                offset + usize::from(tcp.data_offset >> 4) * 4
            })
        }
        Some((offset, Protocol::UDP)) => offset + size_of::<UdpHeader>(),
        Some((offset, Protocol::ICMP | Protocol::ICMPV6)) => offset + size_of::<IcmpHeader>(),
        Some((offset, other)) if !other.extends_ipv6() => offset,
        _ => HEADERS_MAX,
    }
}

#[inline(always)]
fn is_transport(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::TCP | Protocol::UDP | Protocol::ICMPV6)
}

/// Walks hop-by-hop, routing and destination options (RFC 8200, section 4) to the transport header.
#[inline(always)]
fn skip_extension_headers<const LINK_LEN: usize>(
    frame: &Frame<'_, LINK_LEN>,
    first: Protocol,
) -> Result<(usize, Protocol), Unbalanced> {
    const AUTHENTICATION: Protocol = Protocol(51);
    let mut offset = LINK_LEN + IPV6_LEN;
    let mut header = first;
    for _ in 0..EXTENSION_HEADERS_MAX {
        match header {
            Protocol::FRAGMENT => return Err(Unbalanced::Fragment),
            extension if extension.extends_ipv6() => {}
            _ => break,
        }
        let extension: ExtensionHeader = frame.read(offset).ok_or(Unbalanced::Malformed)?;
        offset += 8 + usize::from(extension.len_eight_bytes) * 8;
        header = extension.next_header;
    }
    match header {
        AUTHENTICATION => Err(Unbalanced::ExtensionHeader),
        extension if extension.extends_ipv6() => Err(Unbalanced::ExtensionHeader),
        _ if offset > TRANSPORT_OFFSET_MAX => Err(Unbalanced::ExtensionHeader),
        other => Ok((offset, other)),
    }
}

/// Ports and flags. ICMP has no ports: type and code stand in for them, the type as the source port
/// and the code as the destination port.
struct Transport {
    /// As they lie side by side in the header.
    ports: u32,
    tcp_flags: u8,
    offset: u16,
    len_min: u32,
}

#[inline(always)]
fn parse_transport<const LINK_LEN: usize>(
    frame: &Frame<'_, LINK_LEN>,
    offset: usize,
    protocol: Protocol,
) -> Result<Transport, Unbalanced> {
    let transport = |ports, tcp_flags, len_min: usize| Transport {
        ports,
        tcp_flags,
        offset: offset as u16,
        len_min: len_min as u32,
    };
    match protocol {
        Protocol::TCP => {
            let tcp: TcpHeader = frame.read(offset).ok_or(Unbalanced::Malformed)?;
            if tcp.data_offset >> 4 < 5 {
                return Err(Unbalanced::Malformed);
            }
            let ports = frame.read(offset).ok_or(Unbalanced::Malformed)?;
            Ok(transport(ports, tcp.flags, size_of::<TcpHeader>()))
        }
        Protocol::UDP => {
            let _: UdpHeader = frame.read(offset).ok_or(Unbalanced::Malformed)?;
            let ports = frame.read(offset).ok_or(Unbalanced::Malformed)?;
            Ok(transport(ports, 0, size_of::<UdpHeader>()))
        }
        Protocol::ICMP | Protocol::ICMPV6 => {
            let icmp: IcmpHeader = frame.read(offset).ok_or(Unbalanced::Malformed)?;
            let ports = u32::from_ne_bytes([0, icmp.kind, 0, icmp.code]);
            Ok(transport(ports, 0, size_of::<IcmpHeader>()))
        }
        _ => Err(Unbalanced::OtherTransport),
    }
}

impl Transport {
    /// No ports, no flags, nowhere. ICMP has the type that is reserved (255): zero would be an answer.
    #[inline(always)]
    fn unknown(protocol: Protocol) -> Self {
        let ports = match protocol {
            Protocol::ICMP | Protocol::ICMPV6 => u32::from_ne_bytes([0, u8::MAX, 0, 0]),
            _ => 0,
        };
        Self {
            ports,
            tcp_flags: 0,
            offset: 0,
            len_min: 0,
        }
    }

    #[inline(always)]
    fn packet<A: Address>(
        self,
        source: A,
        destination: A,
        protocol: Protocol,
        len_bytes: u32,
        ttl: u8,
    ) -> Packet<A> {
        Packet {
            tuple: Tuple::new(source, destination, self.ports, protocol),
            len_bytes,
            transport_offset: self.offset,
            tcp_flags: self.tcp_flags,
            ttl,
        }
    }
}

impl<A: Address> Packet<A> {
    /// True if a service can have this packet's protocol and it names both ports.
    ///
    /// TCP and UDP reserve port zero; such packets are left to the stack.
    #[inline(always)]
    pub fn is_balanceable(&self) -> bool {
        matches!(self.tuple.protocol, Protocol::TCP | Protocol::UDP)
            && self.tuple.destination_port.0 != 0
            && self.tuple.source_port.0 != 0
    }
}

#[cfg(test)]
mod tests;
