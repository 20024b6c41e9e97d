//! Packets of pods that go into the device that encrypts, and from it to pods, past the stack.

use ebpf_abi::IpcacheValue as To;
use ebpf_abi::tcp::ACK;
use weir_agent::config::HostRouting;
use weir_agent::datapath::settings::EncryptingDevice;

use crate::device::far;
use crate::network::{Addresses, at, families, ifindex};
use crate::node::{Hook, Node, Verdict, encrypting, on_node_with};
use crate::packet::{ETHERNET, Packet, extension};

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
        mtu_least_bytes: MTU_LEAST,
    };
    let set = node.settings().set_encrypting_device(Some(device));
    set.expect("CONFIG");
}

/// Makes the sender a pod of this node, and the receiver what the flags say.
fn know_both(node: &mut Node, of: &Addresses, receiver: u32) {
    node.know_all(&[(of.local.ip(), OWN_POD), (of.remote.ip(), receiver)]);
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
            know_both(node, &of, POD_OF_PEER);
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
            know_both(node, &of, POD_OF_PEER);
            let packet = datagram(&of, 100);
            node.expect_untouched(Hook::PodFrom, &datagram(&of, MTU_LEAST + 1));
            node.expect_untouched(Hook::PodFrom, &packet.with(|it| it.ttl = 1));
            if of.local.is_ipv4() {
                node.expect_untouched(Hook::PodFrom, &packet.with(|it| it.fragment = 185));
                // Four bytes of "no operation".
                node.expect_untouched(Hook::PodFrom, &packet.with(|it| it.options = vec![1; 4]));
            } else {
                let options = packet.with(|it| it.extensions = vec![extension(60, 8)]);
                node.expect_untouched(Hook::PodFrom, &options);
            }
            // To a pod of this node, to a node, to an exception without a key, to nobody's.
            for flags in [OWN_POD, To::NODE | To::PEER, To::POD | To::CLEAR_ALLOWED] {
                know_both(node, &of, flags);
                node.expect_untouched(Hook::PodFrom, &packet);
            }
            node.know_all(&[(of.local.ip(), OWN_POD), (of.remote2.ip(), POD_OF_PEER)]);
            node.expect_untouched(Hook::PodFrom, &packet);

            // As the node itself, as another node's pod, as nobody known.
            for flags in [To::NODE | To::LOCAL, POD_OF_PEER, 0] {
                node.know_all(&[(of.local.ip(), flags), (of.remote.ip(), POD_OF_PEER)]);
                node.expect_untouched(Hook::PodFrom, &packet);
            }

            // Before there is a device.
            know_both(node, &of, POD_OF_PEER);
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
            know_both(node, &of, POD_OF_PEER);
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
            know_both(node, &of, POD_OF_PEER);
            node.expect_untouched(Hook::PodFrom, &datagram(&of, 100));
        }
    });
}

#[test]
fn what_was_decrypted_for_a_pod_goes_to_its_interface() {
    on_routing_node(|node| {
        // Those that routes lead to on this kernel.
        for of in node.families() {
            node.know(of.local.ip(), OWN_POD);
            let packet = Packet::tcp(far(&of), of.local, ACK);
            // The neighbour layer fills in the addresses later, known or not.
            let outcome = node.run_bytes(Hook::DeviceIn, &packet.bare_bytes());
            assert_eq!(outcome.verdict, Verdict::Redirect, "{outcome}");
            let sent = packet.with(|it| it.ttl -= 1);
            assert_eq!(outcome.frame[ETHERNET..], sent.bytes()[ETHERNET..]);

            // At the end of its hops; too large for the interface; to a pod that is not known; to the
            // node.
            let large = packet.with(|it| it.payload = vec![7; 1_501]);
            for packet in [
                packet.with(|it| it.ttl = 1),
                large,
                Packet::tcp(far(&of), of.local2, ACK),
                Packet::tcp(far(&of), at(of.node, 80), ACK),
            ] {
                let bytes = packet.bare_bytes();
                let outcome = node.run_bytes(Hook::DeviceIn, &bytes);
                outcome.assert(Verdict::Pass, &bytes);
            }
        }
    });
}
