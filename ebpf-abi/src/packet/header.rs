//! The headers of a frame as they lie on the wire.

use bytemuck::{Pod, Zeroable};

use crate::{Addr4, Addr6, Be16, Protocol};

/// Length of an Ethernet header, the only link layer handled.
pub const ETHERNET_LEN: usize = 14;
/// Length of a VLAN tag, from the EtherType that announces it to the one it carries.
pub const VLAN_TAG_LEN: usize = 4;
/// Length of an IPv6 header without extensions.
pub const IPV6_LEN: usize = 40;

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

/// What follows the EtherType that announces a VLAN tag (IEEE 802.1Q).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct VlanTag {
    /// Priority, drop eligibility and VLAN identifier.
    pub control: Be16,
    /// Protocol of the payload, or of one more tag.
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
pub(super) struct ExtensionHeader {
    pub(super) next_header: Protocol,
    pub(super) len_eight_bytes: u8,
}
