//! The connection table: what the packets of a known connection are turned into.
//!
//! A connection through a frontend has two entries, one per direction, each keyed by the
//! [`Tuple`](crate::Tuple) that a packet of that direction carries when it reaches the hook. An
//! entry says what to write into the packet and, if it leaves the node again, where to send it, so
//! that one look-up is all a packet of an established connection costs.

use bytemuck::{Pod, Zeroable};

use crate::layout::{layout, plain_generic};
use crate::{Addr4, Addr6, Address, BackendId, ServiceId, Tuple};

/// Neighbour a rewritten packet is sent to, as the routing table answered last.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct NextHop {
    /// Interface to send from; zero while no neighbour is known.
    pub ifindex: u32,
    /// Ethernet destination.
    pub destination_mac: [u8; 6],
    /// Ethernet source.
    pub source_mac: [u8; 6],
}

/// What an entry is for, and thereby which hook may apply it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct ConntrackKind(pub u8);

impl ConntrackKind {
    /// Client to frontend, backend on this node: the destination is rewritten on the way in.
    pub const TO_LOCAL: Self = Self(1);
    /// Client to frontend, backend elsewhere: source and destination are rewritten and the packet
    /// is sent on.
    pub const TO_REMOTE: Self = Self(2);
    /// Backend elsewhere back to the client: rewritten and sent on.
    pub const FROM_REMOTE: Self = Self(3);
    /// Backend on this node, or one that a pod of this node reached directly, back to the client:
    /// the source is rewritten on the way out.
    pub const FROM_BACKEND: Self = Self(4);
}

/// Value of `CONNTRACK4` and `CONNTRACK6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConntrackValue<A> {
    /// Packets of this direction.
    pub packets: u64,
    /// Bytes of this direction, counted from the network header.
    pub bytes: u64,
    /// Addresses and ports to write.
    pub rewrite: Tuple<A>,
    /// Where to send packets that leave the node again.
    pub next_hop: NextHop,
    /// `DatapathConfig::generation` the entry was checked against; zero if it never was.
    pub generation: u32,
    /// Low 32 bits of `jiffies` when the entry was last checked; at most one second old on a busy
    /// connection, so it also tells how long the connection has been idle.
    pub checked_at: u32,
    /// Service of the frontend.
    pub service: ServiceId,
    /// Backend chosen for the connection.
    pub backend: BackendId,
    /// What to add to a checksum for the change of addresses (RFC 1624), folded.
    pub address_delta: u16,
    /// Likewise for the change of ports.
    pub port_delta: u16,
    /// Role of this entry.
    pub kind: ConntrackKind,
    /// TCP flags seen in this direction, see [`crate::tcp`].
    pub tcp_flags: u8,
    /// Zero.
    pub _pad: u16,
    /// Low 32 bits of `jiffies` at the last flow event.
    pub reported_at: u32,
    /// Zero.
    pub _pad2: u32,
    /// Zero.
    #[cfg(feature = "wider-layout")]
    pub _wider: [u64; 2],
}

impl<A: Address> ConntrackValue<A> {
    /// True once either side closed the connection as far as this direction shows.
    #[inline(always)]
    pub fn is_closing(&self) -> bool {
        self.tcp_flags & (crate::tcp::FIN | crate::tcp::RST) != 0
    }
}

/// Bytes that the feature `wider-layout` adds.
const WIDER: usize = if cfg!(feature = "wider-layout") {
    16
} else {
    0
};

plain_generic!(
    ConntrackValue,
    fields4 = 16 + 16 + 16 + 16 + 8 + 8 + WIDER,
    fields6 = 16 + 40 + 16 + 16 + 8 + 8 + WIDER
);
layout!(NextHop, size = 16, destination_mac @ 4, source_mac @ 10);
layout!(ConntrackKind, size = 1);
layout!(ConntrackValue<Addr4>, size = 80 + WIDER, rewrite @ 16, next_hop @ 32, generation @ 48, kind @ 68, reported_at @ 72);
layout!(ConntrackValue<Addr6>, size = 104 + WIDER, rewrite @ 16, next_hop @ 56, generation @ 72, kind @ 92, reported_at @ 96);
