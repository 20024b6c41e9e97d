//! Parsing of untrusted frames, the same code in the kernel and under `cargo test`.
//!
//! Nothing here trusts a length, an offset or a version that the frame states. A frame that cannot
//! be balanced is not an error: [`Unbalanced`] names the decision, and the caller leaves the frame
//! as it is.

use core::hint::black_box;
use core::marker::PhantomData;
use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{Addr4, Addr6, Address, Be16, Protocol, Tuple};

/// Length of an Ethernet header, the only link layer handled.
pub const ETHERNET_LEN: usize = 14;
/// Length of an IPv6 header without extensions.
pub const IPV6_LEN: usize = 40;
/// Extension headers walked before a packet is left alone.
const EXTENSION_HEADERS_MAX: usize = 4;
/// Furthest offset of a transport header, in bytes from the start of the frame. A power of two less
/// one, so that programs bound an offset by masking it.
pub const TRANSPORT_OFFSET_MAX: usize = 0x7ff;

/// EtherTypes (IEEE 802), network order as the header holds them.
pub mod ethertype {
    use crate::Be16;
    /// IPv4.
    pub const IPV4: Be16 = Be16::new(0x0800);
    /// IPv6.
    pub const IPV6: Be16 = Be16::new(0x86dd);
    /// IEEE 802.1Q tag.
    pub const VLAN: Be16 = Be16::new(0x8100);
    /// IEEE 802.1ad service tag.
    pub const VLAN_SERVICE: Be16 = Be16::new(0x88a8);
}

/// The readable bytes of a frame, from its link-layer header of `LINK_LEN` bytes on: Ethernet, or none
/// on devices that carry bare IP packets.
#[derive(Clone, Copy)]
pub struct Frame<'a, const LINK_LEN: usize = ETHERNET_LEN> {
    start: *const u8,
    end: *const u8,
    /// Length of the whole frame.
    len: usize,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a, const LINK_LEN: usize> Frame<'a, LINK_LEN> {
    /// A frame of `len` bytes, of which those between two addresses can be read.
    ///
    /// # Safety
    /// All bytes from `start` up to but without `end` are readable for `'a`.
    #[inline(always)]
    pub unsafe fn new(start: *const u8, end: *const u8, len: usize) -> Self {
        Self {
            start,
            end,
            len,
            bytes: PhantomData,
        }
    }

    /// A frame in a byte slice.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        let range = bytes.as_ptr_range();
        // SAFETY: the range of a slice is readable for the slice's lifetime.
        unsafe { Self::new(range.start, range.end, bytes.len()) }
    }

    /// True if a packet of this length fits behind the link-layer header.
    #[inline(always)]
    fn holds(&self, packet_len: u32) -> bool {
        LINK_LEN + packet_len as usize <= self.len
    }

    /// Reads a header at `offset` bytes, or nothing if the frame ends before it does.
    #[inline(always)]
    pub fn read<T: Pod>(&self, offset: usize) -> Option<T> {
        let header = self.start.wrapping_add(offset);
        if header.wrapping_add(size_of::<T>()) > self.end {
            return None;
        }
        let header = header.cast::<T>();
        #[cfg(target_arch = "bpf")]
        // SAFETY: in bounds by the check above, which the verifier demands as well. eBPF loads of up
        // to eight bytes work at any address on the architectures we build for.
        let value = unsafe { header.read() };
        #[cfg(not(target_arch = "bpf"))]
        // SAFETY: in bounds by the check above, and `T` is valid for every bit pattern.
        let value = unsafe { header.read_unaligned() };
        Some(value)
    }
}

/// Ethernet header (IEEE 802.3).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct EthernetHeader {
    /// Receiver.
    pub destination: [u8; 6],
    /// Sender.
    pub source: [u8; 6],
    /// Protocol of the payload.
    pub ethertype: Be16,
}

/// IPv4 header without options (RFC 791).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Ipv4Header {
    /// Version in the high, header length in words in the low half.
    pub version_ihl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Length of header and payload.
    pub total_len: Be16,
    /// Identification of the datagram, for reassembly.
    pub id: Be16,
    /// Three flag bits and the fragment offset in eight-byte units.
    pub fragment: Be16,
    /// Hops left.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: Protocol,
    /// Header checksum, as it lies in memory.
    pub checksum: u16,
    /// Source.
    pub source: Addr4,
    /// Destination.
    pub destination: Addr4,
}

/// IPv6 header (RFC 8200).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Ipv6Header {
    /// Version, traffic class and flow label; the version is the high half of the first byte.
    pub version_class_flow: [u8; 4],
    /// Length of everything behind this header.
    pub payload_len: Be16,
    /// Type of the next header.
    pub next_header: Protocol,
    /// Hops left.
    pub hop_limit: u8,
    /// Source.
    pub source: Addr6,
    /// Destination.
    pub destination: Addr6,
}

/// TCP header without options (RFC 9293).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct TcpHeader {
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// Sequence number, as it lies in memory.
    pub sequence: [u16; 2],
    /// Acknowledgement number, as it lies in memory.
    pub acknowledgement: [u16; 2],
    /// Header length in words in the high half.
    pub data_offset: u8,
    /// Flags, see [`crate::tcp`].
    pub flags: u8,
    /// Receive window.
    pub window: Be16,
    /// Checksum, as it lies in memory.
    pub checksum: u16,
    /// Urgent pointer.
    pub urgent: Be16,
}

/// UDP header (RFC 768).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct UdpHeader {
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// Length of header and payload.
    pub len: Be16,
    /// Checksum, as it lies in memory; zero for none.
    pub checksum: u16,
}

/// Type, code and checksum of ICMP and ICMPv6 (RFC 792, RFC 4443).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct IcmpHeader {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum, as it lies in memory.
    pub checksum: u16,
}

/// The first two bytes of most IPv6 extension headers (RFC 6564).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ExtensionHeader {
    next_header: Protocol,
    len_eight_bytes: u8,
}

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
    /// Addresses, ports and protocol.
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
    match ethernet.ethertype {
        ethertype::VLAN | ethertype::VLAN_SERVICE => Err(Unbalanced::Vlan),
        other => Ok(other),
    }
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
    const HOP_BY_HOP: Protocol = Protocol(0);
    const ROUTING: Protocol = Protocol(43);
    const FRAGMENT: Protocol = Protocol(44);
    const AUTHENTICATION: Protocol = Protocol(51);
    const DESTINATION_OPTIONS: Protocol = Protocol(60);
    let mut offset = LINK_LEN + IPV6_LEN;
    let mut header = first;
    for _ in 0..EXTENSION_HEADERS_MAX {
        match header {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {}
            FRAGMENT => return Err(Unbalanced::Fragment),
            _ => break,
        }
        let extension: ExtensionHeader = frame.read(offset).ok_or(Unbalanced::Malformed)?;
        offset += 8 + usize::from(extension.len_eight_bytes) * 8;
        header = extension.next_header;
    }
    match header {
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | AUTHENTICATION => {
            Err(Unbalanced::ExtensionHeader)
        }
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

/// The option of an opening TCP segment that limits the other side's segments (RFC 9293, 3.7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSize {
    /// Offset of the size from the start of the frame.
    pub offset: u16,
    /// Bytes of a segment behind its header.
    pub size: Be16,
}

/// The largest segment that a TCP segment with SYN offers to take, if it says so.
#[inline(always)]
pub fn max_segment_size<A: Address, const LINK_LEN: usize>(
    frame: &Frame<'_, LINK_LEN>,
    packet: &Packet<A>,
) -> Option<SegmentSize> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const MAX_SEGMENT_SIZE: u8 = 2;
    /// Systems put it first; forty bytes hold twenty options of two.
    const OPTIONS_MAX: usize = 20;
    /// More than the options' length can be, and a mask.
    const OPTIONS_MASK: usize = 63;
    if packet.tuple.protocol != Protocol::TCP || packet.tcp_flags & crate::tcp::SYN == 0 {
        return None;
    }
    let transport = usize::from(packet.transport_offset) & TRANSPORT_OFFSET_MAX;
    let tcp: TcpHeader = frame.read(transport)?;
    let options = transport + size_of::<TcpHeader>();
    let len = (usize::from(tcp.data_offset >> 4) * 4).checked_sub(size_of::<TcpHeader>())?;
    let mut at = 0;
    for _ in 0..OPTIONS_MAX {
        if at >= len {
            return None;
        }
        let kind: u8 = frame.read(options + at)?;
        let option_len = match kind {
            END => return None,
            NO_OPERATION => 1,
            _ => usize::from(frame.read::<u8>(options + at + 1)?),
        };
        let next = at + option_len;
        if next > len || (kind != NO_OPERATION && option_len < 2) {
            return None;
        }
        if kind == MAX_SEGMENT_SIZE && option_len == 4 {
            let offset = options + at + 2;
            return frame.read(offset).map(|size| SegmentSize {
                offset: offset as u16,
                size,
            });
        }
        // Changes nothing, and the compiler must not know: verifiers before 6.4 look at every way
        // through the options, a million instructions of them, unless the bounds at the loop's head
        // are the same each time.
        at = black_box(next) & OPTIONS_MASK;
    }
    None
}

#[cfg(test)]
mod tests;
