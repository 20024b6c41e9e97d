//! What is kept of each decision: the account of bytes per node and path, and drops.

use aya_ebpf::bindings::BPF_ANY;
use ebpf_abi::packet::{self, ethertype};
use ebpf_abi::traffic::{TrafficKey, TrafficPath, TrafficValue};
use ebpf_abi::{Addr4, Addr6, Counter, DropReason, NodeId};

use crate::access::{count, count_many, traffic_of};
use crate::emit;
use crate::hook::Skb;
use crate::maps::TRAFFIC;

/// Adds a buffer to the account of a node.
#[inline(always)]
pub fn account<const LINK_LEN: usize>(skb: &Skb<'_, LINK_LEN>, node: NodeId, path: TrafficPath) {
    let key = TrafficKey { node, path };
    let (packets, bytes) = (skb.segments().into(), skb.network_len().into());
    if let Some(value) = traffic_of(&key) {
        value.packets += packets;
        value.bytes += bytes;
        return;
    }
    let first = TrafficValue { packets, bytes };
    // What left encrypted or not at all needs no account to be right.
    let is_clear = path != TrafficPath::ENCRYPTED && path != TrafficPath::DROPPED;
    if TRAFFIC.insert(&key, &first, BPF_ANY.into()).is_err() && is_clear {
        count_many(Counter::TrafficUnaccounted, packets);
    }
}

/// Counts a drop, and tells of it unless the frame carries VLAN tags, which events do not show.
#[inline(never)]
pub fn report_drop(skb: &Skb<'_>) {
    count(DropReason::Unencrypted.counter());
    let frame = skb.bytes();
    match packet::network_protocol(&frame) {
        Ok(ethertype::IPV4) => {
            let packet = packet::parse_ipv4(&frame).ok();
            if let Some(packet) = packet.or_else(|| packet::network_only_ipv4(&frame)) {
                emit::drop::<Addr4>(skb, &packet, DropReason::Unencrypted);
            }
        }
        Ok(ethertype::IPV6) => {
            let packet = packet::parse_ipv6(&frame).ok();
            if let Some(packet) = packet.or_else(|| packet::network_only_ipv6(&frame)) {
                emit::drop::<Addr6>(skb, &packet, DropReason::Unencrypted);
            }
        }
        _ => {}
    }
}
