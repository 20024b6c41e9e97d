//! The connection table: look-up and what every packet changes in its entry.

use ebpf_abi::packet::Packet;
use ebpf_abi::{ConntrackValue, DatapathConfig, Protocol, tcp};

use crate::access::{entry, jiffies, now_ns};
use crate::family::Ip;

/// The entry of a packet.
#[inline(always)]
pub fn find<A: Ip>(packet: &Packet<A>) -> Option<&'static mut ConntrackValue<A>> {
    entry(A::conntrack(), &packet.tuple)
}

/// True if a packet without an entry may belong to a connection that will have one in a moment: it
/// must neither open a new one nor pass untranslated. TCP sends it again.
#[inline(always)]
pub fn may_be_carried_over<A: Ip>(packet: &Packet<A>, config: &DatapathConfig) -> bool {
    config.carrying_over_until_ns != 0
        && packet.tuple.protocol == Protocol::TCP
        && !tcp::is_opening(packet.tcp_flags)
        && now_ns() < config.carrying_over_until_ns
}

/// True if the packet starts a new connection on the ports of one that has ended.
#[inline(always)]
pub fn reopens<A: Ip>(packet: &Packet<A>, entry: &ConntrackValue<A>) -> bool {
    tcp::is_opening(packet.tcp_flags) && entry.is_closing()
}

/// True if the entry was checked within the last second and against the current settings.
#[inline(always)]
pub fn is_fresh<A: Ip>(entry: &ConntrackValue<A>, config: &DatapathConfig) -> bool {
    entry.generation == config.generation
        && jiffies().wrapping_sub(entry.checked_at) <= config.jiffies_per_second
}

/// Marks the entry as checked now.
#[inline(always)]
pub fn touch<A: Ip>(entry: &mut ConntrackValue<A>, config: &DatapathConfig) {
    entry.generation = config.generation;
    entry.checked_at = jiffies();
}

/// True if nothing was seen of the connection for so long that its ports count as free.
#[inline(always)]
pub fn is_idle<A: Ip>(
    entry: &ConntrackValue<A>,
    protocol: Protocol,
    config: &DatapathConfig,
) -> bool {
    let timeout_seconds = match protocol {
        Protocol::TCP => config.tcp_idle_seconds,
        _ => config.udp_idle_seconds,
    };
    let idle = jiffies().wrapping_sub(entry.checked_at);
    u64::from(idle) > u64::from(timeout_seconds) * u64::from(config.jiffies_per_second)
}

/// Counts a packet. Not atomic: the packets of a flow come in on one CPU, and a count lost where
/// they do not is cheaper than a locked instruction for every packet.
#[inline(always)]
pub fn account<A: Ip>(entry: &mut ConntrackValue<A>, packet: &Packet<A>) {
    entry.packets += 1;
    entry.bytes += u64::from(packet.len_bytes);
}

/// True if the packet carries a TCP flag that this direction has not shown before.
#[inline(always)]
pub fn has_new_flags<A: Ip>(entry: &ConntrackValue<A>, packet: &Packet<A>) -> bool {
    packet.tcp_flags & !entry.tcp_flags != 0 || entry.packets == 1
}
