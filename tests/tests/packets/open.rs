//! Opening connections and ending them.

use ebpf_abi::conntrack::ConntrackKind;
use ebpf_abi::tcp::{ACK, FIN, RST, SYN};
use ebpf_abi::{BackendId, Counter, DropReason, ServiceId};
use weir_agent::lb::BackendAddress;
use weir_agent::lb::apply::LbMaps;

use crate::network::{Addresses, at};
use crate::node::{Hook, Node, Verdict, on_new_node, on_node, small_config};
use crate::packet::{Packet, source_port};
use crate::turned::{OPENERS, answer, answered_as, delivered};

pub const FIRST: u32 = 1;
pub const SECOND: u32 = 2;

pub fn syn(of: &Addresses) -> Packet {
    Packet::tcp(of.client, of.vip, SYN)
}

/// Sends a packet that goes to another node and returns this node's port for it.
#[track_caller]
pub fn port_of(node: &mut Node, packet: &Packet) -> u16 {
    let outcome = node.run(Hook::Xdp, packet);
    assert_eq!(outcome.verdict, Verdict::Transmit, "{outcome}");
    source_port(&outcome.frame)
}

#[test]
fn both_directions_have_an_entry() {
    on_node(|node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            node.service(SECOND, of.vip2, of.local, true);
            let remote = syn(&of);
            let port = port_of(node, &remote);
            let own = at(of.node, port);
            let entry = node.entry(&remote).unwrap();
            assert_eq!(entry.kind, ConntrackKind::TO_REMOTE);
            assert_eq!(entry.rewrite, (own, of.remote));
            assert_eq!((entry.service, entry.backend), (FIRST, FIRST));
            assert_eq!(entry.tcp_flags, SYN);
            assert_eq!(entry.next_hop.ifindex, node.wire.ifindex);
            assert_eq!(entry.next_hop.destination_mac, node.wire.peer);
            assert_eq!(entry.next_hop.source_mac, node.wire.uplink);
            let reply = node.entry(&Packet::tcp(of.remote, own, SYN | ACK)).unwrap();
            assert_eq!(reply.kind, ConntrackKind::FROM_REMOTE);
            assert_eq!(reply.rewrite, (of.vip, of.client));
            assert_eq!((reply.packets, reply.bytes), (0, 0));
            assert_eq!((reply.service, reply.backend), (FIRST, FIRST));

            let local = Packet::udp(of.client, of.vip2);
            node.run(Hook::Xdp, &local);
            let entry = node.entry(&local).unwrap();
            assert_eq!(entry.kind, ConntrackKind::TO_LOCAL);
            assert_eq!(entry.rewrite, (of.client, of.local));
            let reply = node.entry(&Packet::udp(of.local, of.client)).unwrap();
            assert_eq!(reply.kind, ConntrackKind::FROM_BACKEND);
            assert_eq!(reply.rewrite, (of.vip2, of.client));
        }
        assert_eq!(node.entries(), 4 * node.families().len());
    });
}

#[test]
fn nothing_is_touched_before_the_agent_configured_it() {
    on_new_node(&small_config(), |node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            node.service(SECOND, of.vip2, of.local, true);
            for frontend in [of.vip, of.vip2] {
                for hook in Hook::ALL {
                    node.expect_untouched(hook, &Packet::tcp(of.client, frontend, SYN));
                }
            }
        }
        node.settings().raise_generation().unwrap();
        for of in node.families() {
            node.expect_untouched(Hook::Xdp, &syn(&of));
        }
        node.expect_counted(&[]);
        assert_eq!((node.entries(), node.events().len()), (0, 0));
    });
}

#[test]
fn a_frontend_without_backends_drops_with_the_reason() {
    on_node(|node| {
        for of in node.families() {
            // One service has an empty table, the other has none.
            node.balancer().swap_table(ServiceId(FIRST), &[]).unwrap();
            node.frontend(of.vip, FIRST);
            node.frontend(of.vip2, SECOND);
            for frontend in [of.vip, of.vip2] {
                for hook in [Hook::Xdp, Hook::UplinkIn, Hook::PodFrom] {
                    let packet = Packet::tcp(of.client, frontend, SYN);
                    node.run(hook, &packet)
                        .assert(Verdict::Drop, &packet.bytes());
                }
            }
            node.expect_counted(&[(Counter::DropNoBackend, 6)]);
            let reasons: Vec<u8> = node.events().iter().map(|e| e.drop_reason).collect();
            assert_eq!(reasons, [DropReason::NoBackend as u8; 6]);
        }
        assert_eq!(node.entries(), 0);
    });
}

#[test]
fn connections_spread_over_the_slots_of_the_table() {
    on_node(|node| {
        for of in node.families() {
            let ids = [BackendId(11), BackendId(12)];
            for (id, address) in ids.into_iter().zip([of.local, of.local2]) {
                let backend = BackendAddress {
                    ip: address.ip(),
                    port: address.port(),
                    local: true,
                };
                node.balancer().insert_backend(id, &backend).unwrap();
            }
            let slots: Vec<BackendId> = (0..503).map(|slot| ids[slot % 2]).collect();
            node.balancer()
                .swap_table(ServiceId(FIRST), &slots)
                .unwrap();
            node.frontend(of.vip, FIRST);
            let mut counts = [0; 2];
            for port in 30_000..30_400 {
                let packet = Packet::udp(at(of.client, port), of.vip);
                let outcome = node.run(Hook::Xdp, &packet);
                let to_first = outcome.frame == delivered(&packet, of.local).bytes();
                let to_second = outcome.frame == delivered(&packet, of.local2).bytes();
                assert!(to_first ^ to_second, "{outcome}");
                counts[usize::from(to_second)] += 1;
            }
            assert!(counts.iter().all(|count| *count > 140), "{counts:?}");
        }
    });
}

#[test]
fn two_frontends_of_one_remote_backend_do_not_mix_one_clients_connections() {
    on_node(|node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            node.frontend(of.vip2, FIRST);
            for transport in OPENERS {
                let ports = [of.vip, of.vip2]
                    .map(|frontend| port_of(node, &Packet::of(of.client, frontend, transport)));
                assert_ne!(ports[0], ports[1]);
                for (port, frontend) in ports.into_iter().zip([of.vip, of.vip2]) {
                    let reply = node
                        .wire
                        .peer_answer(&of, of.remote, port, answer(transport));
                    let leaves = node.wire.sent_to_client(&reply, of.client, frontend);
                    node.expect(Hook::Xdp, &reply, Verdict::Transmit, &leaves);
                }
            }
        }
    });
}

#[test]
fn two_frontends_of_one_local_backend_do_not_either() {
    on_node(|node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.local, true);
            node.frontend(of.vip2, FIRST);
            for transport in OPENERS {
                // The first comer keeps its port, the second is given another.
                let packet = Packet::of(of.client, of.vip, transport);
                let leaves = delivered(&packet, of.local);
                node.expect(Hook::Xdp, &packet, Verdict::Pass, &leaves);
                let packet = Packet::of(of.client, of.vip2, transport);
                let outcome = node.run(Hook::Xdp, &packet);
                let given = at(of.client, source_port(&outcome.frame));
                assert!((10_000..=29_999).contains(&given.port()), "{given}");
                let leaves = delivered(&packet, of.local).with(|packet| packet.source = given);
                outcome.assert(Verdict::Pass, &leaves.bytes());

                let reply = Packet::of(of.local, of.client, answer(transport));
                let leaves = answered_as(&reply, of.vip);
                node.expect(Hook::UplinkOut, &reply, Verdict::Pass, &leaves);
                let reply = Packet::of(of.local, given, answer(transport));
                let leaves = answered_as(&reply, of.vip2).with(|packet| {
                    packet.destination = of.client;
                });
                node.expect(Hook::UplinkOut, &reply, Verdict::Pass, &leaves);
            }
        }
    });
}

/// A node that has only these ports for connections to other nodes.
#[test]
fn a_syn_on_the_ports_of_an_ended_connection_opens_it_anew() {
    for end in [FIN | ACK, RST] {
        on_node(|node| {
            for of in node.families() {
                node.service(FIRST, of.vip, of.remote, false);
                let port = port_of(node, &syn(&of));
                port_of(node, &Packet::tcp(of.client, of.vip, end));
                // The backend of new connections is another by now.
                node.service(SECOND, of.vip, of.remote2, false);
                // What still comes of the old connection belongs to the old backend.
                let late = Packet::tcp(of.client, of.vip, ACK);
                let leaves = node.wire.sent_to_peer(&late, &of, port, of.remote);
                node.expect(Hook::Xdp, &late, Verdict::Transmit, &leaves);
                node.counted();
                let port = port_of(node, &syn(&of));
                node.expect_counted(&[(Counter::ConnectionsNew, 1)]);
                let entry = node.entry(&syn(&of)).unwrap();
                assert_eq!(entry.rewrite, (at(of.node, port), of.remote2));
                assert_eq!((entry.packets, entry.tcp_flags), (1, SYN));
            }
        });
    }
}

#[test]
fn a_repeated_syn_stays_with_its_backend() {
    on_node(|node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            let port = port_of(node, &syn(&of));
            node.service(SECOND, of.vip, of.remote2, false);
            let leaves = node.wire.sent_to_peer(&syn(&of), &of, port, of.remote);
            node.expect(Hook::Xdp, &syn(&of), Verdict::Transmit, &leaves);
        }
    });
}

#[test]
fn an_idle_connection_is_opened_anew() {
    on_node(|node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            let packets = [Packet::udp(of.client, of.vip), syn(&of)];
            for packet in &packets {
                port_of(node, packet);
            }
            node.service(SECOND, of.vip, of.remote2, false);
            let idle = |node: &mut Node, packet: &Packet, seconds, expected| {
                node.let_pass(seconds);
                port_of(node, packet);
                assert_eq!(
                    node.entry(packet).unwrap().rewrite.1,
                    expected,
                    "{seconds} s"
                );
            };
            idle(node, &packets[0], 119.0, of.remote);
            idle(node, &packets[0], 121.0, of.remote2);
            idle(node, &packets[1], 7_700.0, of.remote);
            idle(node, &packets[1], 8_001.0, of.remote2);
        }
    });
}

/// The same client and backend, without the frontend that they met through before.
#[test]
fn answers_of_direct_connections_are_not_those_of_earlier_ones() {
    on_node(|node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.local, true);
            let request = |flags| Packet::tcp(of.client, of.vip, flags);
            let reply = Packet::tcp(of.local, of.client, SYN | ACK);
            node.run(Hook::Xdp, &request(SYN));
            let answered = answered_as(&reply, of.vip);
            node.expect(Hook::UplinkOut, &reply, Verdict::Pass, &answered);
            // Acknowledged, and closed by the client, while the backend did not take notice.
            node.run(Hook::Xdp, &request(FIN | ACK));
            node.expect(Hook::UplinkOut, &reply, Verdict::Pass, &answered);
            node.run(Hook::Xdp, &request(RST));
            node.expect_untouched(Hook::UplinkOut, &reply);
            let data = Packet::tcp(of.local, of.client, ACK);
            node.expect_untouched(Hook::UplinkOut, &data);
            // And again through the frontend.
            node.run(Hook::Xdp, &request(SYN));
            node.expect(Hook::UplinkOut, &reply, Verdict::Pass, &answered);
            node.let_pass(9_000.0);
            let answered = answered_as(&data, of.vip);
            node.expect(Hook::UplinkOut, &data, Verdict::Pass, &answered);
        }
    });
}
