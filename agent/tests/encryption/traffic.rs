//! Packets through the device.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use weir_agent::encryption::peers::Peers;
use weir_agent::encryption::routing::Family;

use crate::node::{Node, is_root, patiently};

const DEADLINE: Duration = Duration::from_secs(10);

/// Two nodes whose pods reach each other through the device.
pub fn connected(test: &str, underlay: Family) -> (Node, Node) {
    let (one, two) = Node::pair(test);
    for (node, other) in [(&one, &two), (&two, &one)] {
        node.create();
        node.sync(Peers::from([(other.public_key(), other.as_peer(underlay))]));
        assert_eq!(node.route_to(other), 4, "two rules, two routes");
        assert_eq!(node.route_to(other), 0, "and nothing more");
    }
    (one, two)
}

/// Sends this many bytes over a connection and gets them back.
pub fn echo(from: &Node, to: &Node, family: Family, bytes: usize) {
    let address = SocketAddr::new(to.pod(family), 7000);
    let listener = to.run(move || TcpListener::bind(address).expect("the pod's address"));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream
            .set_read_timeout(Some(patiently(DEADLINE)))
            .expect("set");
        let mut back = stream.try_clone().expect("the same");
        std::io::copy(&mut stream, &mut back).expect("echoed");
    });
    from.run(move || {
        let mut stream =
            TcpStream::connect_timeout(&address, patiently(DEADLINE)).expect("connected");
        stream
            .set_read_timeout(Some(patiently(DEADLINE)))
            .expect("set");
        let mut writer = stream.try_clone().expect("the same");
        let sent: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
        let expected = sent.clone();
        let writing = std::thread::spawn(move || {
            writer.write_all(&sent).expect("sent");
            writer.shutdown(std::net::Shutdown::Write).expect("ended");
        });
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("received");
        writing.join().expect("sent");
        assert!(received == expected, "{} of {bytes} bytes", received.len());
    });
    server.join().expect("echoed");
}

#[test]
fn pods_of_two_nodes_talk_through_the_device() {
    if !is_root() {
        return;
    }
    let (one, two) = connected("talk", Family::V4);
    for family in Family::ALL {
        echo(&one, &two, family, 1 << 20);
    }
    let traffic = one.state().traffic[&two.public_key()];
    assert!(traffic.sent_bytes > 2 << 20, "{traffic:?}");
    assert!(traffic.received_bytes > 2 << 20, "{traffic:?}");
    assert!(traffic.last_handshake.is_some(), "{traffic:?}");
}

#[test]
fn the_underlay_may_be_ipv6() {
    if !is_root() {
        return;
    }
    let (one, two) = connected("six", Family::V6);
    for family in Family::ALL {
        echo(&two, &one, family, 1 << 16);
    }
}

/// A socket of a pod, with a deadline.
pub fn pod_socket(node: &Node, family: Family, port: u16) -> UdpSocket {
    let address = SocketAddr::new(node.pod(family), port);
    node.run(move || {
        let socket = UdpSocket::bind(address).expect("the pod's address");
        socket
            .set_read_timeout(Some(patiently(DEADLINE)))
            .expect("set");
        socket
    })
}
