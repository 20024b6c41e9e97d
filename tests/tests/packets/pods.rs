//! The TC hooks of pods and of the uplink: what pods dial, and answers on their way out.

use std::net::SocketAddr;

use ebpf_abi::conntrack::ConntrackKind;
use ebpf_abi::tcp::{ACK, FIN, SYN};
use ebpf_abi::{Counter, IpcacheValue};

use crate::network::{Addresses, at, families};
use crate::node::{Hook, Node, Verdict, encrypting, on_node, on_node_with, small_config};
use crate::packet::{Packet, Transport, source_port};
use crate::turned::{OPENERS, answer, answered_as, before_neighbour, delivered};

const SERVICE: u32 = 7;
const POD_PORT: u16 = 45_000;

/// A pod of this node as a client.
fn pod(of: &Addresses) -> SocketAddr {
    at(of.local2, POD_PORT)
}

#[test]
fn an_internal_frontend_is_nothing_to_clients_outside() {
    on_node(|node| {
        for of in families() {
            node.backend(SERVICE, of.remote, false);
            node.internal_frontend(of.cluster_ip, SERVICE);
            for transport in OPENERS {
                let packet = Packet::of(of.client, of.cluster_ip, transport);
                node.expect_untouched(Hook::Xdp, &packet);
                node.expect_untouched(Hook::UplinkIn, &packet);
            }
        }
        assert_eq!(node.entries(), 0);
    });
}

/// A pod's connection and its answer, with the backend here or elsewhere.
fn pod_connects(node: &mut Node, of: &Addresses, frontend: SocketAddr, local: bool) {
    let backend = if local { of.local } else { of.remote };
    node.backend(SERVICE, backend, local);
    for transport in OPENERS {
        let packet = Packet::of(pod(of), frontend, transport);
        let leaves = delivered(&packet, backend);
        node.expect(Hook::PodFrom, &packet, Verdict::Pass, &leaves);
        // Nothing more is done to it where it goes next, into a pod or out of the uplink.
        let next = if local {
            Hook::PodTo
        } else {
            Hook::UplinkOutForwarded
        };
        node.expect_untouched(next, &leaves);

        let reply = Packet::of(backend, pod(of), answer(transport));
        // Where it comes in it stays what it is, so that netfilter sees both directions alike.
        let comes_in = if local {
            &[Hook::PodFrom][..]
        } else {
            &[Hook::Xdp, Hook::UplinkIn]
        };
        for hook in comes_in {
            node.expect_untouched(*hook, &reply);
        }
        let leaves = answered_as(&reply, frontend);
        node.expect(Hook::PodTo, &reply, Verdict::Pass, &leaves);
    }
    let entry = node.entry(&Packet::udp(pod(of), frontend)).unwrap();
    assert_eq!(entry.kind, ConntrackKind::TO_LOCAL);
}

#[test]
fn a_pod_reaches_an_internal_frontend() {
    on_node(|node| {
        for of in families() {
            node.internal_frontend(of.cluster_ip, SERVICE);
            pod_connects(node, &of, of.cluster_ip, true);
        }
    });
    on_node(|node| {
        for of in families() {
            node.internal_frontend(of.cluster_ip, SERVICE);
            pod_connects(node, &of, of.cluster_ip, false);
        }
    });
}

#[test]
fn a_pod_reaches_an_external_frontend_under_its_own_address() {
    on_node(|node| {
        for of in families() {
            node.frontend(of.vip, SERVICE);
            pod_connects(node, &of, of.vip, true);
        }
    });
    on_node(|node| {
        for of in families() {
            node.frontend(of.vip, SERVICE);
            pod_connects(node, &of, of.vip, false);
        }
    });
}

#[test]
fn a_pod_that_is_its_own_backend_sees_the_node_as_the_client() {
    on_node(|node| {
        for of in node.families() {
            node.backend(SERVICE, of.local2, true);
            node.internal_frontend(of.cluster_ip, SERVICE);
            for transport in OPENERS {
                let packet = Packet::of(pod(&of), of.cluster_ip, transport);
                let outcome = node.run(Hook::PodFrom, &packet);
                let near = at(of.node, source_port(&outcome.frame));
                let leaves = packet.with(|packet| {
                    (packet.source, packet.destination) = (near, of.local2);
                    packet.ttl -= 1;
                });
                outcome.assert(Verdict::Redirect, &leaves.bytes());
                node.expect_untouched(Hook::PodTo, &leaves);

                let reply = Packet::of(of.local2, near, answer(transport));
                let leaves = reply.with(|packet| {
                    (packet.source, packet.destination) = (of.cluster_ip, pod(&of));
                    packet.ttl -= 1;
                });
                node.expect(Hook::PodFrom, &reply, Verdict::Redirect, &leaves);
                node.expect_untouched(Hook::PodTo, &leaves);
            }
        }
    });
}

#[test]
fn a_local_backends_answers_leave_as_the_frontend() {
    on_node(|node| {
        for of in families() {
            node.service(SERVICE, of.vip, of.local, true);
            for transport in OPENERS {
                node.run(Hook::Xdp, &Packet::of(of.client, of.vip, transport));
                let reply = Packet::of(of.local, of.client, answer(transport));
                node.expect_untouched(Hook::PodFrom, &reply);
                let leaves = answered_as(&reply, of.vip);
                for hook in [Hook::UplinkOut, Hook::UplinkOutForwarded] {
                    node.expect(hook, &reply, Verdict::Pass, &leaves);
                }
            }
            let entry = node.entry(&Packet::udp(of.local, of.client)).unwrap();
            let sent = Packet::udp(of.local, of.client).len();
            assert_eq!((entry.packets, entry.bytes), (4, 4 * sent));
        }
    });
}

#[test]
fn answers_are_translated_as_long_as_a_conversation_is_remembered() {
    on_node(|node| {
        for of in families() {
            node.service(SERVICE, of.vip, of.local, true);
            node.run(Hook::Xdp, &Packet::udp(of.client, of.vip));
            let reply = Packet::udp(of.local, of.client);
            let leaves = answered_as(&reply, of.vip);
            for pause in [0.5, 2.0, 119.0] {
                node.let_pass(pause);
                node.expect(Hook::UplinkOut, &reply, Verdict::Pass, &leaves);
            }
            node.let_pass(121.0);
            node.expect_untouched(Hook::UplinkOut, &reply);
        }
    });
}

#[test]
fn what_a_local_backend_says_to_others_is_left_alone() {
    on_node(|node| {
        for of in families() {
            node.service(SERVICE, of.vip, of.local, true);
            node.run(Hook::Xdp, &Packet::tcp(of.client, of.vip, SYN));
            let others = [
                Packet::tcp(of.local, at(of.client, 1), ACK),
                Packet::udp(of.local, of.client),
                Packet::tcp(at(of.local, 1), of.client, ACK),
                Packet::tcp(of.local2, of.client, ACK),
            ];
            for packet in &others {
                for hook in [Hook::PodFrom, Hook::UplinkOut, Hook::PodTo] {
                    node.expect_untouched(hook, packet);
                }
            }
        }
    });
}

#[test]
fn requests_that_leave_by_the_uplink_are_not_taken_for_answers() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.remote, false);
            let packet = Packet::udp(of.client, of.vip);
            let outcome = node.run(Hook::UplinkIn, &packet);
            assert_eq!(outcome.verdict, Verdict::Redirect);
            // TC hands it to the neighbour layer, so it passes the uplink's other hook too.
            node.run_bytes(Hook::UplinkOutForwarded, &outcome.frame)
                .assert(Verdict::Pass, &outcome.frame);
            node.expect_untouched(Hook::UplinkOut, &packet);
        }
    });
}

#[test]
fn the_end_of_a_connection_is_seen_in_both_directions() {
    on_node(|node| {
        for of in families() {
            node.service(SERVICE, of.vip, of.local, true);
            let request = |flags| Packet::tcp(of.client, of.vip, flags);
            let reply = |flags| Packet::tcp(of.local, of.client, flags);
            node.run(Hook::Xdp, &request(SYN));
            node.run(Hook::UplinkOut, &reply(SYN | ACK));
            node.run(Hook::Xdp, &request(ACK));
            node.run(Hook::UplinkOut, &reply(FIN | ACK));
            node.run(Hook::Xdp, &request(FIN | ACK));
            assert_eq!(node.entry(&request(0)).unwrap().tcp_flags, SYN | ACK | FIN);
            assert_eq!(node.entry(&reply(0)).unwrap().tcp_flags, SYN | ACK | FIN);
        }
    });
}

/// Asserts that a buffer's sum over the packet is still right after a program changed the packet.
fn stays_summed(node: &mut Node, hook: Hook, packet: &Packet, verdict: Verdict, leaves: &Packet) {
    let outcome = node
        .run_summed(hook, packet)
        .unwrap_or_else(|error| panic!("{hook:?} of {packet:?}: {error}"));
    outcome.assert(verdict, &leaves.bytes());
}

#[test]
fn the_sum_that_a_device_delivered_stays_right() {
    on_node(|node| {
        let of = families()[0];
        let any = Packet::udp(of.client, of.local);
        match node.run_summed(Hook::UplinkIn, &any) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                println!("SKIPPED: this kernel runs no program on a buffer that carries a sum");
                return;
            }
            other => drop(other.expect("runs")),
        }
        for of in node.families() {
            node.service(SERVICE, of.vip, of.local, true);
            node.service(SERVICE + 1, of.vip2, of.remote, false);
            // Nobody asks for the sum of a packet that needs no verification.
            for transport in [Transport::Tcp(SYN), Transport::Udp] {
                let packet = Packet::of(of.client, of.vip, transport);
                let leaves = delivered(&packet, of.local);
                stays_summed(node, Hook::UplinkIn, &packet, Verdict::Pass, &leaves);
                let reply = Packet::of(of.local, of.client, transport);
                let leaves = answered_as(&reply, of.vip);
                stays_summed(node, Hook::UplinkOut, &reply, Verdict::Pass, &leaves);

                let packet = Packet::of(of.client, of.vip2, transport);
                node.run(Hook::UplinkIn, &packet);
                let port = node.entry(&packet).unwrap().rewrite.0.port();
                let leaves = node.wire.sent_to_peer(&packet, &of, port, of.remote);
                let leaves = before_neighbour(&packet, &leaves);
                stays_summed(node, Hook::UplinkIn, &packet, Verdict::Redirect, &leaves);
            }
        }
    });
}

#[test]
fn a_pods_packet_to_a_frontend_without_backends_is_dropped() {
    on_node(|node| {
        for of in families() {
            node.internal_frontend(of.cluster_ip, SERVICE);
            let packet = Packet::of(pod(&of), of.cluster_ip, Transport::Udp);
            node.run(Hook::PodFrom, &packet)
                .assert(Verdict::Drop, &packet.bytes());
            node.expect_counted(&[(Counter::DropNoBackend, 1)]);
        }
    });
}

const NODE_PORT: u16 = 30_080;

#[test]
fn a_pod_reaches_the_node_ports_of_other_nodes() {
    for local in [true, false] {
        on_node_with(&encrypting(false), |node| {
            for of in families() {
                let there = at(of.remote2, NODE_PORT);
                node.know(there.ip(), IpcacheValue::NODE);
                node.node_port(at(of.node, NODE_PORT), SERVICE);
                pod_connects(node, &of, there, local);
            }
        });
    }
}

#[test]
fn only_pods_and_only_nodes_have_the_node_ports_of_this_node() {
    on_node_with(&encrypting(false), |node| {
        for of in families() {
            let there = at(of.remote2, NODE_PORT);
            node.backend(SERVICE, of.local, true);
            node.node_port(at(of.node, NODE_PORT), SERVICE);
            let expect_untouched = |node: &mut Node, hook, source, destination| {
                for transport in OPENERS {
                    let packet = Packet::of(source, destination, transport);
                    node.expect_untouched(hook, &packet);
                }
            };
            expect_untouched(node, Hook::PodFrom, pod(&of), there);
            node.know(there.ip(), IpcacheValue::POD);
            expect_untouched(node, Hook::PodFrom, pod(&of), there);

            node.know(there.ip(), IpcacheValue::NODE);
            expect_untouched(node, Hook::Xdp, of.client, there);
            expect_untouched(node, Hook::UplinkIn, of.client, there);
            // A port of the node's address, but no NodePort.
            node.frontend(at(of.node, NODE_PORT + 1), SERVICE);
            expect_untouched(node, Hook::PodFrom, pod(&of), at(there, NODE_PORT + 1));

            // Without encryption the other node is reached by a way of its own.
            node.settings().set_config(&small_config()).expect("CONFIG");
            expect_untouched(node, Hook::PodFrom, pod(&of), there);
            let config = encrypting(false);
            node.settings().set_config(&config).expect("CONFIG");
        }
        assert_eq!(node.entries(), 0);
    });
}
