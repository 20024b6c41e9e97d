//! Packets of pods that go into the device that encrypts, and from it to pods, past the stack.

use std::net::SocketAddr;

use ebpf_abi::IpcacheValue as To;
use ebpf_abi::tcp::ACK;
use weir_agent::config::HostRouting;
use weir_agent::datapath::settings::EncryptingDevice;

use crate::network::{Addresses, at, families, ifindex, ip};
use crate::node::{Hook, Node, Verdict, encrypting, on_node_with};
use crate::packet::{ETHERNET, Packet, assert_checksums};

/// Of the device.
const MTU: u32 = 1_420;
/// Of the narrowest way to a peer.
const MTU_LEAST: u32 = 1_380;
const POD_OF_PEER: u32 = To::POD | To::PEER;
const OWN_POD: u32 = To::POD | To::LOCAL;

/// Runs a test on an encrypting node whose device is the interface `other`.
fn on_routing_node(test: impl FnOnce(&mut Node) + Send) {
    let mut config = encrypting(true);
    config.encryption.host_routing = HostRouting::Bpf;
    on_node_with(&config, |node| {
        set_device(node, ifindex("other"));
        test(node);
    });
}

fn set_device(node: &Node, ifindex: u32) {
    let device = EncryptingDevice {
        ifindex,
        mtu_bytes: MTU,
        mtu_least_bytes: MTU_LEAST,
    };
    let set = node.settings().set_encrypting_device(device);
    set.expect("CONFIG");
}

/// A datagram of a pod to a pod of the other node, of so many bytes from the network header on.
fn datagram(of: &Addresses, bytes: u32) -> Packet {
    let packet = Packet::udp(at(of.local, 45_000), of.remote);
    let more = bytes as usize - packet.len() as usize;
    packet.with(|it| it.payload.resize(it.payload.len() + more, 7))
}

#[test]
fn what_a_pod_sends_to_a_peers_pod_goes_into_the_device() {
    on_routing_node(|node| {
        for of in families() {
            node.know(of.remote.ip(), POD_OF_PEER);
            for packet in [
                Packet::tcp(of.local, of.remote, ACK),
                datagram(&of, MTU_LEAST),
                Packet::icmp(
                    of.local.ip(),
                    of.remote.ip(),
                    if of.local.is_ipv4() { 8 } else { 128 },
                ),
            ] {
                let sent = packet.with(|it| it.ttl -= 1);
                node.expect(Hook::PodFrom, &packet, Verdict::Redirect, &sent);
            }
        }
    });
}

#[test]
fn what_is_out_of_the_ordinary_takes_the_way_through_the_stack() {
    on_routing_node(|node| {
        for of in families() {
            node.know(of.remote.ip(), POD_OF_PEER);
            let packet = datagram(&of, 100);
            node.expect_untouched(Hook::PodFrom, &datagram(&of, MTU_LEAST + 1));
            node.expect_untouched(Hook::PodFrom, &packet.with(|it| it.ttl = 1));
            if of.local.is_ipv4() {
                node.expect_untouched(Hook::PodFrom, &packet.with(|it| it.fragment = 185));
            }
            // To a pod of this node, to a node, to an exception without a key, to nobody's.
            for flags in [OWN_POD, To::NODE | To::PEER, To::POD | To::CLEAR_ALLOWED] {
                node.know(of.remote.ip(), flags);
                node.expect_untouched(Hook::PodFrom, &packet);
            }
            node.know(of.remote2.ip(), POD_OF_PEER);
            node.expect_untouched(Hook::PodFrom, &packet);

            // Before there is a device.
            node.know(of.remote.ip(), POD_OF_PEER);
            set_device(node, 0);
            node.expect_untouched(Hook::PodFrom, &packet);
            set_device(node, ifindex("other"));
        }
    });
}

/// Of a large buffer it counts how large its packets are.
#[test]
fn segments_of_a_stream_are_measured_one_by_one() {
    on_routing_node(|node| {
        for of in families() {
            node.know(of.remote.ip(), POD_OF_PEER);
            let packet =
                Packet::tcp(of.local, of.remote, ACK).with(|it| it.payload = vec![7; 2_800]);
            let headers = packet.len() as u32 - 2_800;
            for (segment, verdict) in [
                (MTU_LEAST - headers, Verdict::Redirect),
                (MTU_LEAST - headers + 1, Verdict::Pass),
            ] {
                let outcome = node.run_segments(Hook::PodFrom, &packet, segment);
                assert_eq!(outcome.verdict, verdict, "segments of {segment}: {outcome}");
            }
        }
    });
}

#[test]
fn unless_it_was_asked_for_the_stack_has_it_all() {
    on_node_with(&encrypting(true), |node| {
        set_device(node, ifindex("other"));
        for of in families() {
            node.know(of.remote.ip(), POD_OF_PEER);
            node.expect_untouched(Hook::PodFrom, &datagram(&of, 100));
        }
    });
}

/// A sender of another node, see [`Packet::bare_bytes`].
fn far(of: &Addresses) -> SocketAddr {
    let text = if of.remote.is_ipv4() {
        "8.0.2.5"
    } else {
        "2001:db8:86dd:2::5"
    };
    SocketAddr::new(text.parse().expect("an address"), of.remote.port())
}

#[test]
fn what_was_decrypted_for_a_pod_goes_to_its_interface() {
    const POD_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x02, 0x02];
    const PODS_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x02, 0x01];
    on_routing_node(|node| {
        for of in families() {
            node.know_all(&[(of.local.ip(), OWN_POD), (of.local2.ip(), OWN_POD)]);
            let neighbour = format!("lladdr 02:00:00:00:02:02 dev pods");
            ip(&format!("neighbour replace {} {neighbour}", of.local.ip()));
            let packet = Packet::tcp(far(&of), of.local, ACK).with(|it| {
                it.destination_mac = POD_MAC;
                it.source_mac = PODS_MAC;
            });
            let outcome = node.run_bytes(Hook::DeviceIn, &packet.bare_bytes());
            let sent = packet.with(|it| it.ttl -= 1);
            outcome.assert(Verdict::Redirect, &sent.bytes());
            assert_checksums(&outcome.frame);

            // At the end of its hops; to one whose link-layer address is not known; to the node.
            let passes = |node: &mut Node, packet: Packet| {
                let bytes = packet.bare_bytes();
                let outcome = node.run_bytes(Hook::DeviceIn, &bytes);
                outcome.assert(Verdict::Pass, &bytes);
            };
            passes(node, packet.with(|it| it.ttl = 1));
            passes(node, Packet::tcp(far(&of), of.local2, ACK));
            passes(node, Packet::tcp(far(&of), at(of.node, 80), ACK));
            assert_eq!(sent.bytes()[..ETHERNET], outcome.frame[..ETHERNET]);
        }
    });
}
