//! The path of a packet to a service and back, as a sequence of the steps in [`crate::steps`].
//!
//! ```text
//! parse ─▶ may concern us ─▶ conntrack hit ──────────────────────────▶ translate ─▶ pass | send
//!                                └ miss ─▶ frontend ─▶ select ─▶ open ─┘
//! ```

use ebpf_abi::conntrack::ConntrackKind;
use ebpf_abi::event::ObservationPoint;
use ebpf_abi::packet::{self, Packet, Unbalanced, ethertype};
use ebpf_abi::{Addr4, Addr6, ConntrackValue, Counter, DatapathConfig, DropReason, Protocol, tcp};

use crate::access::{config, count, entry, generation, same};
use crate::emit;
use crate::encryption::receiver::Receiver;
use crate::family::Ip;
use crate::hook::{EthernetHook, Hook, Skb};
use crate::host_routing;
use crate::log;
use crate::observe;
use crate::steps::{conntrack, frontend, open, refresh};

/// Where a packet enters the node, which decides whom its sender may reach and how.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// From the network: connections to other nodes need the node's own source address.
    Uplink,
    /// Out of a local pod, whose address is routable: backends anywhere are reached directly.
    Pod,
}

/// What becomes of a packet. Only `main.rs` knows the kernel's codes for it.
#[must_use]
pub enum Verdict {
    /// On to the next hook, as it came.
    Pass,
    /// Likewise, for another receiver than it came for, or from another sender.
    Translated,
    /// Back out of the interface it came in by.
    Transmit,
    /// As a redirect helper said.
    Redirect(u32),
    /// Dropped, counted and reported.
    Drop,
}

/// Balances a frame.
#[inline(always)]
pub fn frame<H: EthernetHook>(hook: &H, place: Place) -> Verdict {
    let frame = hook.frame();
    match packet::network_protocol(&frame) {
        Ok(ethertype::IPV4) => match packet::parse_ipv4(&frame) {
            Ok(mut packet) => packet_in(hook, &mut packet, place),
            Err(reason) => left_alone(hook, reason),
        },
        Ok(ethertype::IPV6) => match packet::parse_ipv6(&frame) {
            Ok(mut packet) => packet_in(hook, &mut packet, place),
            Err(reason) => left_alone(hook, reason),
        },
        Ok(_) => Verdict::Pass,
        Err(reason) => left_alone(hook, reason),
    }
}

/// Balances a buffer and, if it goes on to the stack, observes it as it then is. `receiver` is the one that
/// it came for.
#[inline(always)]
pub fn then_observe(
    skb: &Skb<'_>,
    place: Place,
    point: ObservationPoint,
    receiver: Receiver,
) -> Verdict {
    if skb.has_vlan_tag() {
        return left_alone(skb, Unbalanced::Vlan);
    }
    let frame = skb.frame();
    match packet::network_protocol(&frame) {
        Ok(ethertype::IPV4) => match packet::parse_ipv4(&frame) {
            Ok(mut packet) => packet_in_then_observe(skb, &mut packet, place, point, receiver),
            Err(reason) => left_alone(skb, reason),
        },
        Ok(ethertype::IPV6) => match packet::parse_ipv6(&frame) {
            Ok(mut packet) => packet_in_then_observe(skb, &mut packet, place, point, receiver),
            Err(reason) => left_alone(skb, reason),
        },
        Ok(_) => Verdict::Pass,
        Err(reason) => left_alone(skb, reason),
    }
}

#[inline(always)]
fn packet_in_then_observe<A: Ip>(
    skb: &Skb<'_>,
    packet: &mut Packet<A>,
    place: Place,
    point: ObservationPoint,
    receiver: Receiver,
) -> Verdict {
    let receiver = match packet_in(skb, packet, place) {
        Verdict::Pass => receiver,
        Verdict::Translated => Receiver::UNKNOWN,
        other => return other,
    };
    observe::packet(skb, packet, point);
    match place {
        Place::Uplink => Verdict::Pass,
        Place::Pod => host_routing::into_device(skb, packet, receiver).into(),
    }
}

/// Observes a buffer on its way out and translates it back if it answers a client of a service.
#[inline(always)]
pub fn reply_and_observe(skb: &Skb<'_>, point: ObservationPoint) -> Verdict {
    if skb.has_vlan_tag() {
        return Verdict::Pass;
    }
    // What the node merely forwards was observed where it came out of its pod.
    let is_observed = point == ObservationPoint::TO_ENDPOINT || skb.ingress_ifindex() == 0;
    let point = is_observed.then_some(point);
    let frame = skb.frame();
    match packet::network_protocol(&frame) {
        Ok(ethertype::IPV4) => match packet::parse_ipv4(&frame) {
            Ok(packet) => observe_packet_out::<Addr4>(skb, &packet, point),
            Err(_) => Verdict::Pass,
        },
        Ok(ethertype::IPV6) => match packet::parse_ipv6(&frame) {
            Ok(packet) => observe_packet_out::<Addr6>(skb, &packet, point),
            Err(_) => Verdict::Pass,
        },
        _ => Verdict::Pass,
    }
}

#[inline(always)]
fn observe_packet_out<A: Ip>(
    skb: &Skb<'_>,
    packet: &Packet<A>,
    point: Option<ObservationPoint>,
) -> Verdict {
    if let Some(point) = point {
        observe::packet(skb, packet, point);
    }
    packet_out(skb, packet)
}

/// A packet on its way in: to a frontend, or a reply of a backend on another node. If it was
/// translated and goes on, `packet` says what it is now.
#[inline(always)]
fn packet_in<A: Ip, H: EthernetHook>(hook: &H, packet: &mut Packet<A>, place: Place) -> Verdict {
    if !packet.is_balanceable() {
        return Verdict::Pass;
    }
    match connection_of(hook, packet, place) {
        Ok(Some(entry)) => match forward(hook, packet, entry) {
            Ok(verdict) => verdict,
            Err(reason) => drop(hook, packet, reason),
        },
        Ok(None) => Verdict::Pass,
        Err(reason) => drop(hook, packet, reason),
    }
}

/// The connection table's entry for a packet: the one it has, brought up to date if it is a second
/// old, or a new one if the packet is for a frontend.
#[inline(always)]
fn connection_of<A: Ip, H: EthernetHook>(
    hook: &H,
    packet: &Packet<A>,
    place: Place,
) -> Result<Option<&'static mut ConntrackValue<A>>, DropReason> {
    let Some(config) = config() else {
        return Ok(None);
    };
    if !frontend::may_concern(packet, place, config) {
        return Ok(None);
    }
    if let Some(entry) = conntrack::find(packet)
        && entry.kind != ConntrackKind::FROM_BACKEND
        && !conntrack::reopens(packet, entry)
        && (conntrack::is_fresh(entry, config) || refresh::entry(hook, packet, entry, config))
    {
        return Ok(Some(entry));
    }
    if conntrack::may_be_carried_over(packet, config) && conntrack::find(packet).is_none() {
        return Err(DropReason::CarryingOver);
    }
    let Some(frontend) = frontend::find(packet, place, config) else {
        return Ok(None);
    };
    open::connection(hook, packet, &frontend, place, config)?;
    Ok(A::pending().map(|pending| &mut pending.request))
}

/// Applies an entry to a packet that came in.
#[inline(always)]
fn forward<A: Ip, H: EthernetHook>(
    hook: &H,
    packet: &mut Packet<A>,
    entry: &mut ConntrackValue<A>,
) -> Result<Verdict, DropReason> {
    let verdict = if entry.kind == ConntrackKind::TO_LOCAL {
        hook.translate(packet, entry)?;
        Verdict::Translated
    } else if packet.ttl <= 1 {
        count(Counter::PassedTtl);
        return Ok(Verdict::Pass);
    } else {
        match hook.send(packet, entry)? {
            // Left untouched to TC, which comes here again and counts it.
            Verdict::Pass => return Ok(Verdict::Pass),
            sent => sent,
        }
    };
    conntrack::account(entry, packet);
    if conntrack::has_new_flags(entry, packet) {
        emit::connection(hook, packet, entry);
    }
    packet.tuple = entry.rewrite;
    Ok(verdict)
}

/// A packet on its way out that may be a local backend's answer.
#[inline(always)]
fn packet_out<A: Ip>(skb: &Skb<'_>, packet: &Packet<A>) -> Verdict {
    if !packet.is_balanceable() {
        return Verdict::Pass;
    }
    let Some(config) = config() else {
        return Verdict::Pass;
    };
    let Some(entry) = conntrack::find(packet) else {
        if conntrack::may_be_carried_over(packet, config) {
            return drop(skb, packet, DropReason::CarryingOver);
        }
        return Verdict::Pass;
    };
    if entry.kind != ConntrackKind::FROM_BACKEND {
        return Verdict::Pass;
    }
    let is_fresh = conntrack::is_fresh(entry, config);
    if (!is_fresh || packet.tcp_flags & tcp::SYN != 0) && is_of_the_past(packet, entry, config) {
        return Verdict::Pass;
    }
    if !is_fresh {
        conntrack::touch(entry, generation(config));
    }
    conntrack::account(entry, packet);
    entry.tcp_flags |= packet.tcp_flags;
    match skb.translate(packet, entry) {
        Ok(()) => Verdict::Pass,
        Err(reason) => drop(skb, packet, reason),
    }
}

/// True if an entry for answers is left of a connection that has ended, and the packet belongs to one
/// between the same two that is for no frontend. The entry is removed then.
#[inline(never)]
fn is_of_the_past<A: Ip>(
    packet: &Packet<A>,
    reply: &ConntrackValue<A>,
    config: &DatapathConfig,
) -> bool {
    let is_past = if packet.tuple.protocol != Protocol::TCP {
        conntrack::is_idle(reply, packet.tuple.protocol, config)
    } else if packet.tcp_flags & tcp::SYN != 0 {
        // A connection that was opened anew through the frontend has new entries by now.
        entry(A::conntrack(), &reply.rewrite.reversed()).is_some_and(|request| {
            conntrack::is_closed(request, reply)
                || !same(&request.rewrite, &packet.tuple.reversed())
        })
    } else {
        false
    };
    if is_past {
        // Gone already is as good.
        let _ = A::conntrack().remove(&packet.tuple);
    }
    is_past
}

#[inline(always)]
fn drop<A: Ip, H: Hook>(hook: &H, packet: &Packet<A>, reason: DropReason) -> Verdict {
    count(reason.counter());
    emit::drop(hook, packet, reason);
    Verdict::Drop
}

#[inline(always)]
fn left_alone(hook: &impl Hook, reason: Unbalanced) -> Verdict {
    log::left_alone(hook, reason);
    match reason {
        Unbalanced::NotIp | Unbalanced::OtherTransport => {}
        Unbalanced::Vlan => count(Counter::PassedVlan),
        Unbalanced::Malformed => count(Counter::Malformed),
        Unbalanced::Fragment => count(Counter::PassedFragment),
        Unbalanced::ExtensionHeader => count(Counter::PassedExtensionHeader),
    }
    Verdict::Pass
}
