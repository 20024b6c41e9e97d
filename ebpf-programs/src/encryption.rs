//! What must not leave in clear text, and the account of what does.
//!
//! Routing leads packets to other nodes' pods into the WireGuard device; nothing here encrypts. The
//! programs at the uplinks drop what routing failed to lead there, from the first packet on and also
//! while no agent runs. Those at the device itself count, report, keep TCP segments small enough for
//! it, and hand the answers of remote backends to the balancer. The device carries bare IP packets:
//! its buffers have no Ethernet header.

use core::mem::size_of;

use aya_ebpf::bindings::BPF_ANY;
use ebpf_abi::conntrack::ConntrackKind;
use ebpf_abi::event::ObservationPoint;
use ebpf_abi::packet::{
    self, ETHERNET_LEN, Frame, IPV6_LEN, Ipv4Header, Ipv6Header, Packet, UdpHeader, ethertype,
};
use ebpf_abi::traffic::{self, TrafficKey, TrafficPath, TrafficValue};
use ebpf_abi::{
    Addr4, Addr6, Be16, Counter, DatapathConfig, DropReason, IpcacheValue, NodeId, Protocol, tcp,
};

use crate::access::{count, count_many, same, settings, traffic_of};
use crate::balance::{self, Place, Verdict};
use crate::emit;
use crate::family::Ip;
use crate::hook::{BareSkb, Skb};
use crate::host_routing::{self, Way};
use crate::maps::TRAFFIC;
use crate::observe;
use crate::steps::{conntrack, frontend, route, translate};

/// Of the fragment field: what is not zero in all fragments but the first.
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// Flags of a pod of this node.
const OWN_POD: u32 = IpcacheValue::POD | IpcacheValue::LOCAL;
/// First byte of such a header: version 4, five words.
const IPV4_WITHOUT_OPTIONS: u8 = 0x45;

/// The settings while encryption is on.
#[inline(always)]
fn active() -> Option<&'static DatapathConfig> {
    settings().filter(|config| config.flags & DatapathConfig::ENCRYPT != 0)
}

/// True if a device of ours has encrypted the buffer, or a process of the node with the right to mark
/// packets says so. What is inside was counted and observed at the device.
#[inline(always)]
pub fn is_encrypted(skb: &Skb<'_>) -> bool {
    active().is_some_and(|config| skb.mark() == config.encrypted_mark)
}

/// True if a buffer from the network is for this node's own device. What is inside is counted and
/// observed there, if it can be decrypted.
#[inline(always)]
pub fn is_to_decrypt(skb: &Skb<'_>) -> bool {
    let Some(config) = active() else { return false };
    if skb.has_vlan_tag() {
        return false;
    }
    let frame = skb.bytes();
    match packet::network_protocol(&frame) {
        Ok(ethertype::IPV4) => frame.read(ETHERNET_LEN).is_some_and(|ip: Ipv4Header| {
            ip.version_ihl == IPV4_WITHOUT_OPTIONS
                && ip.protocol == Protocol::UDP
                && is_to_device(&frame, ETHERNET_LEN + size_of::<Ipv4Header>(), config)
                && is_own_node(&ip.destination, &config.node4)
        }),
        Ok(ethertype::IPV6) => frame.read(ETHERNET_LEN).is_some_and(|ip: Ipv6Header| {
            ip.next_header == Protocol::UDP
                && is_to_device(&frame, ETHERNET_LEN + IPV6_LEN, config)
                && is_own_node(&ip.destination, &config.node6)
        }),
        _ => false,
    }
}

/// Fragments but the first have no ports: what stands there may look like one, and passes all the same.
#[inline(always)]
fn is_to_device(frame: &Frame<'_>, offset: usize, config: &DatapathConfig) -> bool {
    let udp = frame.read::<UdpHeader>(offset);
    udp.is_some_and(|udp| udp.destination_port == config.encrypted_port)
}

/// The first address of the uplinks need not be the one that others know the node by.
#[inline(always)]
fn is_own_node<A: Ip>(address: &A, first: &A) -> bool {
    const OWN_NODE: u32 = IpcacheValue::NODE | IpcacheValue::LOCAL;
    same(address, first)
        || A::ipcache(address).is_some_and(|known| known.flags & OWN_NODE == OWN_NODE)
}

/// True if a buffer about to leave by an uplink was dropped, as it would have left in clear text.
/// Counts what goes to other nodes.
#[inline(always)]
pub fn stops_at_uplink(skb: &Skb<'_>) -> bool {
    let Some(config) = active() else { return false };
    let frame = skb.bytes();
    let Some((protocol, start)) = packet::network_header(&frame) else {
        return false;
    };
    let stopped = match protocol {
        ethertype::IPV4 => frame.read(start).is_some_and(|ip: Ipv4Header| {
            let offset = start + usize::from(ip.version_ihl & 0x0f) * 4;
            let first = ip.fragment.get() & FRAGMENT_OFFSET == 0;
            let tunnelled = is_tunnel(&frame, ip.protocol, first.then_some(offset));
            leaves_in_clear(skb, &ip.source, &ip.destination, tunnelled, config)
        }),
        ethertype::IPV6 => frame.read(start).is_some_and(|ip: Ipv6Header| {
            let tunnelled = is_tunnel(&frame, ip.next_header, Some(start + IPV6_LEN));
            leaves_in_clear(skb, &ip.source, &ip.destination, tunnelled, config)
        }),
        _ => false,
    };
    if stopped {
        report_drop(skb);
    }
    stopped
}

/// What is known of a packet's receiver: flags as in [`IpcacheValue`]. A number, as functions that are not
/// inlined return one.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Receiver(u32);

impl Receiver {
    /// Nothing, or nobody has looked yet.
    pub const UNKNOWN: Self = Self(0);
    /// A pod or a node that is known and that nobody has a key of. The packet was dropped.
    pub const UNREACHABLE: Self = Self(u32::MAX);

    /// Looks at whose address it is unless that is known.
    #[inline(always)]
    pub fn or_look_up<A: Ip>(self, destination: &A) -> Self {
        if self != Self::UNKNOWN {
            return self;
        }
        A::ipcache(destination).map_or(Self::UNKNOWN, |known| Self(known.flags))
    }

    /// True if it is a pod of another node, which is a peer.
    #[inline(always)]
    pub fn is_pod_of_peer(self) -> bool {
        const POD_OF_PEER: u32 = IpcacheValue::POD | IpcacheValue::PEER;
        self.0 & (POD_OF_PEER | IpcacheValue::LOCAL) == POD_OF_PEER
    }
}

/// Whom a pod's buffer is for, if encryption is strict: it was dropped if that is
/// [`Receiver::UNREACHABLE`].
#[inline(always)]
pub fn receiver(skb: &Skb<'_>) -> Receiver {
    if !active().is_some_and(|config| config.flags & DatapathConfig::STRICT != 0) {
        return Receiver::UNKNOWN;
    }
    let frame = skb.bytes();
    let Some((protocol, start)) = packet::network_header(&frame) else {
        return Receiver::UNKNOWN;
    };
    let receiver = match protocol {
        ethertype::IPV4 => frame
            .read(start)
            .map(|ip: Ipv4Header| peer_of(skb, &ip.destination)),
        ethertype::IPV6 => frame
            .read(start)
            .map(|ip: Ipv6Header| peer_of(skb, &ip.destination)),
        _ => None,
    };
    let receiver = receiver.unwrap_or(Receiver::UNKNOWN);
    if receiver == Receiver::UNREACHABLE {
        report_drop(skb);
    }
    receiver
}

/// Counts and observes a buffer that is about to be encrypted.
#[inline(always)]
pub fn leave_by_device(skb: &BareSkb<'_>) {
    let Some(config) = active() else { return };
    skb.pull_headers();
    let frame = skb.bytes();
    match skb.network_protocol() {
        ethertype::IPV4 => match packet::parse_ipv4(&frame) {
            Ok(packet) => packet_to_encrypt::<Addr4>(skb, &frame, &packet, config),
            // Fragments, and what has no ports, are counted all the same.
            Err(_) => {
                if let Some(ip) = frame.read::<Ipv4Header>(0) {
                    account_encrypted(skb, &ip.destination);
                }
            }
        },
        ethertype::IPV6 => match packet::parse_ipv6(&frame) {
            Ok(packet) => packet_to_encrypt::<Addr6>(skb, &frame, &packet, config),
            Err(_) => {
                if let Some(ip) = frame.read::<Ipv6Header>(0) {
                    account_encrypted(skb, &ip.destination);
                }
            }
        },
        _ => {}
    }
}

#[inline(always)]
fn packet_to_encrypt<A: Ip>(
    skb: &BareSkb<'_>,
    frame: &Frame<'_, 0>,
    packet: &Packet<A>,
    config: &DatapathConfig,
) {
    account_encrypted(skb, &packet.tuple.destination);
    if packet.tcp_flags & tcp::SYN != 0 {
        clamp_segments(skb, frame, packet, config);
    }
    observe::packet(skb, packet, ObservationPoint::TO_CRYPTO);
}

/// What becomes of a buffer that was decrypted. It may be so after the node has ended encryption: others
/// encrypt for it until they have heard.
#[inline(always)]
pub fn enter_by_device(skb: &BareSkb<'_>) -> Verdict {
    skb.pull_headers();
    match receive(skb) {
        Decrypted::GoesOn(way) => way.into(),
        Decrypted::Answer => match send_answer(skb) {
            0 => Verdict::Drop,
            code => Verdict::Redirect(code),
        },
    }
}

/// Hands an answer to the balancer. Returns the code of a redirect, or 0 to drop it.
///
/// Neither this nor [`receive`] is inlined: each needs stack that the other does not, and a
/// call returns one number.
#[inline(never)]
fn send_answer(skb: &BareSkb<'_>) -> u32 {
    // The answer leaves by an Ethernet interface, and the balancer reads Ethernet frames.
    let skb = match skb.with_ethernet_header() {
        Ok(skb) => skb,
        Err(reason) => {
            count(reason.counter());
            return 0;
        }
    };
    match balance::frame(&skb, Place::Uplink) {
        Verdict::Redirect(code) => code,
        // Its connection was forgotten in this very moment; the stack could not read the frame.
        Verdict::Pass | Verdict::Translated => {
            count(Counter::DropNoRoute);
            0
        }
        Verdict::Transmit | Verdict::Drop => 0,
    }
}

/// Lets a buffer leave unless it goes to another node and must be encrypted.
#[inline(never)]
fn leaves_in_clear<A: Ip>(
    skb: &Skb<'_>,
    source: &A,
    destination: &A,
    tunnelled: bool,
    config: &DatapathConfig,
) -> bool {
    let Some(known) = A::ipcache(destination) else {
        return false;
    };
    let Some(path) = traffic::path_in_clear(known, tunnelled, || source.is_own_pod(), config)
    else {
        return false;
    };
    if known.flags & OWN_POD == OWN_POD && route::is_on_link(skb, source, destination) {
        // The uplink is the bridge that the node's pods hang on.
        return false;
    }
    account(skb, known.node, path);
    path == TrafficPath::DROPPED
}

#[inline(never)]
fn peer_of<A: Ip>(skb: &Skb<'_>, destination: &A) -> Receiver {
    const REACHABLE: u32 = IpcacheValue::LOCAL | IpcacheValue::PEER | IpcacheValue::CLEAR_ALLOWED;
    let Some(known) = A::ipcache(destination) else {
        return Receiver::UNKNOWN;
    };
    if known.has(REACHABLE) {
        return Receiver(known.flags);
    }
    account(skb, known.node, TrafficPath::DROPPED);
    Receiver::UNREACHABLE
}

#[inline(never)]
fn account_encrypted<A: Ip>(skb: &BareSkb<'_>, destination: &A) {
    let node = A::ipcache(destination).map_or(NodeId(0), |known| known.node);
    account(skb, node, TrafficPath::ENCRYPTED);
}

/// Adds a buffer to the account of a node.
#[inline(always)]
fn account<const LINK_LEN: usize>(skb: &Skb<'_, LINK_LEN>, node: NodeId, path: TrafficPath) {
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
fn report_drop(skb: &Skb<'_>) {
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

/// True if a packet may carry others. `offset` is that of its transport header; fragments but the
/// first have none.
#[inline(always)]
fn is_tunnel(frame: &Frame<'_>, protocol: Protocol, offset: Option<usize>) -> bool {
    let udp = match (protocol, offset) {
        (Protocol::UDP, Some(offset)) => frame.read::<UdpHeader>(offset),
        _ => None,
    };
    traffic::is_tunnel(protocol, udp.map(|udp| udp.destination_port))
}

/// Has the receiver of an opening TCP segment send no more at a time than the device takes.
#[inline(never)]
fn clamp_segments<A: Ip>(
    skb: &BareSkb<'_>,
    frame: &Frame<'_, 0>,
    packet: &Packet<A>,
    config: &DatapathConfig,
) {
    let Some(offered) = packet::max_segment_size(frame, packet) else {
        return;
    };
    let room = config.encrypted_mtu.saturating_sub(A::HEADERS_LEN);
    if room != 0 && u32::from(offered.size.get()) > room {
        translate::segment_size(skb.skb(), packet, &offered, Be16::new(room as u16));
    }
}

/// What a decrypted packet is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decrypted {
    /// One for this node or its pods, which is on its way.
    GoesOn(Way),
    /// The answer of another node's backend to a client of this node's.
    Answer,
}

/// Observes a decrypted packet and may send it to its pod, unless it is an answer for the balancer.
#[inline(never)]
fn receive(skb: &BareSkb<'_>) -> Decrypted {
    let frame = skb.bytes();
    let on = Decrypted::GoesOn(Way::Stack);
    match skb.network_protocol() {
        ethertype::IPV4 => {
            packet::parse_ipv4(&frame).map_or(on, |packet| receive_packet::<Addr4>(skb, &packet))
        }
        ethertype::IPV6 => {
            packet::parse_ipv6(&frame).map_or(on, |packet| receive_packet::<Addr6>(skb, &packet))
        }
        _ => on,
    }
}

#[inline(always)]
fn receive_packet<A: Ip>(skb: &BareSkb<'_>, packet: &Packet<A>) -> Decrypted {
    if is_from_remote(packet) {
        return Decrypted::Answer;
    }
    observe::packet(skb, packet, ObservationPoint::FROM_CRYPTO);
    Decrypted::GoesOn(host_routing::to_pod(skb, packet))
}

/// What may be such an answer once its connection was carried over counts as one: the balancer drops it. The
/// stack would answer it with a reset. What a pod of this node gets is none.
#[inline(never)]
fn is_from_remote<A: Ip>(packet: &Packet<A>) -> bool {
    let Some(config) = settings() else {
        return false;
    };
    frontend::may_concern(packet, Place::Uplink, config)
        && match conntrack::find(packet) {
            Some(entry) => entry.kind == ConntrackKind::FROM_REMOTE,
            None => {
                conntrack::may_be_carried_over(packet, config)
                    && !packet.tuple.destination.is_own_pod()
            }
        }
}
