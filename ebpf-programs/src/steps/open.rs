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

use crate::access::{count, entry, jiffies};
use crate::balance::Place;
use crate::family::Ip;
use crate::hook::Hook;
use crate::steps::{conntrack, route, select};

/// Ports tried before giving up. A port is taken only by a connection to the same backend, so more
/// than a few collisions mean that the range is nearly used up.
const PORTS_TRIED: u32 = 8;

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

/// Opens a connection through a frontend and returns its entry.
///
/// `None` if the entry just written was evicted at once by others; the packet is then passed on
/// as it is, and the client's retransmission tries again.
#[inline(always)]
pub fn connection<A: Ip>(
    hook: &impl Hook,
    packet: &Packet<A>,
    frontend: &FrontendValue,
    place: Place,
    config: &DatapathConfig,
) -> Result<Option<&'static mut ConntrackValue<A>>, DropReason> {
    let hash = hash::tuple(&packet.tuple);
    let (id, backend) =
        select::backend::<A>(frontend.service, hash).ok_or(DropReason::NoBackend)?;
    let connection = Connection { packet, service: frontend.service, backend: id, config };
    let local = place == Place::Pod || backend.flags & BackendValue::<A>::LOCAL != 0;
    let (rewrite, kind, next_hop) = if local {
        let rewrite = reserve_client_ports(&connection, &backend)?;
        (rewrite, ConntrackKind::TO_LOCAL, route::UNRESOLVED)
    } else {
        let rewrite = reserve_node_ports(&connection, &backend, hash)?;
        (rewrite, ConntrackKind::TO_REMOTE, route::find(hook, &rewrite)?.next_hop)
    };
    let mut value = connection.entry(&packet.tuple, rewrite, kind);
    value.next_hop = next_hop;
    A::conntrack()
        .insert(&packet.tuple, &value, BPF_ANY.into())
        .map_err(|_| DropReason::ConntrackInsertFailed)?;
    count(Counter::ConnectionsNew);
    Ok(conntrack::find(packet))
}

impl<A: Ip> Connection<'_, A> {
    /// An entry that turns packets with tuple `from` into ones with tuple `to`.
    #[inline(always)]
    fn entry(&self, from: &Tuple<A>, to: Tuple<A>, kind: ConntrackKind) -> ConntrackValue<A> {
        let now = jiffies();
        ConntrackValue {
            packets: 0,
            bytes: 0,
            rewrite: to,
            next_hop: route::UNRESOLVED,
            generation: self.config.generation,
            checked_at: now,
            service: self.service,
            backend: self.backend,
            address_delta: checksum::address_delta(
                [from.source, from.destination],
                [to.source, to.destination],
            ),
            port_delta: checksum::port_delta(
                [from.source_port, from.destination_port],
                [to.source_port, to.destination_port],
            ),
            kind,
            tcp_flags: 0,
            _pad: 0,
            reported_at: now,
            _pad2: 0,
        }
    }

    #[inline(always)]
    fn tuple_to(&self, backend: &BackendValue<A>, source: A, source_port: Be16) -> Tuple<A> {
        Tuple {
            source,
            destination: backend.address,
            source_port,
            destination_port: backend.port,
            protocol: self.packet.tuple.protocol,
            _pad: [0; 3],
        }
    }

    /// Tries several ports of the range for the node's side of a tuple.
    #[inline(always)]
    fn reserve_any_port(
        &self,
        rewrite: &mut Tuple<A>,
        start: u32,
        kind: ConntrackKind,
    ) -> Result<(), DropReason> {
        for attempt in 0..PORTS_TRIED {
            rewrite.source_port = nth_port(start, attempt, self.config);
            if reserve(self, rewrite, kind) {
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
    backend: &BackendValue<A>,
) -> Result<Tuple<A>, DropReason> {
    let client = &connection.packet.tuple;
    let mut rewrite = connection.tuple_to(backend, client.source, client.source_port);
    if !reserve(connection, &rewrite, ConntrackKind::FROM_BACKEND) {
        let start = hash::again(client.source_port.0.into());
        connection.reserve_any_port(&mut rewrite, start, ConntrackKind::FROM_BACKEND)?;
    }
    Ok(rewrite)
}

/// For a backend on another node: the node's address, so that the answer comes back here.
#[inline(always)]
fn reserve_node_ports<A: Ip>(
    connection: &Connection<'_, A>,
    backend: &BackendValue<A>,
    hash: u32,
) -> Result<Tuple<A>, DropReason> {
    let node = A::node(connection.config);
    if node.is_unset() {
        return Err(DropReason::NoRoute);
    }
    let mut rewrite = connection.tuple_to(backend, node, Be16::new(0));
    connection.reserve_any_port(&mut rewrite, hash::again(hash), ConntrackKind::FROM_REMOTE)?;
    Ok(rewrite)
}

/// The port to try next, from a start that differs per connection so that collisions stay rare.
#[inline(always)]
fn nth_port(start: u32, attempt: u32, config: &DatapathConfig) -> Be16 {
    let first = u32::from(config.snat_port_first);
    let count = u32::from(config.snat_port_last).wrapping_sub(first) + 1;
    let index = hash::scale(start, count) + attempt;
    Be16::new((first + if index < count { index } else { index - count }) as u16)
}

/// Writes the entry for the replies to `rewrite`. False if another connection holds that tuple.
#[inline(never)]
pub fn reserve<A: Ip>(
    connection: &Connection<'_, A>,
    rewrite: &Tuple<A>,
    kind: ConntrackKind,
) -> bool {
    let key = rewrite.reversed();
    let to = connection.packet.tuple.reversed();
    let value = connection.entry(&key, to, kind);
    if A::conntrack().insert(&key, &value, BPF_NOEXIST.into()).is_ok() {
        return true;
    }
    let Some(existing) = entry(A::conntrack(), &key) else { return false };
    let ours = existing.rewrite == to;
    let free = existing.is_closing()
        || conntrack::is_idle(existing, key.protocol, connection.config);
    (ours || free) && A::conntrack().insert(&key, &value, BPF_ANY.into()).is_ok()
}
