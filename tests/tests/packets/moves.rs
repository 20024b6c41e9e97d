//! What happens to connections when their backend, their service, an entry or the node's address goes.

use ebpf_abi::tcp::ACK;
use ebpf_abi::{BackendId, Counter, ServiceId};
use weir_agent::lb::BackendAddress;
use weir_agent::lb::apply::LbMaps;

use crate::network::{Addresses, families};
use crate::node::{Hook, Node, Verdict, on_node};
use crate::open::{FIRST, SECOND, port_of, syn};
use crate::packet::{Packet, Transport};
use crate::turned::{answered_as, delivered};

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

/// A backend that takes no new connections keeps those it has, and none that is only being opened.
#[test]
fn an_opening_segment_goes_where_the_table_leads_now() {
    on_node(|node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            port_of(node, &syn(&of));
            node.backend(SECOND, of.remote2, false);
            node.balancer()
                .swap_table(ServiceId(FIRST), &[BackendId(SECOND); 251])
                .unwrap();
            node.balancer().raise_generation().unwrap();
            let port = port_of(node, &syn(&of));
            let leaves = node.wire.sent_to_peer(&syn(&of), &of, port, of.remote2);
            node.expect(Hook::Xdp, &syn(&of), Verdict::Transmit, &leaves);
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
