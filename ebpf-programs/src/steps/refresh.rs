//! What a connection's packets need not pay for each: done at most once a second per connection,
//! and at once after the agent raised the generation.

use ebpf_abi::conntrack::ConntrackKind;
use ebpf_abi::packet::Packet;
use ebpf_abi::{BackendId, ConntrackValue, Counter, DatapathConfig, Protocol, tcp};

use crate::access::{count, entry as map_entry, generation, jiffies, same};
use crate::emit;
use crate::family::Ip;
use crate::hook::Hook;
use crate::log;
use crate::steps::conntrack::{self, Ports};
use crate::steps::{open, route};

/// Brings an entry up to date. False if the connection has to be opened anew.
#[inline(never)]
pub fn entry<A: Ip>(
    hook: &impl Hook,
    packet: &Packet<A>,
    entry: &mut ConntrackValue<A>,
    config: &DatapathConfig,
) -> bool {
    let generation = generation(config);
    let is_request = entry.kind != ConntrackKind::FROM_REMOTE;
    if is_request
        && conntrack::is_idle(entry, packet.tuple.protocol, config)
        && !is_answered(packet, entry, config)
    {
        return false;
    }
    if packet.tcp_flags & (tcp::RST | tcp::SYN) == 0 {
        // Whoever reset it, it goes on: forged, or out of the receiver's window. A backend that repeats its
        // half of the handshake has refused the client's.
        entry.tcp_flags &= !tcp::RST;
    }
    if is_request
        && entry.generation != generation
        && (!backend_is_there(entry)
            // Its backend may take no new connections any more; if it does, it is chosen again.
            || tcp::is_opening(packet.tcp_flags)
            || has_lost_its_source(packet, entry, config))
    {
        log::moved(hook, packet);
        return false;
    }
    if entry.kind != ConntrackKind::TO_LOCAL {
        // No route now does not mean none later: the entry stays, and TC drops with the reason.
        route::resolve(hook, entry);
        route::keep_from_xdp(entry, config);
    }
    if is_request && !keep_replies(packet, entry, config) {
        return false;
    }
    conntrack::touch(entry, generation);
    let interval = config
        .flow_report_seconds
        .wrapping_mul(config.jiffies_per_second);
    if jiffies().wrapping_sub(entry.reported_at) >= interval {
        emit::connection(hook, packet, entry);
    }
    true
}

/// True if the backend has sent something of late: a client may do no more than listen.
#[inline(never)]
fn is_answered<A: Ip>(
    packet: &Packet<A>,
    entry: &ConntrackValue<A>,
    config: &DatapathConfig,
) -> bool {
    let Some(pending) = A::pending() else {
        return false;
    };
    pending.reply_key.set_reversed(&entry.rewrite);
    pending.reply.rewrite.set_reversed(&packet.tuple);
    map_entry(A::conntrack(), &pending.reply_key).is_some_and(|reply| {
        same(&reply.rewrite, &pending.reply.rewrite)
            && !conntrack::is_idle(reply, packet.tuple.protocol, config)
    })
}

/// True if the backend is what it was; a new agent may use the number of one that was removed again.
///
/// One that is gone is counted and forgotten, lest the packets of a service that is gone as well be
/// counted one by one.
#[inline(always)]
fn backend_is_there<A: Ip>(entry: &mut ConntrackValue<A>) -> bool {
    let is_there = A::backend(entry.backend).is_some_and(|backend| {
        backend.address == entry.rewrite.destination
            && backend.port == entry.rewrite.destination_port
    });
    if !is_there && entry.backend != GONE {
        entry.backend = GONE;
        count(Counter::ConnectionsMoved);
    }
    is_there
}

/// No backend has this number.
const GONE: BackendId = BackendId(0);

/// True if the node's address is another by now and the peer will not mind the change. An open TCP
/// connection would: it keeps its source, which may still be there beside the new one.
#[inline(always)]
fn has_lost_its_source<A: Ip>(
    packet: &Packet<A>,
    entry: &ConntrackValue<A>,
    config: &DatapathConfig,
) -> bool {
    entry.kind == ConntrackKind::TO_REMOTE
        && entry.rewrite.source != A::node(config)
        && (packet.tuple.protocol != Protocol::TCP || tcp::is_opening(packet.tcp_flags))
}

/// Keeps the entry of the replies from being evicted or counting as idle while only requests flow,
/// and writes it again if it was evicted. False if another connection has its ports by now.
#[inline(always)]
fn keep_replies<A: Ip>(
    packet: &Packet<A>,
    entry: &ConntrackValue<A>,
    config: &DatapathConfig,
) -> bool {
    let Some(pending) = A::pending() else {
        return true;
    };
    pending.reply_key.set_reversed(&entry.rewrite);
    if let Some(reply) = map_entry(A::conntrack(), &pending.reply_key) {
        pending.reply.rewrite.set_reversed(&packet.tuple);
        if !same(&reply.rewrite, &pending.reply.rewrite) {
            return false;
        }
        reply.checked_at = jiffies();
        // Never a generation in force: the next answer finds its own way again.
        reply.generation = 0;
        return true;
    }
    let kind = if entry.kind == ConntrackKind::TO_REMOTE {
        ConntrackKind::FROM_REMOTE
    } else {
        ConntrackKind::FROM_BACKEND
    };
    let (service, backend) = (entry.service, entry.backend);
    pending.request.rewrite = entry.rewrite;
    open::reserve(
        &open::Connection {
            packet,
            service,
            backend,
            config,
        },
        pending,
        kind,
        Ports::Plenty,
    )
}
