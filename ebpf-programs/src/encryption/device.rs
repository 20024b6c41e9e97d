//! At the WireGuard device. It carries bare IP packets: its buffers have no Ethernet header.

use ebpf_abi::conntrack::ConntrackKind;
use ebpf_abi::event::ObservationPoint;
use ebpf_abi::packet::{self, Frame, Ipv4Header, Ipv6Header, Packet, ethertype};
use ebpf_abi::traffic::TrafficPath;
use ebpf_abi::{Addr4, Addr6, Be16, Counter, DatapathConfig, NodeId, tcp};

use crate::access::{count, settings};
use crate::balance::{self, Place, Verdict};
use crate::encryption::account::account;
use crate::encryption::active;
use crate::family::Ip;
use crate::hook::BareSkb;
use crate::host_routing::{self, Way};
use crate::observe;
use crate::steps::{conntrack, frontend, translate};

/// Counts and observes a buffer that is about to be encrypted.
#[inline(always)]
pub fn leave(skb: &BareSkb<'_>) {
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

#[inline(never)]
fn account_encrypted<A: Ip>(skb: &BareSkb<'_>, destination: &A) {
    let node = A::ipcache(destination).map_or(NodeId(0), |known| known.node);
    account(skb, node, TrafficPath::ENCRYPTED);
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

/// What becomes of a buffer that was decrypted. It may be so after the node has ended encryption: others
/// encrypt for it until they have heard.
#[inline(always)]
pub fn enter(skb: &BareSkb<'_>) -> Verdict {
    skb.pull_headers();
    match receive(skb) {
        Decrypted::GoesOn(way) => way.into(),
        Decrypted::Answer => match send_answer(skb) {
            0 => Verdict::Drop,
            code => Verdict::Redirect(code),
        },
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
