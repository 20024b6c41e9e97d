//! The five-tuple of a packet, exactly as the packet carries it.

use bytemuck::{Pod, Zeroable};

use crate::layout::{layout, plain_generic};
use crate::{Addr4, Addr6, Address, Be16};

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers").
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Pod, Zeroable)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Options for every hop, the first header behind IPv6's if there are any (RFC 8200).
    pub const HOP_BY_HOP: Self = Self(0);
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: Self = Self(1);
    /// IPv4 in IP (RFC 2003).
    pub const IPIP: Self = Self(4);
    /// TCP (RFC 9293).
    pub const TCP: Self = Self(6);
    /// UDP (RFC 768).
    pub const UDP: Self = Self(17);
    /// IPv6 in IP (RFC 2473).
    pub const IPV6: Self = Self(41);
    /// A header of IPv6 that names hops (RFC 8200).
    pub const ROUTING: Self = Self(43);
    /// The header of a fragment of IPv6 (RFC 8200).
    pub const FRAGMENT: Self = Self(44);
    /// Generic routing encapsulation (RFC 2784).
    pub const GRE: Self = Self(47);
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: Self = Self(58);
    /// Options for the receiver of an IPv6 packet (RFC 8200).
    pub const DESTINATION_OPTIONS: Self = Self(60);

    /// True if behind IPv6's header this is a header that extends it, and no transport protocol.
    #[inline(always)]
    pub fn extends_ipv6(self) -> bool {
        matches!(
            self,
            Self::HOP_BY_HOP | Self::ROUTING | Self::FRAGMENT | Self::DESTINATION_OPTIONS
        )
    }
}

/// Source, destination, ports and protocol of one direction of a connection.
///
/// Key of the connection table. ICMP puts type and code into the ports, see
/// [`crate::packet::Packet`].
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

/// A [`Tuple`] as whole words, which is how the kernel hashes it. Built this way because a word read
/// back right after its parts were written makes the processor wait for them.
#[repr(C)]
#[derive(Clone, Copy)]
struct Words<A> {
    source: A,
    destination: A,
    ports: u32,
    protocol: u32,
}

impl<A: Address> Tuple<A> {
    /// A tuple out of both ports as they lie side by side in a header, the source first.
    #[inline(always)]
    pub fn new(source: A, destination: A, ports: u32, protocol: Protocol) -> Self {
        bytemuck::cast(Words {
            source,
            destination,
            ports,
            protocol: u32::from_ne_bytes([protocol.0, 0, 0, 0]),
        })
    }

    /// Becomes the tuple that [`Tuple::new`] makes, in place: stack is scarce in eBPF.
    #[inline(always)]
    pub fn set(&mut self, source: A, destination: A, ports: u32, protocol: Protocol) {
        let words: &mut Words<A> = bytemuck::cast_mut(self);
        words.source = source;
        words.destination = destination;
        words.ports = ports;
        words.protocol = u32::from_ne_bytes([protocol.0, 0, 0, 0]);
    }

    /// Becomes the tuple of a packet in the opposite direction of `other`'s.
    #[inline(always)]
    pub fn set_reversed(&mut self, other: &Self) {
        let ports = other.ports().rotate_left(16);
        self.set(other.destination, other.source, ports, other.protocol);
    }

    /// Both ports as they lie side by side in a header.
    #[inline(always)]
    pub fn ports(&self) -> u32 {
        let ([a, b], [c, d]) = (
            self.source_port.0.to_ne_bytes(),
            self.destination_port.0.to_ne_bytes(),
        );
        u32::from_ne_bytes([a, b, c, d])
    }

    /// The tuple of a packet in the opposite direction.
    #[inline(always)]
    #[must_use]
    pub fn reversed(&self) -> Self {
        let ports = self.ports().rotate_left(16);
        Self::new(self.destination, self.source, ports, self.protocol)
    }
}

plain_generic!(
    Tuple,
    fields4 = 2 * 4 + 2 + 2 + 1 + 3,
    fields6 = 2 * 16 + 2 + 2 + 1 + 3
);
plain_generic!(Words, fields4 = 2 * 4 + 4 + 4, fields6 = 2 * 16 + 4 + 4);
layout!(Protocol, size = 1);
layout!(Tuple<Addr4>, size = 16, destination @ 4, source_port @ 8, protocol @ 12);
layout!(Tuple<Addr6>, size = 40, destination @ 16, source_port @ 32, protocol @ 36);
