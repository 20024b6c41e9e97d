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

/// Marks the entry as checked now, against the settings of a generation that was read before.
#[inline(always)]
pub fn touch<A: Ip>(entry: &mut ConntrackValue<A>, generation: u32) {
    entry.generation = generation;
    entry.checked_at = jiffies();
}

/// True if nothing was seen of the connection in the direction of this entry for so long that it
/// counts as ended.
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
    is_longer(silence(entry, jiffies()), timeout_seconds, config)
}

/// True if both sides have closed the connection, or one has reset it.
#[inline(always)]
pub fn is_closed<A: Ip>(request: &ConntrackValue<A>, reply: &ConntrackValue<A>) -> bool {
    (request.tcp_flags | reply.tcp_flags) & tcp::RST != 0
        || request.tcp_flags & reply.tcp_flags & tcp::FIN != 0
}

/// True if the entry of a connection's answers, whose other entry is gone, counts as ended. Of one that
/// has shown no more than a handshake nobody knows whether it had a client.
#[inline(always)]
pub fn is_left_over<A: Ip>(
    reply: &ConntrackValue<A>,
    protocol: Protocol,
    config: &DatapathConfig,
) -> bool {
    let has_conversed = reply.tcp_flags & !(tcp::SYN | tcp::ACK) != 0;
    if protocol == Protocol::TCP && (!has_conversed || reply.is_closing()) {
        return is_longer(silence(reply, jiffies()), UNSETTLED_SECONDS, config);
    }
    is_idle(reply, protocol, config)
}

/// True if a connection, with the entries of both its directions, is over, so that its ports count as
/// free: it was silent for as long as its state allows. Nobody here compares sequence numbers, so what
/// closed it may be forged, and a connection that goes on is no one's to take over.
#[inline(always)]
pub fn is_over<A: Ip>(
    request: &ConntrackValue<A>,
    reply: &ConntrackValue<A>,
    protocol: Protocol,
    ports: Ports,
    config: &DatapathConfig,
) -> bool {
    let now = jiffies();
    let of_request = silence(request, now);
    let of_either_way = of_request.min(silence(reply, now));
    let (silence, seconds) = if ports == Ports::Scarce && is_closed(request, reply) {
        let may_be_forged =
            (request.tcp_flags & reply.tcp_flags & tcp::FIN) | (reply.tcp_flags & tcp::RST) == 0;
        let seconds = if may_be_forged {
            RESET_SECONDS_MIN
        } else {
            CLOSED_SECONDS_MIN
        };
        (of_either_way, seconds)
    } else if protocol != Protocol::TCP {
        (of_either_way, config.udp_idle_seconds)
    } else if request.tcp_flags & tcp::ACK == 0 {
        // A client that does not exist never acknowledges, and the backend's answers are no life.
        (of_request, UNSETTLED_SECONDS)
    } else if (request.tcp_flags | reply.tcp_flags) & (tcp::FIN | tcp::RST) != 0 {
        (of_either_way, UNSETTLED_SECONDS)
    } else {
        (of_either_way, config.tcp_idle_seconds)
    };
    is_longer(silence, seconds, config)
}

/// Whether a port has to be found among few.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Ports {
    /// There may be others.
    Plenty,
    /// Others were tried, and held.
    Scarce,
}

/// How long a TCP connection may be silent that its client has not acknowledged yet, as netfilter has it
/// (`tcp_timeouts` in `net/netfilter/nf_conntrack_proto_tcp.c`), or that was closed: for so long the
/// backend remembers it (`TCP_TIMEWAIT_LEN` in `include/net/tcp.h`), and may refuse another one.
const UNSETTLED_SECONDS: u32 = 60;
/// Likewise one that was closed, if ports are scarce. One that goes on is checked once a second.
const CLOSED_SECONDS_MIN: u32 = 2;
/// Likewise if all that closed it is a reset from the client's side, which takes no more to forge than the
/// client's address and port.
const RESET_SECONDS_MIN: u32 = 10;

/// Ticks since an entry was checked. None if another CPU has just done so, after `now` was read.
#[inline(always)]
fn silence<A: Ip>(entry: &ConntrackValue<A>, now: u32) -> u32 {
    let ticks = now.wrapping_sub(entry.checked_at);
    if ticks.cast_signed() < 0 { 0 } else { ticks }
}

/// True if a time, in ticks, is longer than so many seconds.
#[inline(always)]
fn is_longer(ticks: u32, seconds: u32, config: &DatapathConfig) -> bool {
    u64::from(ticks) > u64::from(seconds) * u64::from(config.jiffies_per_second)
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
