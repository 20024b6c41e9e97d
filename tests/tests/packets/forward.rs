//! A connection through a frontend: to a backend elsewhere, to one on this node, and back.

use std::net::SocketAddr;

use ebpf_abi::Counter;
use ebpf_abi::tcp::{ACK, PSH, SYN};

use crate::network::{Addresses, PEER_MAC, ROUTER_MAC, UPLINK_MAC, families};
use crate::node::{Hook, Node, Verdict, on_node};
use crate::packet::{Packet, Transport, source_port};

const SERVICE: u32 = 7;
const CLIENT_PORT: u16 = 40_000;

fn client(of: &Addresses) -> SocketAddr {
    (of.client, CLIENT_PORT).into()
}

fn vip(of: &Addresses) -> SocketAddr {
    (of.vip, 80).into()
}

fn remote(of: &Addresses) -> SocketAddr {
    (of.remote, 8080).into()
}

fn local(of: &Addresses) -> SocketAddr {
    (of.local, 8080).into()
}

/// The packet as it goes on to the backend on the other node, from the given port of this node.
fn sent_to_peer(packet: &Packet, of: &Addresses, port: u16) -> Packet {
    packet.with(|packet| {
        (packet.source_mac, packet.destination_mac) = (UPLINK_MAC, PEER_MAC);
        packet.source = (of.node, port).into();
        packet.destination = remote(of);
        packet.ttl -= 1;
    })
}

/// An answer of that backend.
fn from_peer(of: &Addresses, port: u16, transport: Transport) -> Packet {
    Packet::tcp(remote(of), (of.node, port).into(), 0).with(|packet| {
        packet.source_mac = PEER_MAC;
        packet.transport = transport;
    })
}

/// The answer as it goes on to the client.
fn sent_to_client(reply: &Packet, of: &Addresses) -> Packet {
    reply.with(|packet| {
        (packet.source_mac, packet.destination_mac) = (UPLINK_MAC, ROUTER_MAC);
        packet.source = vip(of);
        packet.destination = client(of);
        packet.ttl -= 1;
    })
}

/// Opens a connection and returns the node's port for it.
fn open(node: &mut Node, packet: &Packet) -> u16 {
    let outcome = node.run(Hook::Xdp, packet);
    assert_eq!(outcome.verdict, Verdict::Transmit, "{outcome}");
    source_port(&outcome.frame)
}

const TRANSPORTS: [Transport; 3] = [Transport::Tcp(SYN), Transport::Udp, Transport::UdpUnsummed];

#[test]
fn a_connection_to_another_node_goes_out_under_the_nodes_address() {
    on_node(|node| {
        for of in families() {
            node.service(SERVICE, vip(&of), remote(&of), false);
            for transport in TRANSPORTS {
                let packet =
                    Packet::tcp(client(&of), vip(&of), 0).with(|p| p.transport = transport);
                let outcome = node.run(Hook::Xdp, &packet);
                let port = source_port(&outcome.frame);
                assert!((10_000..=29_999).contains(&port), "{port}");
                outcome.assert(Verdict::Transmit, &sent_to_peer(&packet, &of, port).bytes());
            }
            // The two kinds of UDP are one connection.
            node.expect_counted(&[(Counter::ConnectionsNew, 2)]);
        }
    });
}

#[test]
fn later_packets_take_the_same_way() {
    on_node(|node| {
        for of in families() {
            node.service(SERVICE, vip(&of), remote(&of), false);
            let syn = Packet::tcp(client(&of), vip(&of), SYN);
            let port = open(node, &syn);
            node.counted();
            for flags in [ACK, ACK | PSH] {
                let packet = Packet::tcp(client(&of), vip(&of), flags);
                let leaves = sent_to_peer(&packet, &of, port);
                node.expect(Hook::Xdp, &packet, Verdict::Transmit, &leaves);
            }
            node.expect_counted(&[]);
        }
    });
}

#[test]
fn answers_of_another_node_go_back_to_the_client_as_the_frontend() {
    on_node(|node| {
        for of in families() {
            node.service(SERVICE, vip(&of), remote(&of), false);
            for transport in TRANSPORTS {
                let packet =
                    Packet::tcp(client(&of), vip(&of), 0).with(|p| p.transport = transport);
                let port = open(node, &packet);
                let answer = match transport {
                    Transport::Tcp(_) => Transport::Tcp(SYN | ACK),
                    udp => udp,
                };
                let reply = from_peer(&of, port, answer);
                let leaves = sent_to_client(&reply, &of);
                node.expect(Hook::Xdp, &reply, Verdict::Transmit, &leaves);
            }
        }
    });
}

#[test]
fn a_local_backend_gets_the_packet_from_the_client_itself() {
    on_node(|node| {
        for of in families() {
            node.service(SERVICE, vip(&of), local(&of), true);
            for transport in TRANSPORTS {
                let packet =
                    Packet::tcp(client(&of), vip(&of), 0).with(|p| p.transport = transport);
                let leaves = packet.with(|packet| packet.destination = local(&of));
                node.expect(Hook::Xdp, &packet, Verdict::Pass, &leaves);
            }
        }
    });
}
