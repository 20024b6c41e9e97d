//! This node's ports that stand for clients towards backends elsewhere: which are used, and when one is
//! free again.

use std::collections::BTreeSet;

use ebpf_abi::tcp::{ACK, FIN, RST, SYN};
use ebpf_abi::{Counter, DropReason};
use weir_agent::config::PortRange;

use crate::network::{Addresses, at};
use crate::node::{Hook, Node, Verdict, on_node_with, small_config};
use crate::open::{FIRST, SECOND, port_of};
use crate::packet::{Packet, Transport};

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

/// Who sends what.
#[derive(Clone, Copy)]
enum From {
    Client(u8),
    Backend(u8),
}

/// Has client and backend send these TCP flags over the only port.
fn converse(node: &mut Node, of: &Addresses, packets: &[From]) {
    for packet in packets {
        let packet = match *packet {
            From::Client(flags) => Packet::tcp(of.client, of.vip, flags),
            From::Backend(flags) => {
                let transport = Transport::Tcp(flags);
                node.wire.peer_answer(of, of.remote, 20_000, transport)
            }
        };
        assert_eq!(node.run(Hook::Xdp, &packet).verdict, Verdict::Transmit);
    }
}

const HANDSHAKE: [From; 3] = [
    From::Client(SYN),
    From::Backend(SYN | ACK),
    From::Client(ACK),
];

#[test]
fn a_port_is_free_again_once_its_connection_ended() {
    // What the client's side alone says may be forged.
    let ends: [(&[From], f64); 3] = [
        (&[From::Client(FIN | ACK), From::Backend(FIN | ACK)], 2.0),
        (&[From::Backend(RST)], 2.0),
        (&[From::Client(RST)], 10.0),
    ];
    for (end, seconds) in ends {
        on_node_with_ports(20_000, 20_000, |node| {
            for of in node.families() {
                node.service(FIRST, of.vip, of.remote, false);
                converse(node, &of, &HANDSHAKE);
                let other = Packet::tcp(at(of.client, 50_001), of.vip, SYN);
                assert_eq!(node.run(Hook::Xdp, &other).verdict, Verdict::Drop);
                converse(node, &of, end);
                node.let_pass(seconds - 0.5);
                assert_eq!(node.run(Hook::Xdp, &other).verdict, Verdict::Drop);
                node.let_pass(1.0);
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
fn the_port_of_a_connection_that_ended_of_late_is_taken_last() {
    on_node_with_ports(20_000, 20_003, |node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            let port = port_of(node, &Packet::tcp(of.client, of.vip, SYN));
            node.run(Hook::Xdp, &Packet::tcp(of.client, of.vip, RST));
            node.let_pass(3.0);
            let others = 50_001..50_003;
            let others = others.map(|other| Packet::tcp(at(of.client, other), of.vip, SYN));
            let others: Vec<u16> = others.map(|other| port_of(node, &other)).collect();
            assert!(!others.contains(&port), "{port} of {others:?}");
            node.let_pass(60.0);
            let still_open = Packet::tcp(at(of.client, 50_003), of.vip, SYN);
            port_of(node, &still_open);
        }
    });
}

/// The backend refused the client's half of the handshake, and goes on to wait for another.
#[test]
fn half_a_handshake_that_was_refused_holds_no_port_for_long() {
    on_node_with_ports(20_000, 20_000, |node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            converse(node, &of, &HANDSHAKE);
            converse(node, &of, &[From::Backend(RST)]);
            node.let_pass(1.5);
            converse(node, &of, &[From::Backend(SYN | ACK)]);
            node.let_pass(3.0);
            let other = Packet::tcp(at(of.client, 50_001), of.vip, SYN);
            assert_eq!(port_of(node, &other), 20_000);
        }
    });
}

/// Somebody else may have sent it, from whom the backend takes nothing.
#[test]
fn a_connection_that_goes_on_after_a_reset_keeps_its_port() {
    on_node_with_ports(20_000, 20_000, |node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            converse(node, &of, &HANDSHAKE);
            let other = Packet::tcp(at(of.client, 50_001), of.vip, SYN);
            for forged in [From::Client(RST), From::Backend(RST)] {
                converse(node, &of, &[forged]);
                for _ in 0..3 {
                    node.let_pass(1.5);
                    converse(node, &of, &[From::Client(ACK), From::Backend(ACK)]);
                    assert_eq!(node.run(Hook::Xdp, &other).verdict, Verdict::Drop);
                }
                node.let_pass(3_600.0);
                assert_eq!(node.run(Hook::Xdp, &other).verdict, Verdict::Drop);
                converse(node, &of, &[From::Client(ACK), From::Backend(ACK)]);
            }
        }
    });
}

/// Whoever sends only SYNs holds ports for a minute, not for hours, whatever the backend answers; and
/// what one side still sends is not given to somebody else because the other has closed.
#[test]
fn a_connection_that_is_half_open_or_half_closed_holds_its_port_for_a_minute_of_silence() {
    let states: [&[From]; 3] = [
        &[From::Client(SYN)],
        &[From::Client(SYN), From::Backend(SYN | ACK)],
        &[
            HANDSHAKE[0],
            HANDSHAKE[1],
            HANDSHAKE[2],
            From::Backend(FIN | ACK),
        ],
    ];
    for state in states {
        on_node_with_ports(20_000, 20_000, |node| {
            for of in node.families() {
                node.service(FIRST, of.vip, of.remote, false);
                converse(node, &of, state);
                let other = Packet::tcp(at(of.client, 50_001), of.vip, SYN);
                node.let_pass(59.0);
                assert_eq!(node.run(Hook::Xdp, &other).verdict, Verdict::Drop);
                node.let_pass(2.0);
                assert_eq!(port_of(node, &other), 20_000);
            }
        });
    }
}

#[test]
fn datagrams_in_one_direction_alone_keep_the_port() {
    on_node_with_ports(20_000, 20_000, |node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            let packet = Packet::udp(of.client, of.vip);
            port_of(node, &packet);
            for _ in 0..4 {
                node.let_pass(50.0);
                assert_eq!(port_of(node, &packet), 20_000);
            }
            let other = Packet::udp(at(of.client, 50_001), of.vip);
            assert_eq!(node.run(Hook::Xdp, &other).verdict, Verdict::Drop);
        }
    });
}

/// Such as one who subscribes and then listens.
#[test]
fn a_client_that_says_little_keeps_its_backend_while_that_one_talks() {
    on_node_with_ports(20_000, 20_000, |node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            let packet = Packet::udp(of.client, of.vip);
            port_of(node, &packet);
            for _ in 0..2 {
                node.let_pass(100.0);
                let answer = node
                    .wire
                    .peer_answer(&of, of.remote, 20_000, Transport::Udp);
                assert_eq!(node.run(Hook::Xdp, &answer).verdict, Verdict::Transmit);
            }
            node.let_pass(100.0);
            node.counted();
            port_of(node, &packet);
            node.expect_counted(&[]);
        }
    });
}

/// Two clients with one port would have each other's answers.
#[test]
fn a_connection_that_lost_its_port_to_another_takes_a_new_one() {
    on_node_with_ports(20_000, 20_000, |node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            let packet = Packet::udp(of.client, of.vip);
            port_of(node, &packet);
            let other = Packet::udp(at(of.client, 50_001), of.vip);
            node.let_pass(121.0);
            port_of(node, &other);
            // Silent for long, and its port is gone by now.
            let outcome = node.run(Hook::Xdp, &packet);
            assert_eq!(outcome.verdict, Verdict::Drop, "{outcome}");
        }
    });
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
