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
