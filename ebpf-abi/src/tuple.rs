//! The five-tuple of a packet, exactly as the packet carries it.

use bytemuck::{Pod, Zeroable};

use crate::layout::{layout, plain_generic};
use crate::{Addr4, Addr6, Address, Be16};

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers").
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Pod, Zeroable)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: Self = Self(1);
    /// TCP (RFC 9293).
    pub const TCP: Self = Self(6);
    /// UDP (RFC 768).
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: Self = Self(58);
}

/// Source, destination, ports and protocol of one direction of a connection.
///
/// Key of the connection table. ICMP puts type and code into the ports, see
/// [`crate::packet::Transport`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Zero, so that keys compare equal.
    pub _pad: [u8; 3],
}

impl<A: Address> Tuple<A> {
    /// The tuple of a packet in the opposite direction.
    #[inline(always)]
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
            _pad: [0; 3],
        }
    }
}

plain_generic!(
    Tuple,
    fields4 = 2 * 4 + 2 + 2 + 1 + 3,
    fields6 = 2 * 16 + 2 + 2 + 1 + 3
);
layout!(Protocol, size = 1);
layout!(Tuple<Addr4>, size = 16, destination @ 4, source_port @ 8, protocol @ 12);
layout!(Tuple<Addr6>, size = 40, destination @ 16, source_port @ 32, protocol @ 36);
