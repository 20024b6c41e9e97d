//! At an uplink: what is encrypted or to be decrypted passes by, what must not leave is stopped.

use core::mem::size_of;

use ebpf_abi::packet::{
    self, ETHERNET_LEN, Frame, IPV6_LEN, Ipv4Header, Ipv6Header, UdpHeader, ethertype,
};
use ebpf_abi::traffic::{self, TrafficPath};
use ebpf_abi::{DatapathConfig, IpcacheValue, Protocol};

use crate::access::same;
use crate::encryption::account::{account, report_drop};
use crate::encryption::active;
use crate::family::Ip;
use crate::hook::Skb;
use crate::steps::route;

/// Of the fragment field: what is not zero in all fragments but the first.
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// Flags of a pod of this node.
const OWN_POD: u32 = IpcacheValue::POD | IpcacheValue::LOCAL;
/// First byte of such a header: version 4, five words.
const IPV4_WITHOUT_OPTIONS: u8 = 0x45;

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
pub fn stops(skb: &Skb<'_>) -> bool {
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
