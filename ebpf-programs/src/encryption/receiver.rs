//! Whom a pod's packet is for, as far as encryption has to know.

use ebpf_abi::DatapathConfig;
use ebpf_abi::IpcacheValue;
use ebpf_abi::packet::{self, Ipv4Header, Ipv6Header, ethertype};
use ebpf_abi::traffic::TrafficPath;

use crate::encryption::account::{account, report_drop};
use crate::encryption::active;
use crate::family::Ip;
use crate::hook::Skb;

/// What is known of a packet's receiver: flags as in [`IpcacheValue`]. A number, as functions that are not
/// inlined return one.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Receiver(u32);

impl Receiver {
    /// Nothing, or nobody has looked yet.
    pub const UNKNOWN: Self = Self(0);
    /// A pod or a node that is known and that nobody has a key of. The packet was dropped.
    pub const UNREACHABLE: Self = Self(u32::MAX);

    /// Looks at whose address it is unless that is known.
    #[inline(always)]
    pub fn or_look_up<A: Ip>(self, destination: &A) -> Self {
        if self != Self::UNKNOWN {
            return self;
        }
        A::ipcache(destination).map_or(Self::UNKNOWN, |known| Self(known.flags))
    }

    /// True if it is a pod of another node, which is a peer.
    #[inline(always)]
    pub fn is_pod_of_peer(self) -> bool {
        const POD_OF_PEER: u32 = IpcacheValue::POD | IpcacheValue::PEER;
        self.0 & (POD_OF_PEER | IpcacheValue::LOCAL) == POD_OF_PEER
    }
}

/// Whom a pod's buffer is for, if encryption is strict: it was dropped if that is
/// [`Receiver::UNREACHABLE`].
#[inline(always)]
pub fn of(skb: &Skb<'_>) -> Receiver {
    if !active().is_some_and(|config| config.flags & DatapathConfig::STRICT != 0) {
        return Receiver::UNKNOWN;
    }
    let frame = skb.bytes();
    let Some((protocol, start)) = packet::network_header(&frame) else {
        return Receiver::UNKNOWN;
    };
    let receiver = match protocol {
        ethertype::IPV4 => frame
            .read(start)
            .map(|ip: Ipv4Header| peer_of(skb, &ip.destination)),
        ethertype::IPV6 => frame
            .read(start)
            .map(|ip: Ipv6Header| peer_of(skb, &ip.destination)),
        _ => None,
    };
    let receiver = receiver.unwrap_or(Receiver::UNKNOWN);
    if receiver == Receiver::UNREACHABLE {
        report_drop(skb);
    }
    receiver
}

#[inline(never)]
fn peer_of<A: Ip>(skb: &Skb<'_>, destination: &A) -> Receiver {
    const REACHABLE: u32 = IpcacheValue::LOCAL | IpcacheValue::PEER | IpcacheValue::CLEAR_ALLOWED;
    let Some(known) = A::ipcache(destination) else {
        return Receiver::UNKNOWN;
    };
    if known.has(REACHABLE) {
        return Receiver(known.flags);
    }
    account(skb, known.node, TrafficPath::DROPPED);
    Receiver::UNREACHABLE
}
