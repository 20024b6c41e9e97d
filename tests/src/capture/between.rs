//! What of a capture passed from node to node, and how much of it anyone on the wire could read.
//!
//! Strict on purpose: whatever is not known to be encrypted counts as readable, whoever's it is.
//! Only the neighbours' own talk (ARP, neighbour discovery), which is about no traffic, is left out.

use std::net::IpAddr;

use super::packet::{Ip, UDP};
use super::{Captured, Packet};

/// Messages of WireGuard begin with their kind, 1 to 4, and three zeros.
const MESSAGE_KINDS: std::ops::RangeInclusive<u8> = 1..=4;
/// The kind that carries a packet.
const DATA: u8 = 4;
const UDP_BYTES: usize = 8;
const ARP: [u8; 2] = [0x08, 0x06];
const ICMPV6: u8 = 58;
/// Router and neighbour solicitations and advertisements, redirects (RFC 4861).
const NEIGHBOUR_DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;
/// What the servers and clients of the cluster say in every request and answer.
const READABLE_TEXT: &[u8] = b"HTTP/1.";

/// A node as the wire knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOnWire {
    /// Hardware address of its uplink.
    pub hardware: [u8; 6],
    /// Its addresses.
    pub addresses: [IpAddr; 2],
}

/// Packets from one node to another.
#[derive(Clone, Debug, Default)]
pub struct BetweenNodes<'a> {
    /// Messages of WireGuard: handshakes and encrypted packets.
    pub wireguard: Vec<&'a Packet>,
    /// Everything else.
    pub readable: Vec<&'a Packet>,
}

impl Captured {
    /// The packets that went from one of `nodes` to another; WireGuard is on the UDP port `port`.
    pub fn between<'a>(&'a self, nodes: &[NodeOnWire], port: u16) -> BetweenNodes<'a> {
        let mut between = BetweenNodes::default();
        for packet in &self.packets {
            match class(&packet.bytes, nodes, port) {
                Class::Elsewhere => {}
                Class::WireGuard => between.wireguard.push(packet),
                Class::Readable => between.readable.push(packet),
            }
        }
        between
    }
}

impl BetweenNodes<'_> {
    /// How many of the messages of WireGuard carry a packet, and are no handshake.
    pub fn data_messages(&self) -> usize {
        let is_data = |packet: &&&Packet| {
            let message = Ip::of(&packet.bytes).and_then(|ip| ip.payload.get(UDP_BYTES).copied());
            message == Some(DATA)
        };
        self.wireguard.iter().filter(is_data).count()
    }

    /// Those readable packets that are from or to one of these addresses, also inside of a tunnel.
    pub fn readable_of(&self, addresses: &[IpAddr]) -> Vec<&Packet> {
        let concerns = |packet: &Packet| {
            addresses.iter().any(|address| match address {
                IpAddr::V4(ip) => contains(&packet.bytes, &ip.octets()),
                IpAddr::V6(ip) => contains(&packet.bytes, &ip.octets()),
            })
        };
        let readable = self.readable.iter().copied();
        readable.filter(|packet| concerns(packet)).collect()
    }

    /// The first readable packets, a line each.
    pub fn shown(packets: &[&Packet]) -> String {
        let lines = packets.iter().take(5).map(|packet| match packet.summary() {
            Some(it) => format!(
                "{} -> {} protocol {}, {} bytes\n",
                it.source,
                it.destination,
                it.protocol,
                packet.bytes.len()
            ),
            None => format!("{:02x?}\n", &packet.bytes[..packet.bytes.len().min(64)]),
        });
        lines.collect()
    }
}

enum Class {
    /// Not from node to node, or about no traffic.
    Elsewhere,
    WireGuard,
    Readable,
}

fn class(frame: &[u8], nodes: &[NodeOnWire], port: u16) -> Class {
    let node = |at: usize| {
        let hardware = frame.get(at..at + 6)?;
        nodes.iter().find(|node| node.hardware == hardware)
    };
    let (Some(receiver), Some(sender)) = (node(0), node(6)) else {
        return Class::Elsewhere;
    };
    if frame.get(12..14) == Some(&ARP) {
        return Class::Elsewhere;
    }
    let Some(ip) = Ip::of(frame) else {
        return Class::Readable;
    };
    let kind = ip.payload.first();
    if ip.protocol == ICMPV6 && kind.is_some_and(|kind| NEIGHBOUR_DISCOVERY.contains(kind)) {
        return Class::Elsewhere;
    }
    let ends =
        sender.addresses.contains(&ip.source) && receiver.addresses.contains(&ip.destination);
    if ends && is_wireguard(&ip, port) && !contains(frame, READABLE_TEXT) {
        Class::WireGuard
    } else {
        Class::Readable
    }
}

fn is_wireguard(ip: &Ip<'_>, port: u16) -> bool {
    let [source, destination] = [0, 2].map(|at| ip.payload.get(at..at + 2));
    let port = port.to_be_bytes();
    let message = ip.payload.get(UDP_BYTES..UDP_BYTES + 4);
    ip.protocol == UDP
        && !ip.fragment
        && (source == Some(&port) || destination == Some(&port))
        && message.is_some_and(|it| MESSAGE_KINDS.contains(&it[0]) && it[1..] == [0; 3])
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|part| part == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    const PORT: u16 = 51_871;

    fn node(number: u8) -> NodeOnWire {
        NodeOnWire {
            hardware: [2, 0, 0, 0, 0, number],
            addresses: [
                [172, 18, 0, number].into(),
                [0xfd00, 0x18, 0, 0, 0, 0, 0, u16::from(number)].into(),
            ],
        }
    }

    /// An IPv4 datagram between hardware addresses 1 and 2.
    fn datagram(source: [u8; 4], destination: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        let total = 28 + payload.len() as u16;
        frame.extend([0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, UDP, 0, 0]);
        frame.extend(source);
        frame.extend(destination);
        frame.extend(port.to_be_bytes());
        frame.extend(port.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    }

    fn counts(frame: Vec<u8>) -> (usize, usize) {
        let packet = Packet {
            time: SystemTime::UNIX_EPOCH,
            bytes: frame,
            checksum_unfinished: false,
        };
        let captured = Captured {
            packets: vec![packet],
            left_out: 0,
        };
        let between = captured.between(&[node(1), node(2)], PORT);
        (between.wireguard.len(), between.readable.len())
    }

    #[test]
    fn only_messages_of_wireguard_between_nodes_are_unreadable() {
        let (one, two) = ([172, 18, 0, 1], [172, 18, 0, 2]);
        assert_eq!(counts(datagram(one, two, PORT, &[4, 0, 0, 0, 9])), (1, 0));
        let readable = [
            datagram(one, two, PORT, &[5, 0, 0, 0]),
            datagram(one, two, PORT, &[4, 0, 0, 1]),
            datagram(one, two, PORT, b"\x04\0\0\0 GET / HTTP/1.1"),
            datagram(one, two, 53, &[4, 0, 0, 0]),
            datagram([10, 244, 1, 1], two, PORT, &[4, 0, 0, 0]),
        ];
        for frame in readable {
            assert_eq!(counts(frame.clone()), (0, 1), "{frame:?}");
        }
    }

    #[test]
    fn what_is_not_from_node_to_node_does_not_count() {
        let mut from_outside = datagram([172, 18, 0, 1], [172, 18, 0, 2], 80, b"x");
        from_outside[11] = 9;
        assert_eq!(counts(from_outside), (0, 0));
        let mut arp = datagram([0; 4], [0; 4], 0, b"");
        arp[12..14].copy_from_slice(&ARP);
        assert_eq!(counts(arp), (0, 0));
    }
}
