//! Encrypted traffic of pods past the node's stack: from a pod's interface straight into the WireGuard
//! device, and what was decrypted straight to the pod's interface.
//!
//! Only if `encryption.hostRouting` asks for it, as netfilter sees nothing of such packets. Whatever
//! is out of the ordinary takes the way through the stack: what is at the end of its hops or too large
//! is answered there, and options are looked at.

use core::mem::size_of;

use aya_ebpf::bindings::TC_ACT_REDIRECT;
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_redirect_neigh};
use ebpf_abi::packet::{ETHERNET_LEN, Packet};
use ebpf_abi::{DatapathConfig, DropReason};

use crate::access::{count, settings};
use crate::balance::Verdict;
use crate::encryption::receiver::Receiver;
use crate::family::Ip;
use crate::hook::{BareSkb, Skb};
use crate::steps::route::{self, NeighbourAddress};
use crate::steps::translate;

/// What became of a packet. A number, as functions that are not inlined return one.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Way {
    /// Through the stack; nothing was changed.
    Stack,
    /// Past it.
    Redirected,
    /// It could not be written to.
    Dropped,
}

impl From<Way> for Verdict {
    #[inline(always)]
    fn from(way: Way) -> Self {
        match way {
            Way::Stack => Self::Pass,
            Way::Redirected => Self::Redirect(TC_ACT_REDIRECT as u32),
            Way::Dropped => Self::Drop,
        }
    }
}

#[inline(always)]
fn active() -> Option<&'static DatapathConfig> {
    settings().filter(|config| config.flags & DatapathConfig::BPF_HOST_ROUTING != 0)
}

/// Sends what a pod sends to a pod of a peer into the device.
#[inline(always)]
pub fn into_device<A: Ip>(skb: &Skb<'_>, packet: &Packet<A>, receiver: Receiver) -> Way {
    active().map_or(Way::Stack, |config| encrypt(skb, packet, receiver, config))
}

#[inline(never)]
fn encrypt<A: Ip>(
    skb: &Skb<'_>,
    packet: &Packet<A>,
    receiver: Receiver,
    config: &DatapathConfig,
) -> Way {
    let receiver = receiver.or_look_up(&packet.tuple.destination);
    if !receiver.is_pod_of_peer()
        || config.encrypted_ifindex == 0
        || skb.segment_len() > config.encrypted_mtu_least
        || !is_ordinary(packet, ETHERNET_LEN)
        // The stack would not pass on what a pod sends as the node, and peers would take it for that.
        || !packet.tuple.source.is_own_pod()
    {
        return Way::Stack;
    }
    if let Err(reason) = translate::skb_ttl(skb, packet) {
        return dropped(reason);
    }
    // SAFETY: takes numbers alone. An interface that is gone is found so when the kernel acts on it.
    unsafe { bpf_redirect(config.encrypted_ifindex, 0) };
    Way::Redirected
}

/// Sends what was decrypted for a pod of this node to its interface.
#[inline(always)]
pub fn to_pod<A: Ip>(skb: &BareSkb<'_>, packet: &Packet<A>) -> Way {
    if active().is_none() {
        return Way::Stack;
    }
    deliver(skb, packet)
}

#[inline(never)]
fn deliver<A: Ip>(skb: &BareSkb<'_>, packet: &Packet<A>) -> Way {
    if !packet.tuple.destination.is_own_pod() || !is_ordinary(packet, 0) {
        return Way::Stack;
    }
    let mut neighbour = NeighbourAddress::default();
    let ifindex = route::next_hop(skb, &packet.tuple, skb.segment_len(), &mut neighbour);
    if ifindex == 0 {
        return Way::Stack;
    }
    // The neighbour layer fills it in, asking for the link-layer address if it must.
    let Some(skb) = skb.with_room_for_ethernet() else {
        return Way::Stack;
    };
    if let Err(reason) = translate::skb_ttl(&skb, packet) {
        return dropped(reason);
    }
    // SAFETY: the parameters are of that size and on the stack (5.10).
    unsafe {
        bpf_redirect_neigh(
            ifindex,
            (&raw mut neighbour).cast(),
            size_of::<NeighbourAddress>() as i32,
            0,
        )
    };
    Way::Redirected
}

/// True if a packet has hops left, and nothing between its network header and its transport header that
/// routers look at.
#[inline(always)]
fn is_ordinary<A: Ip>(packet: &Packet<A>, link_len: usize) -> bool {
    packet.ttl > 1 && usize::from(packet.transport_offset) == link_len + A::NETWORK_LEN
}

#[inline(always)]
fn dropped(reason: DropReason) -> Way {
    count(reason.counter());
    Way::Dropped
}
