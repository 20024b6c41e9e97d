//! What peers say to each other through their devices.

use std::net::UdpSocket;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use weir_agent::encryption::device::Device;
use weir_agent::encryption::key::{PrivateKey, PublicKey};
use weir_agent::encryption::peers::{PeerConfig, Peers};
use weir_agent::encryption::routing::Family;

use crate::node::{Node, PORT, backend, eventually, is_root, patiently};
use crate::traffic::{connected, echo, pod_socket};

#[test]
fn no_packet_is_lost_while_other_things_change() {
    if !is_root() {
        return;
    }
    let (one, two) = connected("keep", Family::V4);
    let server = pod_socket(&two, Family::V4, 7001);
    let client = pod_socket(&one, Family::V4, 7001);
    let address = server.local_addr().expect("bound");
    let round = || {
        client.send_to(b"ping", address).expect("sent");
        let mut buffer = [0; 16];
        let (_, from) = server.recv_from(&mut buffer).expect("arrived");
        server.send_to(b"pong", from).expect("sent");
        client.recv_from(&mut buffer).expect("answered");
    };
    round();
    let handshake = |node: &Node, other: &Node| {
        node.state().traffic[&other.public_key()]
            .last_handshake
            .expect("one")
    };
    let before = handshake(&one, &two);
    let stranger = PrivateKey::generate().public();
    let plain = two.as_peer(Family::V4);
    let mut wider = plain.clone();
    wider
        .allowed_ips
        .insert("10.77.0.0/16".parse().expect("valid"));
    wider.keepalive_seconds = std::num::NonZeroU16::new(25);
    let mut other = plain.clone();
    other.allowed_ips = ["10.99.0.0/16".parse().expect("valid")].into();
    for _ in 0..5 {
        let wide = Peers::from([(two.public_key(), wider.clone()), (stranger, other.clone())]);
        assert_eq!(one.sync(wide), 3);
        round();
        assert_eq!(
            one.sync(Peers::from([(two.public_key(), plain.clone())])),
            3
        );
        round();
    }
    assert_eq!(handshake(&one, &two), before, "the session was not reset");
}

#[test]
fn a_peer_that_moves_is_followed() {
    if !is_root() {
        return;
    }
    let (one, two) = connected("roam", Family::V4);
    echo(&one, &two, Family::V4, 1000);
    // In this order: with the first address of a subnet the others go.
    one.ip("address delete 192.0.2.1/24 dev wire");
    one.ip("address add 192.0.2.77/24 dev wire");
    echo(&one, &two, Family::V4, 1000);
    let endpoint = two.state().peers[&one.public_key()]
        .endpoint
        .expect("known");
    assert_eq!(endpoint, ([192, 0, 2, 77], PORT).into());
}

#[test]
fn another_key_is_used_at_once() {
    if !is_root() {
        return;
    }
    let (mut one, two) = connected("turn", Family::V4);
    echo(&one, &two, Family::V4, 1000);
    one.key = PrivateKey::generate();
    one.create();
    two.sync(Peers::from([(one.public_key(), one.as_peer(Family::V4))]));
    echo(&one, &two, Family::V4, 1000);
}

/// With the new key comes a handshake, though there is nothing to send: whoever sends to the node
/// would not learn of the key otherwise.
#[test]
fn a_new_key_is_made_known_by_a_handshake() {
    if !is_root() {
        return;
    }
    let (one, two) = connected("rotated", Family::V4);
    let next = PrivateKey::generate();
    let announced = PeerConfig {
        allowed_ips: [].into(),
        ..one.as_peer(Family::V4)
    };
    two.sync(Peers::from([
        (one.public_key(), one.as_peer(Family::V4)),
        (next.public(), announced),
    ]));
    let peers = Peers::from([(two.public_key(), two.as_peer(Family::V4))]);
    let (settings, paths, key) = (one.settings(), one.paths(), next.clone());
    one.block_on(async move |netlink| {
        let device = Device::create(&netlink, &settings, backend(), &paths).await;
        let device = device.expect("adopted");
        device.set_private_key(&key, &[]).await.expect("set");
        device.call(&peers, key.public()).await.expect("called");
        let actual = device.state().await.expect("answers");
        assert_eq!(
            actual.peers[&two_key(&peers)].keepalive_seconds,
            None,
            "as it was"
        );
    });
    eventually("a handshake with the new key", || {
        let traffic = two.state().traffic;
        traffic[&next.public()].last_handshake.is_some()
    });
}

/// Each has announced its next key to the other, and both begin to use it at the same moment: their
/// calls cross. WireGuard tries again after five seconds; nodes must not wait for that.
#[test]
fn two_that_change_their_keys_at_once_find_each_other() {
    const WITHIN: Duration = Duration::from_secs(2);
    if !is_root() {
        return;
    }
    let (one, two) = connected("at-once", Family::V4);
    let next = [PrivateKey::generate(), PrivateKey::generate()];
    for (node, other, announced) in [(&one, &two, &next[1]), (&two, &one, &next[0])] {
        let config = PeerConfig {
            allowed_ips: [].into(),
            ..other.as_peer(Family::V4)
        };
        node.sync(Peers::from([
            (other.public_key(), other.as_peer(Family::V4)),
            (announced.public(), config),
        ]));
    }
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        for (node, key) in [(&one, &next[0]), (&two, &next[1])] {
            let start = &start;
            scope.spawn(move || {
                let (settings, paths, key) = (node.settings(), node.paths(), key.clone());
                let peers = node.state().peers;
                start.wait();
                node.block_on(async move |netlink| {
                    let device = Device::create(&netlink, &settings, backend(), &paths).await;
                    let device = device.expect("adopted");
                    device.set_private_key(&key, &[]).await.expect("set");
                    device.call(&peers, key.public()).await.expect("called");
                    // The later call is of a task.
                    tokio::time::sleep(Duration::from_millis(500)).await;
                });
            });
        }
    });
    let called = Instant::now();
    eventually("a handshake of the new keys", || {
        let traffic = one.state().traffic;
        traffic[&next[1].public()].last_handshake.is_some()
    });
    assert!(
        called.elapsed() < patiently(WITHIN),
        "{:?}",
        called.elapsed()
    );
}

/// A handshake of before is no call with the new key: who waits for that call goes on to call.
#[test]
fn a_peer_that_called_before_the_key_changed_is_called() {
    if !is_root() {
        return;
    }
    let (one, two) = connected("before", Family::V4);
    let mut next = [PrivateKey::generate(), PrivateKey::generate()];
    // Of two nodes it is the one of the greater key that waits.
    next.sort_by_key(PrivateKey::public);
    let [of_two, of_one] = next;
    for (node, other, announced) in [(&one, &two, &of_two), (&two, &one, &of_one)] {
        let config = PeerConfig {
            allowed_ips: [].into(),
            ..other.as_peer(Family::V4)
        };
        node.sync(Peers::from([
            (other.public_key(), other.as_peer(Family::V4)),
            (announced.public(), config),
        ]));
    }
    let made_handshake = |node: &Node, with: &PrivateKey| {
        let traffic = node.state().traffic;
        traffic[&with.public()].last_handshake.is_some()
    };
    let known = Peers::from([(one.public_key(), one.as_peer(Family::V4))]);
    use_key(&two, &of_two, known);
    eventually("a handshake with its key of before", || {
        made_handshake(&one, &of_two)
    });
    use_key(&one, &of_one, one.state().peers);
    eventually("a handshake with its new key", || {
        made_handshake(&two, &of_one)
    });
}

/// Has a node use another key, and call these peers with it.
fn use_key(node: &Node, key: &PrivateKey, peers: Peers) {
    let (settings, paths, key) = (node.settings(), node.paths(), key.clone());
    node.block_on(async move |netlink| {
        let device = Device::create(&netlink, &settings, backend(), &paths).await;
        let device = device.expect("adopted");
        device.set_private_key(&key, &[]).await.expect("set");
        device.call(&peers, key.public()).await.expect("called");
        // The later call is of a task.
        tokio::time::sleep(Duration::from_secs(1)).await;
    });
}

/// The only peer.
fn two_key(peers: &Peers) -> PublicKey {
    *peers.keys().next().expect("there is one")
}

#[test]
fn a_peer_with_another_secret_of_the_pair_is_not_heard() {
    if !is_root() {
        return;
    }
    let (one, two) = connected("psk", Family::V4);
    let secret = weir_agent::encryption::key::ClusterSecret::new(&[7; 32]).expect("long enough");
    let pair = secret.preshared_key(one.public_key(), two.public_key());
    let with_secret = |node: &Node| {
        let mut peer = node.as_peer(Family::V4);
        peer.preshared_key = Some(pair.clone());
        Peers::from([(node.public_key(), peer)])
    };
    assert_eq!(one.sync(with_secret(&two)), 1);
    let server = pod_socket(&two, Family::V4, 7002);
    let client = pod_socket(&one, Family::V4, 7002);
    let address = server.local_addr().expect("bound");
    let mut buffer = [0; 16];
    client.send_to(b"ping", address).expect("sent");
    let patience = Duration::from_secs(1);
    server.set_read_timeout(Some(patience)).expect("set");
    server
        .recv_from(&mut buffer)
        .expect_err("the other one has no secret yet");
    assert_eq!(two.sync(with_secret(&one)), 1);
    eventually("packets pass", || {
        client.send_to(b"ping", address).expect("sent");
        server.recv_from(&mut buffer).is_ok()
    });
}

#[test]
fn packets_from_prefixes_of_others_are_dropped() {
    if !is_root() {
        return;
    }
    let (one, two) = connected("from", Family::V4);
    let mut only_ipv4 = two.as_peer(Family::V4);
    only_ipv4.allowed_ips.retain(|prefix| prefix.is_ipv4());
    one.sync(Peers::from([(two.public_key(), only_ipv4)]));
    echo(&two, &one, Family::V4, 1000);
    let server = pod_socket(&one, Family::V6, 7003);
    let client = pod_socket(&two, Family::V6, 7003);
    server
        .set_read_timeout(Some(Duration::from_millis(500)))
        .expect("set");
    client
        .send_to(b"forged", server.local_addr().expect("bound"))
        .expect("sent");
    server
        .recv_from(&mut [0; 16])
        .expect_err("not from this peer");
}

#[test]
fn nonsense_from_outside_does_no_harm() {
    if !is_root() {
        return;
    }
    let (one, two) = connected("junk", Family::V4);
    echo(&one, &two, Family::V4, 1000);
    let target = two.endpoint(Family::V4);
    one.run(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        // Of every type, with the lengths at which parsers err; some of them with a receiver.
        for length in [0, 1, 3, 4, 16, 31, 32, 33, 64, 92, 93, 147, 148, 149, 1400] {
            for kind in 0..6u8 {
                for fill in [0, 0x55, 0xff] {
                    let mut datagram = vec![fill; length];
                    let head = [kind, 0, 0, 0];
                    let known = length.min(4);
                    datagram[..known].copy_from_slice(&head[..known]);
                    let _full_buffers_are_fine = socket.send_to(&datagram, target);
                }
            }
        }
    });
    echo(&one, &two, Family::V4, 1000);
}
