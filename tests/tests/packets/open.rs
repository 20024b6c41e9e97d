//! Opening connections, ending them, and moving them when their backend goes.

use std::collections::BTreeSet;

use ebpf_abi::conntrack::ConntrackKind;
use ebpf_abi::tcp::{ACK, FIN, RST, SYN};
use ebpf_abi::{BackendId, Counter, DropReason, ServiceId};
use weir_agent::config::PortRange;
use weir_agent::lb::BackendAddress;
use weir_agent::lb::apply::LbMaps;

use crate::network::{Addresses, at, families};
use crate::node::{Hook, Node, Verdict, on_new_node, on_node, on_node_with, small_config};
use crate::packet::{Packet, Transport, source_port};
use crate::turned::{OPENERS, answer, answered_as, delivered};

const FIRST: u32 = 1;
const SECOND: u32 = 2;

fn syn(of: &Addresses) -> Packet {
    Packet::tcp(of.client, of.vip, SYN)
}

/// Sends a packet that goes to another node and returns this node's port for it.
#[track_caller]
fn port_of(node: &mut Node, packet: &Packet) -> u16 {
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
fn on_node_with_ports(first: u16, last: u16, test: impl FnOnce(&mut Node) + Send) {
    let mut config = small_config();
    config.load_balancer.snat_ports = PortRange { first, last };
    on_node_with(&config, test);
}

#[test]
fn all_ports_of_the_range_are_used_and_no_other() {
    on_node_with_ports(20_000, 20_003, |node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            let clients = 50_000..50_004;
            let ports: BTreeSet<u16> = clients
                .map(|port| port_of(node, &Packet::udp(at(of.client, port), of.vip)))
                .collect();
            assert_eq!(ports, (20_000..=20_003).collect());
            node.counted();
            node.events();
            let packet = Packet::udp(at(of.client, 50_004), of.vip);
            for hook in [Hook::Xdp, Hook::UplinkIn] {
                node.run(hook, &packet)
                    .assert(Verdict::Drop, &packet.bytes());
            }
            node.expect_counted(&[(Counter::DropNoSnatPort, 2)]);
            let reasons: Vec<u8> = node.events().iter().map(|e| e.drop_reason).collect();
            assert_eq!(reasons, [DropReason::NoSnatPort as u8; 2]);
        }
    });
}

#[test]
fn a_port_serves_several_backends_at_once() {
    on_node_with_ports(20_000, 20_000, |node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            node.service(SECOND, of.vip2, of.remote2, false);
            for (frontend, backend) in [(of.vip, of.remote), (of.vip2, of.remote2)] {
                let packet = Packet::udp(of.client, frontend);
                let leaves = node.wire.sent_to_peer(&packet, &of, 20_000, backend);
                node.expect(Hook::Xdp, &packet, Verdict::Transmit, &leaves);
            }
        }
    });
}

#[test]
fn a_port_is_free_again_once_its_connection_ended() {
    for end in [FIN | ACK, RST] {
        on_node_with_ports(20_000, 20_000, |node| {
            for of in node.families() {
                node.service(FIRST, of.vip, of.remote, false);
                port_of(node, &syn(&of));
                let other = Packet::tcp(at(of.client, 50_001), of.vip, SYN);
                assert_eq!(node.run(Hook::Xdp, &other).verdict, Verdict::Drop);
                let reply = node
                    .wire
                    .peer_answer(&of, of.remote, 20_000, Transport::Tcp(end));
                assert_eq!(node.run(Hook::Xdp, &reply).verdict, Verdict::Transmit);
                assert_eq!(port_of(node, &other), 20_000);
                let reply =
                    node.wire
                        .peer_answer(&of, of.remote, 20_000, Transport::Tcp(SYN | ACK));
                let leaves = node
                    .wire
                    .sent_to_client(&reply, at(of.client, 50_001), of.vip);
                node.expect(Hook::Xdp, &reply, Verdict::Transmit, &leaves);
            }
        });
    }
}

#[test]
fn a_port_is_free_again_once_its_connection_was_idle_for_long() {
    on_node_with_ports(20_000, 20_000, |node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            port_of(node, &Packet::udp(of.client, of.vip));
            let other = Packet::udp(at(of.client, 50_001), of.vip);
            node.let_pass(119.0);
            assert_eq!(node.run(Hook::Xdp, &other).verdict, Verdict::Drop);
            node.let_pass(2.0);
            assert_eq!(port_of(node, &other), 20_000);
        }
    });
}

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

/// Takes the first backend away as the agent does: table, backend, generation.
fn replace_backend(node: &mut Node, of: &Addresses, by: std::net::SocketAddr, local: bool) {
    node.backend(SECOND, by, local);
    node.balancer()
        .swap_table(ServiceId(FIRST), &[BackendId(SECOND); 251])
        .unwrap();
    let gone = BackendAddress {
        ip: of.remote.ip(),
        port: of.remote.port(),
        local: false,
    };
    node.balancer()
        .remove_backend(BackendId(FIRST), &gone)
        .unwrap();
    node.balancer().raise_generation().unwrap();
}

#[test]
fn a_connection_whose_backend_was_removed_moves_to_another() {
    on_node(|node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            let packet = Packet::tcp(of.client, of.vip, ACK);
            port_of(node, &packet);
            node.counted();
            replace_backend(node, &of, of.remote2, false);
            let port = port_of(node, &packet);
            let leaves = node.wire.sent_to_peer(&packet, &of, port, of.remote2);
            node.expect(Hook::Xdp, &packet, Verdict::Transmit, &leaves);
            node.expect_counted(&[(Counter::ConnectionsMoved, 1), (Counter::ConnectionsNew, 1)]);
            let reply = node
                .wire
                .peer_answer(&of, of.remote2, port, Transport::Tcp(ACK));
            let leaves = node.wire.sent_to_client(&reply, of.client, of.vip);
            node.expect(Hook::Xdp, &reply, Verdict::Transmit, &leaves);
        }
    });
}

#[test]
fn it_may_move_to_this_node() {
    on_node(|node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            let packet = Packet::udp(of.client, of.vip);
            port_of(node, &packet);
            replace_backend(node, &of, of.local, true);
            let leaves = delivered(&packet, of.local);
            node.expect(Hook::Xdp, &packet, Verdict::Pass, &leaves);
            let reply = Packet::udp(of.local, of.client);
            let leaves = answered_as(&reply, of.vip);
            node.expect(Hook::UplinkOut, &reply, Verdict::Pass, &leaves);
        }
    });
}

#[test]
fn a_raised_generation_alone_moves_nothing() {
    on_node(|node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            let port = port_of(node, &syn(&of));
            node.balancer().raise_generation().unwrap();
            node.counted();
            let packet = Packet::tcp(of.client, of.vip, ACK);
            let leaves = node.wire.sent_to_peer(&packet, &of, port, of.remote);
            node.expect(Hook::Xdp, &packet, Verdict::Transmit, &leaves);
            let reply = node
                .wire
                .peer_answer(&of, of.remote, port, Transport::Tcp(ACK));
            let leaves = node.wire.sent_to_client(&reply, of.client, of.vip);
            node.expect(Hook::Xdp, &reply, Verdict::Transmit, &leaves);
            node.expect_counted(&[]);
        }
    });
}

#[test]
fn a_connection_of_a_removed_service_is_left_alone() {
    use weir_agent::lb::FrontendAddress;
    use weir_agent::state::L4Protocol;
    on_node(|node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            let packet = Packet::tcp(of.client, of.vip, ACK);
            port_of(node, &packet);
            let frontend = FrontendAddress {
                ip: of.vip.ip(),
                port: of.vip.port(),
                protocol: L4Protocol::Tcp,
            };
            node.balancer().remove_frontend(&frontend).unwrap();
            replace_backend(node, &of, of.remote2, false);
            node.counted();
            for _ in 0..3 {
                node.expect_untouched(Hook::Xdp, &packet);
            }
            node.expect_counted(&[(Counter::ConnectionsMoved, 1)]);
        }
    });
}

#[test]
fn an_evicted_entry_of_the_replies_is_written_again() {
    on_node(|node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            let packet = Packet::udp(of.client, of.vip);
            let port = port_of(node, &packet);
            let reply = node.wire.peer_answer(&of, of.remote, port, Transport::Udp);
            node.remove_entry(&reply);
            node.expect_untouched(Hook::Xdp, &reply);
            node.let_pass(1.5);
            assert_eq!(port_of(node, &packet), port);
            let leaves = node.wire.sent_to_client(&reply, of.client, of.vip);
            node.expect(Hook::Xdp, &reply, Verdict::Transmit, &leaves);
        }
    });
}

#[test]
fn an_evicted_entry_of_the_requests_finds_its_port_again() {
    on_node(|node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            let packet = Packet::udp(of.client, of.vip);
            let port = port_of(node, &packet);
            node.remove_entry(&packet);
            assert_eq!(port_of(node, &packet), port);
        }
    });
}

#[test]
fn a_node_that_changed_its_address_uses_the_new_one() {
    on_node(|node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            let packet = Packet::udp(of.client, of.vip);
            port_of(node, &packet);
        }
        let new = [families()[0].local2.ip(), families()[1].local2.ip()];
        node.set_addresses(new);
        for (of, new) in node.families().into_iter().zip(new) {
            let packet = Packet::udp(of.client, of.vip);
            port_of(node, &packet);
            assert_eq!(node.entry(&packet).unwrap().rewrite.0.ip(), new);
        }
    });
}
