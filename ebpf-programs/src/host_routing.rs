//! Encrypted traffic of pods past the node's stack: from a pod's interface straight into the WireGuard
//! device, and what was decrypted straight to the pod's interface.
//!
//! Only if `encryption.hostRouting` asks for it, as netfilter sees nothing of such packets. Whatever
//! is out of the ordinary takes the way through the stack: packets at the end of their hops, and those
//! that are too large, are answered there, and there a pod's link-layer address is asked for.

use aya_ebpf::bindings::TC_ACT_REDIRECT;
use aya_ebpf::helpers::generated::bpf_redirect;
use ebpf_abi::packet::Packet;
use ebpf_abi::{DatapathConfig, DropReason, IpcacheValue, NextHop};

use crate::access::{count, settings};
use crate::balance::Verdict;
use crate::family::Ip;
use crate::hook::{BareSkb, Skb};
use crate::steps::{route, translate};

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
pub fn into_device<A: Ip>(skb: &Skb<'_>, packet: &Packet<A>) -> Way {
    active().map_or(Way::Stack, |config| encrypt(skb, packet, config))
}

#[inline(never)]
fn encrypt<A: Ip>(skb: &Skb<'_>, packet: &Packet<A>, config: &DatapathConfig) -> Way {
    const POD_OF_PEER: u32 = IpcacheValue::POD | IpcacheValue::PEER;
    let is_to_peer = A::ipcache(&packet.tuple.destination)
        .is_some_and(|known| known.flags & (POD_OF_PEER | IpcacheValue::LOCAL) == POD_OF_PEER);
    if !is_to_peer
        || config.encrypted_ifindex == 0
        || packet.ttl <= 1
        || skb.segment_len() > config.encrypted_mtu_least
    {
        return Way::Stack;
    }
    if let Err(reason) = translate::skb_ttl(skb.skb(), packet) {
        return dropped(reason);
    }
    redirect(config.encrypted_ifindex)
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
    const OWN_POD: u32 = IpcacheValue::POD | IpcacheValue::LOCAL;
    let is_to_pod =
        A::ipcache(&packet.tuple.destination).is_some_and(|known| known.flags & OWN_POD == OWN_POD);
    if !is_to_pod || packet.ttl <= 1 {
        return Way::Stack;
    }
    let mut next_hop = NextHop::default();
    if !route::neighbour(skb, &packet.tuple, &mut next_hop) {
        return Way::Stack;
    }
    let sent = skb
        .with_ethernet_header(&next_hop)
        .and_then(|skb| translate::skb_ttl(skb.skb(), packet));
    match sent {
        Ok(()) => redirect(next_hop.ifindex),
        Err(reason) => dropped(reason),
    }
}

#[inline(always)]
fn redirect(ifindex: u32) -> Way {
    // SAFETY: takes numbers alone. An interface that is gone is found so when the kernel acts on it.
    unsafe { bpf_redirect(ifindex, 0) };
    Way::Redirected
}

#[inline(always)]
fn dropped(reason: DropReason) -> Way {
    count(reason.counter());
    Way::Dropped
}
