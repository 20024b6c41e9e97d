//! Flows at the TC hooks: their start, new TCP flags and, every few seconds, their progress become
//! events; everything in between is only counted.

use aya_ebpf::bindings::BPF_ANY;
use ebpf_abi::event::{ObservationPoint, ReplyState, ReportReason};
use ebpf_abi::packet::Packet;
use ebpf_abi::{DatapathConfig, FlowKey, FlowValue, Protocol, tcp};

use crate::access::{config, entry, jiffies};
use crate::emit;
use crate::family::Ip;
use crate::hook::Hook;
use crate::steps::route;

/// Observes a packet that goes on: to the stack, into a pod or device, or to the network.
#[inline(always)]
pub fn packet<A: Ip>(hook: &impl Hook, packet: &Packet<A>, point: ObservationPoint) {
    if let Some(config) = config()
        && config.flags & DatapathConfig::CAPTURE_FLOWS != 0
    {
        observe(hook, packet, point, config);
    }
}

#[inline(never)]
fn observe<A: Ip>(
    hook: &impl Hook,
    packet: &Packet<A>,
    point: ObservationPoint,
    config: &DatapathConfig,
) {
    if is_neighbour_discovery(packet) {
        return;
    }
    let key = FlowKey::new(packet.tuple, point);
    if let Some(flow) = entry(A::flows(), &key)
        && !(tcp::is_opening(packet.tcp_flags) && flow.tcp_flags & (tcp::FIN | tcp::RST) != 0)
    {
        flow.packets += 1;
        flow.bytes += u64::from(packet.len_bytes);
        let interval = config
            .flow_report_seconds
            .wrapping_mul(config.jiffies_per_second);
        let due = jiffies().wrapping_sub(flow.reported_at) >= interval;
        if flow.quiet == 0 && (due || packet.tcp_flags & !flow.tcp_flags != 0) {
            flow.tcp_flags |= packet.tcp_flags;
            flow.reported_at = jiffies();
            emit::flow(hook, packet, point, flow, ReportReason::ESTABLISHED);
        }
        return;
    }
    let flow = FlowValue {
        packets: 1,
        bytes: packet.len_bytes.into(),
        reported_at: jiffies(),
        tcp_flags: packet.tcp_flags,
        reply: reply_state(packet, point),
        quiet: u8::from(point == ObservationPoint::TO_HOST && is_forwarded(hook, packet)),
        _pad: 0,
    };
    // A full table evicts; if even that fails the flow is reported again with its next packet.
    let _ = A::flows().insert(&key, &flow, BPF_ANY.into());
    if flow.quiet == 0 {
        emit::flow(hook, packet, point, &flow, ReportReason::NEW);
    }
}

/// IPv6's counterpart of ARP (RFC 4861): types 133 to 137.
#[inline(always)]
fn is_neighbour_discovery<A: Ip>(packet: &Packet<A>) -> bool {
    packet.tuple.protocol == Protocol::ICMPV6 && matches!(packet.tuple.source_port.get(), 133..=137)
}

/// True if the node will send the packet on instead of taking it; the pod's hook then reports it.
#[inline(always)]
fn is_forwarded<A: Ip>(hook: &impl Hook, packet: &Packet<A>) -> bool {
    route::leads_on(hook, &packet.tuple)
}

/// Which side of its connection the first packet of a flow comes from.
#[inline(always)]
fn reply_state<A: Ip>(packet: &Packet<A>, point: ObservationPoint) -> ReplyState {
    match packet.tuple.protocol {
        Protocol::TCP if packet.tcp_flags & tcp::SYN != 0 => {
            return if packet.tcp_flags & tcp::ACK == 0 {
                ReplyState::ORIGINAL
            } else {
                ReplyState::REPLY
            };
        }
        Protocol::ICMP | Protocol::ICMPV6 => {
            return icmp_reply_state(packet.tuple.source_port.get());
        }
        _ => {}
    }
    let opposite = match point {
        ObservationPoint::TO_ENDPOINT => ObservationPoint::FROM_ENDPOINT,
        ObservationPoint::FROM_ENDPOINT => ObservationPoint::TO_ENDPOINT,
        ObservationPoint::TO_NETWORK => ObservationPoint::TO_HOST,
        ObservationPoint::TO_CRYPTO => ObservationPoint::FROM_CRYPTO,
        ObservationPoint::FROM_CRYPTO => ObservationPoint::TO_CRYPTO,
        _ => ObservationPoint::TO_NETWORK,
    };
    match entry(A::flows(), &FlowKey::new(packet.tuple.reversed(), opposite)) {
        Some(flow) if flow.reply == ReplyState::ORIGINAL => ReplyState::REPLY,
        Some(flow) if flow.reply == ReplyState::REPLY => ReplyState::ORIGINAL,
        None if packet.tuple.protocol == Protocol::UDP => ReplyState::ORIGINAL,
        _ => ReplyState::UNKNOWN,
    }
}

#[inline(always)]
fn icmp_reply_state(kind: u16) -> ReplyState {
    const ECHO_REPLY: u16 = 0;
    const ECHO_REQUEST: u16 = 8;
    const ECHO_REQUEST6: u16 = 128;
    const ECHO_REPLY6: u16 = 129;
    match kind {
        ECHO_REQUEST | ECHO_REQUEST6 => ReplyState::ORIGINAL,
        ECHO_REPLY | ECHO_REPLY6 => ReplyState::REPLY,
        _ => ReplyState::UNKNOWN,
    }
}
