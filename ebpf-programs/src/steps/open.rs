//! The first packet of a connection: choose a backend and write both entries.
//!
//! Order: the entry of the replies first, because writing it reserves the ports; then the entry of
//! the packets, from which moment on they flow.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use ebpf_abi::checksum;
use ebpf_abi::conntrack::ConntrackKind;
use ebpf_abi::packet::Packet;
use ebpf_abi::{
    BackendId, BackendValue, Be16, ConntrackValue, Counter, DatapathConfig, DropReason,
    FrontendValue, ServiceId, Tuple, hash,
};

use crate::access::{clear, copy, count, entry, jiffies, same};
use crate::balance::Place;
use crate::family::Ip;
use crate::hook::EthernetHook;
use crate::log;
use crate::maps::Pending;
use crate::steps::conntrack::{self, Ports};
use crate::steps::{route, select};

/// Ports tried before giving up. A port is taken only by a connection to the same backend. With a quarter
/// of them taken, by open connections and by those closed within two seconds, six connections in a hundred
/// million find so many taken in a row.
const PORTS_TRIED: u32 = PORTS_AT_REST_SPARED + 12;
/// The first of them, which are left alone if their connections were closed of late.
const PORTS_AT_REST_SPARED: u32 = 4;

/// What both entries of a connection have in common.
pub struct Connection<'a, A> {
    /// The packet that opens it, or one of its later packets.
    pub packet: &'a Packet<A>,
    /// Service of the frontend.
    pub service: ServiceId,
    /// Backend chosen.
    pub backend: BackendId,
    /// Settings in force.
    pub config: &'a DatapathConfig,
}

/// Opens a connection through a frontend: afterwards the packet has an entry.
///
/// A copy of it stays in [`Ip::pending`]. It does not count the packet yet, while the entry does if
/// the packet can be sent from here. So nothing is looked up that was just written, and an entry
/// that no second packet ever asks for is the first to make room.
#[inline(never)]
pub fn connection<A: Ip>(
    hook: &impl EthernetHook,
    packet: &Packet<A>,
    frontend: &FrontendValue,
    place: Place,
    config: &DatapathConfig,
) -> Result<(), DropReason> {
    let hash = hash::tuple(&packet.tuple);
    let (id, backend) =
        select::backend::<A>(frontend.service, hash).ok_or(DropReason::NoBackend)?;
    let connection = Connection {
        packet,
        service: frontend.service,
        backend: id,
        config,
    };
    let pending = A::pending().ok_or(DropReason::ConntrackInsertFailed)?;
    let answers_here = place == Place::Pod || backend.flags & BackendValue::<A>::LOCAL != 0;
    if answers_here && !dials_itself(packet, &backend) {
        reserve_client_ports(&connection, pending, &backend)?;
        connection.fill_request(&mut pending.request, ConntrackKind::TO_LOCAL);
    } else {
        reserve_node_ports(&connection, pending, &backend, hash)?;
        connection.fill_request(&mut pending.request, ConntrackKind::TO_REMOTE);
        if !route::resolve(hook, &mut pending.request) {
            // Nobody else would give the port back.
            let _ = A::conntrack().remove(&pending.reply_key);
            return Err(DropReason::NoRoute);
        }
        route::keep_from_xdp(&mut pending.request, connection.config);
    }
    let request = &mut pending.request;
    if request.kind == ConntrackKind::TO_LOCAL || packet.ttl > 1 && hook.can_send(&request.next_hop)
    {
        conntrack::account(request, packet);
        request.tcp_flags = packet.tcp_flags;
    }
    A::conntrack()
        .insert(&packet.tuple, &*request, BPF_ANY.into())
        .map_err(|_| DropReason::ConntrackInsertFailed)?;
    count(Counter::ConnectionsNew);
    log::opened(hook, packet, request);
    clear(&mut request.packets);
    clear(&mut request.bytes);
    request.tcp_flags = 0;
    Ok(())
}

/// True for a pod that is sent to itself: it would drop what comes from its own address.
///
/// Not inlined: comparing IPv6 addresses in place takes stack that the chain of calls has not.
#[inline(never)]
fn dials_itself<A: Ip>(packet: &Packet<A>, backend: &BackendValue<A>) -> bool {
    backend.address == packet.tuple.source
}

impl<A: Ip> Connection<'_, A> {
    /// Completes the entry for the client's packets, whose rewrite is decided.
    #[inline(always)]
    fn fill_request(&self, entry: &mut ConntrackValue<A>, kind: ConntrackKind) {
        self.fill(entry, &self.packet.tuple, kind);
    }

    /// Completes an entry that turns packets with tuple `from` into ones with tuple `rewrite`.
    #[inline(always)]
    fn fill(&self, entry: &mut ConntrackValue<A>, from: &Tuple<A>, kind: ConntrackKind) {
        let to = &entry.rewrite;
        entry.address_delta =
            checksum::address_delta([from.source, from.destination], [to.source, to.destination]);
        entry.port_delta = checksum::port_delta(
            [from.source_port, from.destination_port],
            [to.source_port, to.destination_port],
        );
        let now = jiffies();
        clear(&mut entry.packets);
        clear(&mut entry.bytes);
        route::forget(&mut entry.next_hop);
        entry.generation = self.config.generation;
        entry.checked_at = now;
        entry.reported_at = now;
        entry.service = self.service;
        entry.backend = self.backend;
        entry.kind = kind;
        entry.tcp_flags = 0;
        entry._pad = 0;
        entry._pad2 = 0;
    }

    /// Where the client's packets go: to the backend, from an address and port yet to be chosen.
    #[inline(always)]
    fn aim(&self, rewrite: &mut Tuple<A>, backend: &BackendValue<A>, source: A) {
        let client = &self.packet.tuple;
        rewrite.set(source, backend.address, client.ports(), client.protocol);
        rewrite.destination_port = backend.port;
    }

    /// Tries several ports of the range for the near side of the rewritten tuple, in an order that
    /// differs per connection: neighbouring ports would be taken together.
    #[inline(always)]
    fn reserve_any_port(
        &self,
        pending: &mut Pending<A>,
        seed: u32,
        kind: ConntrackKind,
    ) -> Result<(), DropReason> {
        let mut hash = seed;
        for tried in 0..PORTS_TRIED {
            let ports = if tried < PORTS_AT_REST_SPARED {
                Ports::Plenty
            } else {
                Ports::Scarce
            };
            hash = hash::again(hash);
            pending.request.rewrite.source_port = port_of(hash, self.config);
            if reserve(self, pending, kind, ports) {
                return Ok(());
            }
        }
        Err(DropReason::NoSnatPort)
    }
}

/// For a backend that answers through this node anyway: the client keeps its address, and its port
/// unless it uses the same one to the same backend through another frontend.
#[inline(always)]
fn reserve_client_ports<A: Ip>(
    connection: &Connection<'_, A>,
    pending: &mut Pending<A>,
    backend: &BackendValue<A>,
) -> Result<(), DropReason> {
    let client = &connection.packet.tuple;
    connection.aim(&mut pending.request.rewrite, backend, client.source);
    if reserve(
        connection,
        pending,
        ConntrackKind::FROM_BACKEND,
        Ports::Plenty,
    ) {
        return Ok(());
    }
    let seed = client.source_port.0.into();
    connection.reserve_any_port(pending, seed, ConntrackKind::FROM_BACKEND)
}

/// For a backend on another node, and for a pod that dials itself: the node's address, so that the
/// answer comes back here.
#[inline(always)]
fn reserve_node_ports<A: Ip>(
    connection: &Connection<'_, A>,
    pending: &mut Pending<A>,
    backend: &BackendValue<A>,
    hash: u32,
) -> Result<(), DropReason> {
    let node = A::node(connection.config);
    if node.is_unset() {
        return Err(DropReason::NoRoute);
    }
    connection.aim(&mut pending.request.rewrite, backend, node);
    connection.reserve_any_port(pending, hash, ConntrackKind::FROM_REMOTE)
}

/// The port of the node's range that a hash falls on.
#[inline(always)]
fn port_of(hash: u32, config: &DatapathConfig) -> Be16 {
    let first = u32::from(config.snat_port_first);
    let count = u32::from(config.snat_port_last).wrapping_sub(first) + 1;
    Be16::new((first + hash::scale(hash, count)) as u16)
}

/// Writes the entry for the answers to `pending.request.rewrite`. False if another connection that is
/// not over holds that tuple.
#[inline(never)]
pub fn reserve<A: Ip>(
    connection: &Connection<'_, A>,
    pending: &mut Pending<A>,
    kind: ConntrackKind,
    ports: Ports,
) -> bool {
    pending.reply_key.set_reversed(&pending.request.rewrite);
    pending.reply.rewrite.set_reversed(&connection.packet.tuple);
    let (key, value) = (&pending.reply_key, &mut pending.reply);
    connection.fill(value, key, kind);
    // Never a generation in force: the first answer has the entry checked, which finds its route.
    value.generation = 0;
    let written = A::conntrack().insert(key, &*value, BPF_NOEXIST.into());
    written.is_ok() || retake(connection, pending, ports)
}

/// True if an entry's packets are sent on with these ports.
#[inline(always)]
fn leads_to<A: Ip>(entry: &ConntrackValue<A>, rewrite: &Tuple<A>) -> bool {
    entry.rewrite.source_port == rewrite.source_port
        && entry.rewrite.destination_port == rewrite.destination_port
}

/// As [`Tuple::set_reversed`], from a value in a map: of that the compiler makes a call.
#[inline(always)]
fn turn<A: Ip>(key: &mut Tuple<A>, of: &Tuple<A>) {
    copy(&mut key.source, of.destination);
    copy(&mut key.destination, of.source);
    key.source_port = of.destination_port;
    key.destination_port = of.source_port;
}

/// Writes what [`reserve`] could not, if the entry that is there is this connection's or of one that is
/// over.
///
/// Not part of it: together they take more stack than the chain of calls has.
#[inline(never)]
fn retake<A: Ip>(connection: &Connection<'_, A>, pending: &mut Pending<A>, ports: Ports) -> bool {
    let (key, value) = (&mut pending.reply_key, &pending.reply);
    let Some(existing) = entry(A::conntrack(), key) else {
        return false;
    };
    if !same(&existing.rewrite, &value.rewrite) {
        let (protocol, config) = (key.protocol, connection.config);
        turn(key, &existing.rewrite);
        let is_over = match entry(A::conntrack(), key) {
            Some(request) if leads_to(request, &pending.request.rewrite) => {
                conntrack::is_over(request, existing, protocol, ports, config)
            }
            // Evicted: the client's next packet finds its way to these ports again, or has found another.
            _ => conntrack::is_left_over(existing, protocol, config),
        };
        if !is_over {
            return false;
        }
        key.set_reversed(&pending.request.rewrite);
    }
    let written = A::conntrack().insert(&*key, value, BPF_ANY.into());
    written.is_ok()
}
