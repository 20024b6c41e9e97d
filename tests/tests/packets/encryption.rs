//! What may leave in clear text, what is counted of it, and the hooks of the device that encrypts.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ebpf_abi::tcp::{ACK, SYN};
use ebpf_abi::{Counter, DropReason, IpcacheValue as To, TrafficPath};

use weir_agent::lb::apply::LbMaps;

use crate::network::{Addresses, at, families, ip};
use crate::node::{Hook, Node, OTHER_NODE, Verdict, encrypting, on_node_with, small_config};
use crate::open::{FIRST, syn};
use crate::packet::{
    ETHERNET, Packet, Transport, assert_checksums, fragment_header, set_tcp_options,
};

const VXLAN: u16 = 4_789;
const MTU: u32 = 1_420;

/// What was counted by path since the last call.
fn account(node: &mut Node) -> BTreeMap<TrafficPath, (u64, u64)> {
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
        (To::POD | To::LOCAL, false, None),
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
            let carrying = |protocol| Packet::of(of.local, of.remote, Transport::Other(protocol));
            // IP in IP, IPv6 in IP, GRE; and one that carries none.
            for protocol in [4, 41, 47] {
                let outcome = node.run(Hook::UplinkOut, &carrying(protocol));
                assert_eq!(outcome.verdict, Verdict::Drop, "protocol {protocol}");
                assert!(account(node).contains_key(&TrafficPath::DROPPED));
            }
            let outcome = node.run(Hook::UplinkOut, &carrying(132));
            assert_eq!(outcome.verdict, Verdict::Pass);
            assert!(account(node).contains_key(&TrafficPath::CLEAR_NODE));
        }
    });
}

#[test]
fn a_later_fragment_may_be_of_a_tunnels_packet() {
    on_node_with(&encrypting(true), |node| {
        for of in families() {
            node.know(of.remote.ip(), To::NODE);
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

/// The other node's pod, with an address that [`Packet::bare_bytes`] can be made of.
fn far(of: &Addresses) -> SocketAddr {
    let ip = if of.remote.is_ipv4() {
        "8.0.2.5"
    } else {
        "2001:db8:86dd:2::5"
    };
    SocketAddr::new(ip.parse().expect("an address"), of.remote.port())
}

#[test]
fn what_enters_the_device_is_counted_as_encrypted() {
    on_node_with(&encrypting(true), |node| {
        for of in families() {
            node.know(of.remote.ip(), To::POD | To::PEER);
            let packet = Packet::udp(at(far(&of), 45_000), of.remote);
            let bytes = packet.bare_bytes();
            let outcome = node.run_bytes(Hook::DeviceOut, &bytes);
            outcome.assert(Verdict::Pass, &bytes);
            let expected = BTreeMap::from([(TrafficPath::ENCRYPTED, (1, packet.len()))]);
            assert_eq!(account(node), expected);
        }
    });
}

#[test]
fn opening_segments_are_made_to_fit_the_device() {
    const NOP: u8 = 1;
    const STAMP: [u8; 4] = [NOP, NOP, NOP, NOP];
    let [high, low] = 1_460_u16.to_be_bytes();
    let option = [2, 4, high, low];
    // At an even offset, at odd ones, behind another option, at the end.
    let layouts = [0, 1, 3, 5, 7, 8];
    on_node_with(&encrypting(true), |node| {
        node.settings().set_encrypted_mtu(MTU).expect("CONFIG");
        for of in families() {
            let headers = if of.remote.is_ipv4() { 40 } else { 60 };
            let fitting = (MTU - headers) as u16;
            for place in layouts {
                let mut options = [NOP; 12];
                options[place..place + 4].copy_from_slice(&option);
                for (flags, size) in [(SYN, fitting), (SYN | ACK, fitting), (ACK, 1_460)] {
                    let packet = Packet::tcp(at(far(&of), 45_000), of.remote, flags);
                    let mut bytes = packet.bare_bytes();
                    set_tcp_options(&mut bytes, options);
                    let mut expected = bytes.clone();
                    let mut clamped = options;
                    clamped[place + 2..place + 4].copy_from_slice(&size.to_be_bytes());
                    set_tcp_options(&mut expected, clamped);
                    let outcome = node.run_bytes(Hook::DeviceOut, &bytes);
                    outcome.assert(Verdict::Pass, &expected);
                }
            }
            // One that fits stays as it is.
            let mut bytes = Packet::tcp(at(far(&of), 45_000), of.remote, SYN).bare_bytes();
            let mut options = [NOP; 12];
            options[..4].copy_from_slice(&[2, 4, 2, 24]);
            options[4..8].copy_from_slice(&STAMP);
            set_tcp_options(&mut bytes, options);
            node.run_bytes(Hook::DeviceOut, &bytes)
                .assert(Verdict::Pass, &bytes);
        }
    });
}

#[test]
fn what_leaves_the_device_passes_unless_it_answers_a_client() {
    const SERVICE: u32 = 7;
    on_node_with(&encrypting(true), |node| {
        let uplink = node.uplink_name();
        ip(&format!("route add 8.0.0.0/16 via 192.0.2.2 dev {uplink}"));
        let families = node.families();
        if families.len() > 1 {
            ip(&format!(
                "route add 2001:db8:86dd::/48 via 2001:db8:1::2 dev {uplink}"
            ));
        }
        for of in families {
            let backend = far(&of);
            // Of a pod to a pod: nothing is done to it.
            let packet = Packet::udp(backend, at(of.local, 45_000)).bare_bytes();
            let outcome = node.run_bytes(Hook::DeviceIn, &packet);
            outcome.assert(Verdict::Pass, &packet);

            // The answer of a backend to a client of this node's.
            node.service(SERVICE, of.vip, backend, false);
            let request = Packet::tcp(of.client, of.vip, SYN);
            let sent = node.run(Hook::UplinkIn, &request);
            assert_eq!(sent.verdict, Verdict::Redirect, "{sent}");
            let port = crate::packet::source_port(&sent.frame);
            let answer = Packet::tcp(backend, at(of.node, port), SYN | ACK);
            let outcome = node.run_bytes(Hook::DeviceIn, &answer.bare_bytes());
            assert_eq!(outcome.verdict, Verdict::Redirect, "{outcome}");
            let expected = Packet::tcp(of.vip, of.client, SYN | ACK).with(|it| it.ttl -= 1);
            assert_eq!(outcome.frame[ETHERNET..], expected.bytes()[ETHERNET..]);
            assert_checksums(&outcome.frame);
        }
    });
}
