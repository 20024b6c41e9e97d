//! What packets of a connection are to be turned into.

use std::net::SocketAddr;

use ebpf_abi::tcp::{ACK, SYN};

use crate::network::{Addresses, Wire, at};
use crate::packet::{Packet, Transport};

/// First packets of connections.
pub const OPENERS: [Transport; 3] = [Transport::Tcp(SYN), Transport::Udp, Transport::UdpUnsummed];

/// What answers a first packet.
pub fn answer(opener: Transport) -> Transport {
    match opener {
        Transport::Tcp(_) => Transport::Tcp(SYN | ACK),
        other => other,
    }
}

impl Wire {
    /// A packet sent on to a backend on the other node, from a port of this node.
    pub fn sent_to_peer(
        &self,
        packet: &Packet,
        of: &Addresses,
        port: u16,
        backend: SocketAddr,
    ) -> Packet {
        packet.with(|packet| {
            (packet.source_mac, packet.destination_mac) = (self.uplink, self.peer);
            (packet.source, packet.destination) = (at(of.node, port), backend);
            packet.ttl -= 1;
        })
    }

    /// What a backend on the other node answers to a port of this node.
    pub fn peer_answer(
        &self,
        of: &Addresses,
        backend: SocketAddr,
        port: u16,
        transport: Transport,
    ) -> Packet {
        Packet::of(backend, at(of.node, port), transport).with(|packet| {
            (packet.source_mac, packet.destination_mac) = (self.peer, self.uplink);
        })
    }

    /// That answer sent on to the client as one of the frontend.
    pub fn sent_to_client(
        &self,
        reply: &Packet,
        client: SocketAddr,
        frontend: SocketAddr,
    ) -> Packet {
        reply.with(|packet| {
            (packet.source_mac, packet.destination_mac) = (self.uplink, self.router);
            (packet.source, packet.destination) = (frontend, client);
            packet.ttl -= 1;
        })
    }
}

/// A packet as TC leaves it for the neighbour layer, which writes the Ethernet header.
pub fn before_neighbour(before: &Packet, after: &Packet) -> Packet {
    after.with(|packet| {
        packet.source_mac = before.source_mac;
        packet.destination_mac = before.destination_mac;
    })
}

/// A packet delivered to a pod of this node.
pub fn delivered(packet: &Packet, backend: SocketAddr) -> Packet {
    packet.with(|packet| packet.destination = backend)
}

/// A packet whose source was translated back.
pub fn answered_as(reply: &Packet, frontend: SocketAddr) -> Packet {
    reply.with(|packet| packet.source = frontend)
}
