//! What may leave in clear text, what is counted of it, and the hooks of the device that encrypts.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ebpf_abi::tcp::{ACK, SYN};
use ebpf_abi::{
    Be16, Counter, DropReason, Family, FlowEvent, IpcacheValue as To, Protocol, TrafficPath,
};

use weir_agent::lb::apply::LbMaps;

use crate::network::{Addresses, at, families};
use crate::node::{Hook, Node, OTHER_NODE, Verdict, encrypting, on_node_with, small_config};
use crate::open::{FIRST, syn};
use crate::packet::{FRAGMENT, Packet, Transport, UDP, fragment_header};

const VXLAN: u16 = 4_789;
/// Of the device that encrypts.
pub const MTU: u32 = 1_420;

/// What was counted by path since the last call.
pub fn account(node: &mut Node) -> BTreeMap<TrafficPath, (u64, u64)> {
    let traffic = node.encryption().account.read().expect("TRAFFIC");
    node.encryption()
        .account
        .forget(OTHER_NODE)
        .expect("TRAFFIC");
    let of_node = traffic.into_iter().map(|((id, path), value)| {
        assert_eq!(id, OTHER_NODE);
        (path, (value.packets, value.bytes))
    });
    of_node.collect()
}

/// Has a hook decide, and asserts verdict, account, counter and event.
#[track_caller]
fn expect(node: &mut Node, hook: Hook, packet: &Packet, path: Option<TrafficPath>) {
    node.events();
    node.counted();
    let outcome = node.run(hook, packet);
    let dropped = path == Some(TrafficPath::DROPPED);
    let verdict = if dropped {
        Verdict::Drop
    } else {
        Verdict::Pass
    };
    outcome.assert(verdict, &packet.bytes());
    let expected = path.map(|path| (path, (1, packet.len())));
    assert_eq!(account(node), expected.into_iter().collect(), "{hook:?}");
    let counted = node.counted();
    let counter = Counter::ALL[DropReason::Unencrypted.counter() as usize].1;
    assert_eq!(counted.get(counter).copied(), dropped.then_some(1));
    let drops = node.events().into_iter();
    let drops = drops.filter(|it| it.drop_reason == DropReason::Unencrypted as u8);
    assert_eq!(drops.count(), usize::from(dropped), "{hook:?}");
}

#[test]
fn an_uplink_lets_out_only_what_may_leave_in_clear_text() {
    const CLEAR: u32 = To::CLEAR_ALLOWED;
    let rows = [
        (To::POD, false, Some(TrafficPath::DROPPED)),
        (To::POD | To::PEER, false, Some(TrafficPath::DROPPED)),
        // It has ended: the default route has what is for it.
        (To::POD | To::LOCAL, false, Some(TrafficPath::DROPPED)),
        (To::POD | CLEAR, false, Some(TrafficPath::CLEAR_ALLOWED)),
        (To::NODE, false, Some(TrafficPath::CLEAR_NODE)),
        (To::NODE | To::PEER, false, Some(TrafficPath::CLEAR_NODE)),
        (
            To::NODE | To::PEER | CLEAR,
            false,
            Some(TrafficPath::CLEAR_NODE),
        ),
        (To::NODE | To::LOCAL, false, None),
        (To::NODE, true, Some(TrafficPath::DROPPED)),
        (To::NODE | CLEAR, true, Some(TrafficPath::CLEAR_ALLOWED)),
    ];
    on_node_with(&encrypting(true), |node| {
        for of in families() {
            for (flags, tunnelled, path) in rows {
                node.know(of.remote.ip(), flags);
                for hook in [Hook::UplinkOut, Hook::UplinkOutForwarded] {
                    expect(node, hook, &leaving(&of, tunnelled), path);
                }
            }
            // As of a bridge that the node's own pods hang on.
            let on_link = if of.remote.is_ipv4() {
                "10.1.8.77:53"
            } else {
                "[2001:db8:a:8::77]:53"
            };
            let on_link: SocketAddr = on_link.parse().unwrap();
            node.know(on_link.ip(), To::POD | To::LOCAL);
            let packet = Packet::udp(at(of.local, 45_000), on_link);
            // The kernel refuses what IPv6 routes lead to a loopback interface without a gateway.
            if on_link.is_ipv4() || node.uplink_name() != "lo" {
                expect(node, Hook::UplinkOut, &packet, None);
            }
            node.know(on_link.ip(), To::POD);
            expect(node, Hook::UplinkOut, &packet, Some(TrafficPath::DROPPED));
            // What nobody has claimed is of no concern.
            node.know(of.remote2.ip(), To::POD);
            expect(node, Hook::UplinkOut, &leaving(&of, false), None);
        }
    });
}

/// A datagram to the other node or its pod; of a tunnel, or not.
fn leaving(of: &Addresses, tunnelled: bool) -> Packet {
    let port = if tunnelled { VXLAN } else { 53 };
    Packet::udp(at(of.local, 45_000), at(of.remote, port))
}

#[test]
fn vlan_tags_do_not_hide_what_must_not_leave() {
    on_node_with(&encrypting(true), |node| {
        for of in families() {
            for tags in [&[0x8100][..], &[0x88a8], &[0x88a8, 0x8100]] {
                let tagged = |packet: &Packet| {
                    packet.with(|it| it.tags = tags.iter().map(|tag| (*tag, 42)).collect())
                };
                let rows = [
                    (Hook::UplinkOut, To::POD, false, true),
                    (Hook::UplinkOut, To::POD | To::CLEAR_ALLOWED, false, false),
                    (Hook::UplinkOut, To::NODE, false, false),
                    (Hook::UplinkOut, To::NODE, true, true),
                    (Hook::PodFrom, To::POD, false, true),
                    (Hook::PodFrom, To::POD | To::PEER, false, false),
                ];
                for (hook, flags, tunnelled, stopped) in rows {
                    node.know(of.remote.ip(), flags);
                    let case = format!("{hook:?}, flags {flags:#x}, tags {tags:x?}");
                    let outcome = node.run(hook, &tagged(&leaving(&of, tunnelled)));
                    assert_eq!(outcome.verdict == Verdict::Drop, stopped, "{case}");
                    let dropped = account(node).contains_key(&TrafficPath::DROPPED);
                    assert_eq!(dropped, stopped, "{case}");
                }
            }
        }
    });
}

#[test]
fn protocols_that_carry_packets_are_tunnels_too() {
    on_node_with(&encrypting(true), |node| {
        for of in families() {
            node.know(of.remote.ip(), To::NODE);
            node.events();
            let carrying = |protocol| Packet::of(of.local, of.remote, Transport::Other(protocol));
            // IP in IP, IPv6 in IP, GRE; and one that carries none.
            for protocol in [4, 41, 47] {
                let outcome = node.run(Hook::UplinkOut, &carrying(protocol));
                assert_eq!(outcome.verdict, Verdict::Drop, "protocol {protocol}");
                let told: Vec<_> = node.events().iter().map(event_of_drop).collect();
                assert_eq!(told, [(Protocol(protocol), of.remote.ip())]);
                assert!(account(node).contains_key(&TrafficPath::DROPPED));
            }
            let outcome = node.run(Hook::UplinkOut, &carrying(132));
            assert_eq!(outcome.verdict, Verdict::Pass);
            assert!(account(node).contains_key(&TrafficPath::CLEAR_NODE));
        }
    });
}

/// What an event tells of a packet whose ports nobody can read.
fn event_of_drop(event: &FlowEvent) -> (Protocol, IpAddr) {
    assert_eq!(event.drop_reason, DropReason::Unencrypted as u8);
    let ports = [event.source_port, event.destination_port].map(Be16::get);
    assert_eq!(ports, [0, 0]);
    let family = if event.family == Family::V4 as u8 {
        Family::V4
    } else {
        Family::V6
    };
    (event.protocol, event.destination.narrow(family))
}

#[test]
fn a_later_fragment_may_be_of_a_tunnels_packet() {
    on_node_with(&encrypting(true), |node| {
        for of in families() {
            node.know(of.remote.ip(), To::NODE);
            node.events();
            let later = |packet: Packet| {
                packet.with(|it| {
                    it.fragment = 185;
                    if it.source.is_ipv6() {
                        it.extensions = vec![fragment_header(185, false)];
                    }
                })
            };
            let dropped = later(leaving(&of, false));
            let outcome = node.run(Hook::UplinkOut, &dropped);
            assert_eq!(outcome.verdict, Verdict::Drop, "{outcome}");
            let told: Vec<_> = node.events().iter().map(event_of_drop).collect();
            let protocol = if of.remote.is_ipv4() { UDP } else { FRAGMENT };
            assert_eq!(told, [(Protocol(protocol), of.remote.ip())]);
            assert!(account(node).contains_key(&TrafficPath::DROPPED));
            // Of IPv4 it is known what the whole was.
            if of.remote.is_ipv4() {
                let passes = later(Packet::tcp(of.local, of.remote, ACK));
                let outcome = node.run(Hook::UplinkOut, &passes);
                assert_eq!(outcome.verdict, Verdict::Pass, "{outcome}");
                account(node);
            }
        }
    });
}

#[test]
fn without_strict_mode_the_reason_is_counted() {
    let rows = [
        (To::POD, false, TrafficPath::CLEAR_NOT_STRICT),
        (To::POD | To::PEER, false, TrafficPath::CLEAR_NOT_STRICT),
        (To::NODE, true, TrafficPath::CLEAR_TUNNEL),
        (To::NODE, false, TrafficPath::CLEAR_NODE),
    ];
    on_node_with(&encrypting(false), |node| {
        for of in families() {
            for (flags, tunnelled, path) in rows {
                node.know(of.remote.ip(), flags);
                expect(node, Hook::UplinkOut, &leaving(&of, tunnelled), Some(path));
                expect(node, Hook::PodFrom, &leaving(&of, tunnelled), None);
            }
        }
    });
}

#[test]
fn what_nodes_send_in_clear_text_has_its_reason() {
    const CLEAR: u32 = To::CLEAR_ALLOWED;
    let rows = [
        (To::NODE, TrafficPath::CLEAR_NO_PEER),
        (To::NODE | CLEAR, TrafficPath::CLEAR_EXCEPTED),
        (To::NODE | To::PEER, TrafficPath::CLEAR_EXCEPTED),
    ];
    let mut config = encrypting(true);
    config.encryption.node = true;
    on_node_with(&config, |node| {
        for of in families() {
            for (flags, path) in rows {
                node.know(of.remote.ip(), flags);
                expect(node, Hook::UplinkOut, &leaving(&of, false), Some(path));
            }
        }
    });
}

/// As when the device is gone, and its routes with it.
#[test]
fn what_pods_send_to_nodes_does_not_leave_in_clear_text() {
    const CLEAR: u32 = To::CLEAR_ALLOWED;
    on_node_with(&encrypting(true), |node| {
        for of in families() {
            let own = (of.local.ip(), To::POD | To::LOCAL);
            for (flags, path) in [
                (To::NODE | To::PEER, TrafficPath::DROPPED),
                (To::NODE | CLEAR, TrafficPath::CLEAR_NODE),
            ] {
                node.know_all(&[own, (of.remote.ip(), flags)]);
                expect(node, Hook::UplinkOut, &leaving(&of, false), Some(path));
            }
        }
    });
}

/// While encryption is on, only TC may send into the cluster: behind XDP nobody looks.
#[test]
fn answers_to_pods_and_nodes_are_left_to_tc() {
    on_node_with(&encrypting(true), |node| {
        for of in node.families() {
            node.service(FIRST, of.vip, of.remote, false);
            node.run(Hook::Xdp, &syn(&of));
            let (own, _) = node.entry(&syn(&of)).expect("an entry").rewrite;
            let transport = Transport::Tcp(SYN | ACK);
            let packet = node.wire.peer_answer(&of, of.remote, own.port(), transport);
            let outcome = node.run(Hook::Xdp, &packet);
            assert_eq!(outcome.verdict, Verdict::Transmit, "{outcome}");
            node.know(of.client.ip(), To::POD);
            node.balancer().raise_generation().expect("CONFIG");
            node.expect_untouched(Hook::Xdp, &packet);
        }
    });
}

#[test]
fn packets_of_the_device_leave_by_their_mark() {
    let mark = small_config().encryption.wireguard.firewall_mark.get();
    on_node_with(&encrypting(true), |node| {
        for of in families() {
            node.know(of.remote.ip(), To::POD);
            let packet = leaving(&of, false);
            for (mark, verdict) in [(mark, Verdict::Pass), (mark + 1, Verdict::Drop)] {
                let outcome = node.run_marked(Hook::UplinkOut, &packet, mark);
                assert_eq!(outcome.verdict, verdict, "mark {mark:#x}");
            }
            assert_eq!(account(node)[&TrafficPath::DROPPED].0, 1, "one of the two");
        }
    });
}

#[test]
fn a_pod_reaches_only_whom_a_peer_or_this_node_has() {
    let rows = [
        (To::POD, true),
        (To::NODE, true),
        (To::POD | To::PEER, false),
        (To::NODE | To::PEER, false),
        (To::POD | To::LOCAL, false),
        (To::POD | To::CLEAR_ALLOWED, false),
        (To::NODE | To::CLEAR_ALLOWED, false),
    ];
    on_node_with(&encrypting(true), |node| {
        for of in families() {
            for (flags, dropped) in rows {
                node.know(of.remote.ip(), flags);
                let path = dropped.then_some(TrafficPath::DROPPED);
                expect(node, Hook::PodFrom, &leaving(&of, false), path);
            }
        }
    });
}

#[test]
fn without_encryption_nothing_is_looked_at() {
    on_node_with(&small_config(), |node| {
        for of in families() {
            node.know(of.remote.ip(), To::POD);
            for hook in [Hook::UplinkOut, Hook::PodFrom] {
                expect(node, hook, &leaving(&of, false), None);
            }
        }
    });
}
