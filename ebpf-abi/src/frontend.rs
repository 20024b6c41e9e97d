//! What a client dials: address, port and protocol of a service.

use bytemuck::{Pod, Zeroable};

use crate::layout::{layout, plain_generic};
use crate::{Addr4, Addr6, Address, Be16, Protocol};

/// Number of a set of backends that frontends share; names its Maglev table. Zero is not used.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Pod, Zeroable)]
pub struct ServiceId(pub u32);

/// Key of `FRONTENDS4` and `FRONTENDS6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrontendKey<A> {
    /// Virtual address, or an address of the node for a NodePort.
    pub address: A,
    /// Port the client dials.
    pub port: Be16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Zero.
    pub _pad: u8,
}

/// A [`FrontendKey`] as whole words; see [`Tuple::new`](crate::Tuple::new).
#[repr(C)]
#[derive(Clone, Copy)]
struct Words<A> {
    address: A,
    port_protocol: u32,
}

impl<A: Address> FrontendKey<A> {
    /// Builds a key with its padding zeroed.
    #[inline(always)]
    pub fn new(address: A, port: Be16, protocol: Protocol) -> Self {
        let [a, b] = port.0.to_ne_bytes();
        let port_protocol = u32::from_ne_bytes([a, b, protocol.0, 0]);
        bytemuck::cast(Words {
            address,
            port_protocol,
        })
    }
}

/// Value of `FRONTENDS4` and `FRONTENDS6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FrontendValue {
    /// Key of the service's table in `MAGLEV`.
    pub service: ServiceId,
    /// Bits of [`FrontendValue::INTERNAL`].
    pub flags: u32,
}

impl FrontendValue {
    /// Reachable from pods and processes of the cluster only (a ClusterIP).
    pub const INTERNAL: u32 = 1;
    /// The same port of every other node is this frontend as well, to pods and processes of this
    /// node: a NodePort.
    pub const NODE_PORT: u32 = 2;
}

/// Words of 64 bits in `FRONTEND_BITS`. With 20,000 frontends one packet in 26 for none of them is
/// taken for one that may be.
pub const FRONTEND_WORDS: usize = 8_192;

/// Where `FRONTEND_BITS` notes a frontend with this address and port: word and bit within it.
///
/// A clear bit says that there is no such frontend; a set one that there may be. Two multiplications
/// by odd numbers of no pattern and the upper bits of the outcome: cheap, because the packets of
/// everybody else's traffic pay for it, and good enough that addresses in a row set bits apart.
#[inline(always)]
pub fn frontend_bit<A: Address>(address: A, port: Be16) -> (u32, u64) {
    const BITS: u32 = (FRONTEND_WORDS * 64).trailing_zeros();
    let [a, b, c, d] = address.widen().0.map(u64::from);
    let hash = (a | b << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (c | d << 32);
    let hash = (hash ^ u64::from(port.0)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let position = (hash >> (64 - BITS)) as u32;
    (position / 64, 1 << (position % 64))
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn bits_of_a_whole_cluster_leave_most_clear() {
        let services = (0..20_000_u32).map(|n| {
            let address = Addr4::from(Ipv4Addr::from(0x0a60_0000 + n));
            frontend_bit(address, Be16::new([80, 443, 8080][n as usize % 3]))
        });
        let nodes = (0..500).map(|n| {
            let address = Addr4::from(Ipv4Addr::new(192, 0, 2, 1));
            frontend_bit(address, Be16::new(30_000 + n))
        });
        let six = (0..1_000_u16).map(|n| {
            let address = Ipv6Addr::new(0x2001, 0xdb8, n % 8, 0, 0, 0, 0, n);
            frontend_bit(Addr6::from(address), Be16::new(80))
        });
        let set: BTreeSet<_> = services.chain(nodes).chain(six).collect();
        assert!(
            set.iter()
                .all(|(word, _)| (*word as usize) < FRONTEND_WORDS)
        );
        // Random bits would be 21,060.
        assert!(
            set.len() > 20_500,
            "{} bits for 21,500 frontends",
            set.len()
        );
    }
}

plain_generic!(
    FrontendKey,
    fields4 = 4 + 2 + 1 + 1,
    fields6 = 16 + 2 + 1 + 1
);
plain_generic!(Words, fields4 = 4 + 4, fields6 = 16 + 4);
layout!(ServiceId, size = 4);
layout!(FrontendKey<Addr4>, size = 8, port @ 4, protocol @ 6);
layout!(FrontendKey<Addr6>, size = 20, port @ 16, protocol @ 18);
layout!(FrontendValue, size = 8, flags @ 4);
