//! The tables that the programs keep, read and aged by tests.

use std::net::{IpAddr, SocketAddr};

use aya::maps::{HashMap, MapData};
use aya::{Ebpf, Pod};
use ebpf_abi::conntrack::{ConntrackKind, NextHop};
use ebpf_abi::{Addr4, Addr6, Address, Be16, ConntrackValue, FlowKey, FlowValue, Protocol, Tuple};

use crate::packet::Packet;

/// An entry of the connection table, of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: ConntrackKind,
    /// Source and destination that packets are given.
    pub rewrite: (SocketAddr, SocketAddr),
    pub packets: u64,
    pub bytes: u64,
    pub service: u32,
    pub backend: u32,
    pub tcp_flags: u8,
    pub next_hop: NextHop,
}

/// A family's tables.
pub trait Family: Address + Into<IpAddr> {
    const CONNTRACK: &str;
    const FLOWS: &str;
    fn from_ip(ip: IpAddr) -> Self;
}

impl Family for Addr4 {
    const CONNTRACK: &str = "CONNTRACK4";
    const FLOWS: &str = "FLOWS4";

    fn from_ip(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => panic!("{ip} is no IPv4 address"),
        }
    }
}

impl Family for Addr6 {
    const CONNTRACK: &str = "CONNTRACK6";
    const FLOWS: &str = "FLOWS6";

    fn from_ip(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => panic!("{ip} is no IPv6 address"),
            IpAddr::V6(ip) => ip.into(),
        }
    }
}

fn table<'a, K: Pod, V: Pod>(programs: &'a Ebpf, name: &str) -> HashMap<&'a MapData, K, V> {
    let map = programs.map(name).expect("one of the object's");
    map.try_into().expect("a hash map")
}

fn key<A: Family>(packet: &Packet) -> Tuple<A> {
    Tuple {
        source: A::from_ip(packet.source.ip()),
        destination: A::from_ip(packet.destination.ip()),
        source_port: Be16::new(packet.source.port()),
        destination_port: Be16::new(packet.destination.port()),
        protocol: Protocol(packet.protocol()),
        _pad: [0; 3],
    }
}

/// Removes the entry of a packet.
pub fn remove<A: Family>(programs: &mut Ebpf, packet: &Packet)
where
    Tuple<A>: Pod,
    ConntrackValue<A>: Pod,
{
    let map = programs.map_mut(A::CONNTRACK).expect("one of the object's");
    let mut table: HashMap<&mut MapData, Tuple<A>, ConntrackValue<A>> =
        map.try_into().expect("a hash map");
    table.remove(&key(packet)).expect("there");
}

/// The entry of a packet.
pub fn entry<A: Family>(programs: &Ebpf, packet: &Packet) -> Option<Entry>
where
    Tuple<A>: Pod,
    ConntrackValue<A>: Pod,
{
    let table = table::<Tuple<A>, ConntrackValue<A>>(programs, A::CONNTRACK);
    let value = table.get(&key(packet), 0).ok()?;
    let end = |ip: A, port: Be16| SocketAddr::new(ip.into(), port.get());
    let to = value.rewrite;
    Some(Entry {
        kind: value.kind,
        rewrite: (
            end(to.source, to.source_port),
            end(to.destination, to.destination_port),
        ),
        packets: value.packets,
        bytes: value.bytes,
        service: value.service.0,
        backend: value.backend.0,
        tcp_flags: value.tcp_flags,
        next_hop: value.next_hop,
    })
}

/// Number of entries of a family.
pub fn entries<A: Family>(programs: &Ebpf) -> usize
where
    Tuple<A>: Pod,
    ConntrackValue<A>: Pod,
{
    table::<Tuple<A>, ConntrackValue<A>>(programs, A::CONNTRACK)
        .keys()
        .count()
}

/// Empties a family's tables.
pub fn clear<A: Family>(programs: &mut Ebpf)
where
    Tuple<A>: Pod,
    ConntrackValue<A>: Pod,
    FlowKey<A>: Pod,
{
    clear_table::<Tuple<A>, ConntrackValue<A>>(programs, A::CONNTRACK);
    clear_table::<FlowKey<A>, FlowValue>(programs, A::FLOWS);
}

fn clear_table<K: Pod, V: Pod>(programs: &mut Ebpf, name: &str) {
    let map = programs.map_mut(name).expect("one of the object's");
    let mut table: HashMap<&mut MapData, K, V> = map.try_into().expect("a hash map");
    let keys: Vec<K> = table.keys().collect::<Result<_, _>>().expect("readable");
    for key in keys {
        table.remove(&key).expect("there");
    }
}

/// Moves all notes of time this many ticks into the past.
pub fn age<A: Family>(programs: &mut Ebpf, ticks: u32)
where
    Tuple<A>: Pod,
    ConntrackValue<A>: Pod,
    FlowKey<A>: Pod,
{
    change(
        programs,
        A::CONNTRACK,
        |_: &Tuple<A>, value: &mut ConntrackValue<A>| {
            value.checked_at = value.checked_at.wrapping_sub(ticks);
            value.reported_at = value.reported_at.wrapping_sub(ticks);
        },
    );
    change(
        programs,
        A::FLOWS,
        |_: &FlowKey<A>, value: &mut FlowValue| {
            value.reported_at = value.reported_at.wrapping_sub(ticks);
        },
    );
}

fn change<K: Pod, V: Pod>(programs: &mut Ebpf, name: &str, mut with: impl FnMut(&K, &mut V)) {
    let map = programs.map_mut(name).expect("one of the object's");
    let mut table: HashMap<&mut MapData, K, V> = map.try_into().expect("a hash map");
    let entries: Vec<(K, V)> = table.iter().collect::<Result<_, _>>().expect("readable");
    for (key, mut value) in entries {
        with(&key, &mut value);
        table.insert(key, value, 0).expect("writable");
    }
}
