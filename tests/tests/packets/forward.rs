//! A connection through a frontend: to a backend elsewhere, to one on this node, and back.

use ebpf_abi::Counter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;

use ebpf_abi::tcp::{ACK, PSH, SYN};

use crate::network::{Addresses, at, ip};
use crate::node::{Hook, Need, Node, Verdict, on_node};
use crate::packet::{Packet, Transport, source_port};
use crate::turned::{OPENERS, answer, before_neighbour, delivered};

const SERVICE: u32 = 7;

/// Opens a connection through XDP and returns the node's port for it.
fn open(node: &mut Node, packet: &Packet) -> u16 {
    let outcome = node.run(Hook::Xdp, packet);
    assert_eq!(outcome.verdict, Verdict::Transmit, "{outcome}");
    source_port(&outcome.frame)
}

fn request(of: &Addresses, transport: Transport) -> Packet {
    Packet::of(of.client, of.vip, transport)
}

#[test]
fn a_connection_to_another_node_goes_out_under_the_nodes_address() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.remote, false);
            for transport in OPENERS {
                let packet = request(&of, transport);
                let outcome = node.run(Hook::Xdp, &packet);
                let port = source_port(&outcome.frame);
                assert!((10_000..=29_999).contains(&port), "{port}");
                let leaves = node.wire.sent_to_peer(&packet, &of, port, of.remote);
                outcome.assert(Verdict::Transmit, &leaves.bytes());
            }
            // The two kinds of UDP are one connection.
            node.expect_counted(&[(Counter::ConnectionsNew, 2)]);
        }
        assert_eq!(node.entries(), 4 * node.families().len());
    });
}

#[test]
fn later_packets_take_the_same_way() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.remote, false);
            let port = open(node, &request(&of, Transport::Tcp(SYN)));
            node.counted();
            for flags in [ACK, ACK | PSH] {
                let packet = request(&of, Transport::Tcp(flags));
                let leaves = node.wire.sent_to_peer(&packet, &of, port, of.remote);
                node.expect(Hook::Xdp, &packet, Verdict::Transmit, &leaves);
            }
            node.expect_counted(&[]);
        }
    });
}

#[test]
fn answers_of_another_node_go_back_to_the_client_as_the_frontend() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.remote, false);
            for transport in OPENERS {
                let port = open(node, &request(&of, transport));
                let reply = node
                    .wire
                    .peer_answer(&of, of.remote, port, answer(transport));
                let leaves = node.wire.sent_to_client(&reply, of.client, of.vip);
                node.expect(Hook::Xdp, &reply, Verdict::Transmit, &leaves);
            }
        }
    });
}

#[test]
fn a_local_backend_gets_the_packet_from_the_client_itself() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.local, true);
            for hook in [Hook::Xdp, Hook::UplinkIn] {
                for transport in OPENERS {
                    let packet = request(&of, transport);
                    let leaves = delivered(&packet, of.local);
                    node.expect(hook, &packet, Verdict::Pass, &leaves);
                }
            }
            node.expect_counted(&[(Counter::ConnectionsNew, 2)]);
        }
    });
}

#[test]
fn a_packet_for_a_local_backend_may_be_on_its_last_hop() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.local, true);
            let packet = request(&of, Transport::Udp).with(|packet| packet.ttl = 1);
            let leaves = delivered(&packet, of.local);
            node.expect(Hook::Xdp, &packet, Verdict::Pass, &leaves);
        }
    });
}

#[test]
fn a_packet_to_another_node_on_its_last_hop_is_left_to_the_stack() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.remote, false);
            for ttl in [0, 1] {
                for hook in [Hook::Xdp, Hook::UplinkIn] {
                    let packet = request(&of, Transport::Udp).with(|packet| packet.ttl = ttl);
                    node.expect_untouched(hook, &packet);
                }
            }
            node.expect_counted(&[(Counter::ConnectionsNew, 1), (Counter::PassedTtl, 4)]);
            let packet = request(&of, Transport::Udp).with(|packet| packet.ttl = 2);
            let outcome = node.run(Hook::Xdp, &packet);
            let port = source_port(&outcome.frame);
            let leaves = node.wire.sent_to_peer(&packet, &of, port, of.remote);
            outcome.assert(Verdict::Transmit, &leaves.bytes());
        }
    });
}

#[test]
fn tc_does_for_a_packet_what_xdp_would() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.remote, false);
            for transport in OPENERS {
                let packet = request(&of, transport);
                let outcome = node.run(Hook::UplinkIn, &packet);
                let port = source_port(&outcome.frame);
                let leaves = node.wire.sent_to_peer(&packet, &of, port, of.remote);
                let leaves = before_neighbour(&packet, &leaves);
                outcome.assert(Verdict::Redirect, &leaves.bytes());

                let reply = node
                    .wire
                    .peer_answer(&of, of.remote, port, answer(transport));
                let leaves = node.wire.sent_to_client(&reply, of.client, of.vip);
                let leaves = before_neighbour(&reply, &leaves);
                node.expect(Hook::UplinkIn, &reply, Verdict::Redirect, &leaves);
            }
            node.expect_counted(&[(Counter::ConnectionsNew, 2)]);
        }
    });
}

/// A tunnel's interface sends them in pieces; and what the others need to know of the way is kept.
#[test]
fn a_packet_larger_than_the_way_goes_like_the_others() {
    on_node(|node| {
        let shrink = ["link", "set", "dev", node.uplink_name(), "mtu", "1400"];
        let status = Command::new("ip").args(shrink).status().expect("ip");
        assert!(status.success());
        for of in node.families() {
            node.service(SERVICE, of.vip, of.remote, false);
            let large = request(&of, Transport::Udp).with(|it| it.payload = vec![7; 1_500]);
            for round in 0..2 {
                let outcome = node.run(Hook::UplinkIn, &large);
                let port = source_port(&outcome.frame);
                let leaves = node.wire.sent_to_peer(&large, &of, port, of.remote);
                let leaves = before_neighbour(&large, &leaves);
                outcome.assert(Verdict::Redirect, &leaves.bytes());
                let entry = node.entry(&large).unwrap();
                assert_eq!(entry.next_hop.destination_mac, node.wire.peer, "{round}");
                node.let_pass(2.0);
            }
        }
    });
}

/// What XDP cannot send itself it opens and leaves to TC, which continues the same connection.
fn left_to_tc(need: Option<Need>, backend: fn(&Addresses) -> SocketAddr) {
    on_node(|node| {
        if need.is_some_and(|need| !node.can(need)) {
            return;
        }
        for of in node.families() {
            let backend = backend(&of);
            node.service(SERVICE, of.vip, backend, false);
            for transport in OPENERS {
                let packet = request(&of, transport);
                node.counted();
                node.expect_untouched(Hook::Xdp, &packet);
                let counted = node.counted();
                assert_eq!(counted.get("xdp_left_to_tc"), Some(&1), "{counted:?}");
                let entries = node.entries();

                let outcome = node.run(Hook::UplinkIn, &packet);
                let port = source_port(&outcome.frame);
                let leaves = node.wire.sent_to_peer(&packet, &of, port, backend);
                let leaves = before_neighbour(&packet, &leaves);
                outcome.assert(Verdict::Redirect, &leaves.bytes());
                assert_eq!(node.entries(), entries);
            }
        }
    });
}

#[test]
fn without_a_neighbour_the_packet_is_left_to_tc() {
    left_to_tc(Some(Need::NeighboursOfXdp), |of| of.unresolved);
}

#[test]
fn a_route_by_another_interface_is_left_to_tc() {
    left_to_tc(None, |of| of.elsewhere);
}

#[test]
fn a_neighbour_that_appears_is_used_when_the_connection_is_checked_again() {
    on_node(|node| {
        if !node.can(Need::NeighboursOfXdp) {
            return;
        }
        for of in node.families() {
            node.service(SERVICE, of.vip, of.unresolved, false);
            let packet = request(&of, Transport::Udp);
            node.expect_untouched(Hook::Xdp, &packet);
        }
        ip(
            "neighbour replace 192.0.2.3 lladdr 02:00:00:00:00:02 dev uplink
            neighbour replace 2001:db8:1::3 lladdr 02:00:00:00:00:02 dev uplink",
        );
        for of in node.families() {
            node.expect_untouched(Hook::Xdp, &request(&of, Transport::Udp));
        }
        node.let_pass(1.5);
        for of in node.families() {
            let packet = request(&of, Transport::Udp);
            let port = open(node, &packet);
            let leaves = node.wire.sent_to_peer(&packet, &of, port, of.unresolved);
            node.expect(Hook::Xdp, &packet, Verdict::Transmit, &leaves);
        }
    });
}

#[test]
fn a_backend_that_no_route_leads_to_drops_with_the_reason() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.unroutable, false);
            for hook in [Hook::Xdp, Hook::UplinkIn] {
                let packet = request(&of, Transport::Udp);
                node.run(hook, &packet)
                    .assert(Verdict::Drop, &packet.bytes());
            }
            node.expect_counted(&[(Counter::DropNoRoute, 2)]);
        }
    });
}

#[test]
fn a_route_that_goes_away_drops_with_the_reason_once_tc_sees_it() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.remote, false);
            open(node, &request(&of, Transport::Udp));
        }
        for of in node.families() {
            let uplink = node.uplink_name();
            ip(&format!(
                "route delete {} dev {uplink}",
                network_of(of.remote.ip())
            ));
        }
        node.settings().raise_generation().unwrap();
        node.counted();
        for of in node.families() {
            let packet = request(&of, Transport::Udp);
            node.expect_untouched(Hook::Xdp, &packet);
            node.run(Hook::UplinkIn, &packet)
                .assert(Verdict::Drop, &packet.bytes());
        }
        let each = node.families().len() as u64;
        node.expect_counted(&[(Counter::XdpLeftToTc, each), (Counter::DropNoRoute, each)]);
    });
}

/// The network that a pod's route leads to.
fn network_of(pod: IpAddr) -> String {
    match pod {
        IpAddr::V4(pod) => format!("{}/24", pod & Ipv4Addr::new(255, 255, 255, 0)),
        IpAddr::V6(pod) => format!("{}/64", pod & Ipv6Addr::from_bits(!0 << 64)),
    }
}

#[test]
fn a_node_without_an_address_in_a_family_has_no_way_to_other_nodes() {
    on_node(|node| {
        node.settings()
            .set_addresses(weir_agent::datapath::interfaces::UplinkAddresses { v4: None, v6: None })
            .unwrap();
        for of in node.families() {
            node.service(SERVICE, of.vip, of.remote, false);
            let packet = request(&of, Transport::Udp);
            node.run(Hook::Xdp, &packet)
                .assert(Verdict::Drop, &packet.bytes());
        }
        let each = node.families().len() as u64;
        node.expect_counted(&[(Counter::DropNoRoute, each)]);
    });
}

#[test]
fn what_is_not_for_a_frontend_passes_untouched() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.remote, false);
            let others = [
                Packet::tcp(of.client, of.node, SYN),
                Packet::tcp(of.client, at(of.vip, 81), SYN),
                Packet::tcp(of.client, of.vip2, SYN),
                Packet::tcp(of.vip, of.client, SYN | ACK),
                Packet::tcp(of.remote, at(of.node, 20_000), ACK),
                Packet::icmp(of.client.ip(), of.vip.ip(), 8),
                Packet::icmp(of.client.ip(), of.vip.ip(), 128),
                Packet::of(of.client, of.vip, Transport::Other(132)),
                Packet::of(of.client, of.vip, Transport::Other(4)),
            ];
            for packet in &others {
                for hook in Hook::ALL {
                    node.expect_untouched(hook, packet);
                }
            }
        }
        assert_eq!(node.entries(), 0);
        node.expect_counted(&[]);
    });
}

#[test]
fn an_entry_counts_its_packets_and_bytes() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.local, true);
            for _ in 0..3 {
                node.run(Hook::Xdp, &request(&of, Transport::Udp));
            }
            let packet = request(&of, Transport::Udp);
            let entry = node.entry(&packet).unwrap();
            assert_eq!((entry.packets, entry.bytes), (3, 3 * packet.len()));
        }
    });
}
