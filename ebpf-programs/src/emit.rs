//! Flow events into the ring buffer. A full ring loses the event and counts it; it never delays a
//! packet.

use core::mem::{MaybeUninit, size_of};

use ebpf_abi::conntrack::ConntrackKind;
use ebpf_abi::event::{EventKind, ObservationPoint, ReplyState, ReportReason};
use ebpf_abi::packet::Packet;
use ebpf_abi::{ConntrackValue, Counter, DatapathConfig, DropReason, FlowEvent, FlowValue};

use crate::access::{clear, config, count, jiffies, now_ns};
use crate::family::Ip;
use crate::hook::Hook;
use crate::log;
use crate::maps::EVENTS;

/// Reports a connection through a frontend: what came in, what it was turned into.
#[inline(never)]
pub fn connection<A: Ip>(hook: &impl Hook, packet: &Packet<A>, entry: &mut ConntrackValue<A>) {
    entry.tcp_flags |= packet.tcp_flags;
    entry.reported_at = jiffies();
    let sent_on = entry.kind != ConntrackKind::TO_LOCAL;
    let is_reply = entry.kind == ConntrackKind::FROM_REMOTE;
    write(|event| {
        describe(event, hook, packet);
        event.packets = entry.packets;
        event.bytes = entry.bytes;
        event.translated_source = entry.rewrite.source.widen();
        event.translated_destination = entry.rewrite.destination.widen();
        event.translated_source_port = entry.rewrite.source_port;
        event.translated_destination_port = entry.rewrite.destination_port;
        event.service = entry.service;
        event.backend = entry.backend;
        event.kind = EventKind::TRACE;
        event.point = if sent_on {
            ObservationPoint::TO_NETWORK
        } else {
            ObservationPoint::FROM_NETWORK
        };
        event.reply = if is_reply {
            ReplyState::REPLY
        } else {
            ReplyState::ORIGINAL
        };
        event.reason = if entry.packets <= 1 {
            ReportReason::NEW
        } else {
            ReportReason::ESTABLISHED
        };
    });
}

/// Reports a dropped packet.
#[inline(never)]
pub fn drop<A: Ip>(hook: &impl Hook, packet: &Packet<A>, reason: DropReason) {
    write(|event| {
        describe(event, hook, packet);
        event.packets = 1;
        event.bytes = packet.len_bytes.into();
        event.kind = EventKind::DROP;
        event.drop_reason = reason as u8;
    });
    log::dropped(hook, packet, reason);
}

/// Reports a flow seen at a TC hook.
#[inline(always)]
pub fn flow<A: Ip>(
    hook: &impl Hook,
    packet: &Packet<A>,
    point: ObservationPoint,
    flow: &FlowValue,
    reason: ReportReason,
) {
    write(|event| {
        describe(event, hook, packet);
        event.packets = flow.packets;
        event.bytes = flow.bytes;
        event.kind = EventKind::TRACE;
        event.point = point;
        event.reply = flow.reply;
        event.reason = reason;
    });
}

/// Fills in what every packet event tells.
#[inline(always)]
fn describe<A: Ip>(event: &mut FlowEvent, hook: &impl Hook, packet: &Packet<A>) {
    let tuple = &packet.tuple;
    event.source = tuple.source.widen();
    event.destination = tuple.destination.widen();
    event.translated_source = event.source;
    event.translated_destination = event.destination;
    event.source_port = tuple.source_port;
    event.destination_port = tuple.destination_port;
    event.translated_source_port = tuple.source_port;
    event.translated_destination_port = tuple.destination_port;
    event.protocol = tuple.protocol;
    event.family = A::FAMILY as u8;
    event.tcp_flags = packet.tcp_flags;
    event.ifindex = hook.ifindex();
}

/// Writes one event if flows are captured.
#[inline(always)]
pub fn write(fill: impl FnOnce(&mut FlowEvent)) {
    if !config().is_some_and(|config| config.flags & DatapathConfig::CAPTURE_FLOWS != 0) {
        return;
    }
    let Some(mut entry) = EVENTS.reserve(0) else {
        count(Counter::EventsLost);
        return;
    };
    let event = zeroed(&mut entry);
    event.monotonic_ns = now_ns();
    fill(event);
    entry.submit(0);
    count(Counter::EventsSent);
}

/// Clears the room for an event.
#[inline(always)]
fn zeroed(room: &mut MaybeUninit<FlowEvent>) -> &mut FlowEvent {
    const WORDS: usize = size_of::<FlowEvent>() / 8;
    const { assert!(size_of::<FlowEvent>() % 8 == 0) };
    // SAFETY: the event is so many words of eight bytes, aligned as one, and any bytes are an event.
    unsafe {
        let words = room.as_mut_ptr().cast::<[u64; WORDS]>();
        for word in 0..WORDS {
            clear(&mut (*words)[word]);
        }
        room.assume_init_mut()
    }
}
