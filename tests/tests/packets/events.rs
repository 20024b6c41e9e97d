//! Flow events: what they say, and that a flow is told of once and not packet by packet.

use std::net::{IpAddr, SocketAddr};

use ebpf_abi::event::{EventKind, ObservationPoint, ReplyState, ReportReason};
use ebpf_abi::tcp::{ACK, FIN, PSH, SYN};
use ebpf_abi::{Counter, DropReason, Family, FlowEvent};
use weir_agent::config::ByteSize;

use crate::network::{Addresses, at, families};
use crate::node::{Hook, Need, Node, on_new_node, on_node, on_node_with, small_config};
use crate::packet::{Packet, Transport};

const SERVICE: u32 = 7;

/// The parts of an event that say what happened.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    point: ObservationPoint,
    reply: ReplyState,
    reason: ReportReason,
    packets: u64,
    tcp_flags: u8,
}

fn told(event: &FlowEvent) -> Told {
    Told {
        point: event.point,
        reply: event.reply,
        reason: event.reason,
        packets: event.packets,
        tcp_flags: event.tcp_flags,
    }
}

/// An event's ends: source, destination, and both after translation.
fn ends(event: &FlowEvent) -> [SocketAddr; 4] {
    let family = if event.family == 4 {
        Family::V4
    } else {
        Family::V6
    };
    let end = |ip: ebpf_abi::Addr6, port: ebpf_abi::Be16| {
        let ip: IpAddr = ip.narrow(family);
        SocketAddr::new(ip, port.get())
    };
    [
        end(event.source, event.source_port),
        end(event.destination, event.destination_port),
        end(event.translated_source, event.translated_source_port),
        end(
            event.translated_destination,
            event.translated_destination_port,
        ),
    ]
}

/// The only event of a packet.
#[track_caller]
fn only_event(node: &mut Node, hook: Hook, packet: &Packet) -> FlowEvent {
    node.run(hook, packet);
    let events = node.events();
    assert_eq!(events.len(), 1, "{hook:?} of {packet:?}: {events:?}");
    let event = events[0];
    assert_eq!(event.protocol.0, packet.protocol());
    assert_eq!(event.family == 4, packet.source.is_ipv4());
    assert_eq!(ends(&event)[..2], [packet.source, packet.destination]);
    assert!(event.monotonic_ns > 0);
    event
}

#[track_caller]
fn no_event(node: &mut Node, hook: Hook, packet: &Packet) {
    node.run(hook, packet);
    let events = node.events();
    assert!(events.is_empty(), "{hook:?} of {packet:?}: {events:?}");
}

#[test]
fn a_connection_sent_on_is_told_with_what_it_was_turned_into() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.remote, false);
            let packet = Packet::tcp(of.client, of.vip, SYN);
            let event = only_event(node, Hook::Xdp, &packet);
            let own = node.entry(&packet).unwrap().rewrite.0;
            assert_eq!(ends(&event), [of.client, of.vip, own, of.remote]);
            assert_eq!((event.service.0, event.backend.0), (SERVICE, SERVICE));
            assert_eq!(event.kind, EventKind::TRACE);
            assert_eq!(event.ifindex, node.wire.ifindex);
            assert_eq!((event.packets, event.bytes), (1, packet.len()));
            let expected = Told {
                point: ObservationPoint::TO_NETWORK,
                reply: ReplyState::ORIGINAL,
                reason: ReportReason::NEW,
                packets: 1,
                tcp_flags: SYN,
            };
            assert_eq!(told(&event), expected);

            let transport = Transport::Tcp(SYN | ACK);
            let reply = node.wire.peer_answer(&of, of.remote, own.port(), transport);
            let event = only_event(node, Hook::Xdp, &reply);
            assert_eq!(ends(&event), [of.remote, own, of.vip, of.client]);
            let expected = Told {
                reply: ReplyState::REPLY,
                tcp_flags: SYN | ACK,
                ..expected
            };
            assert_eq!(told(&event), expected);
        }
    });
}

#[test]
fn a_connection_to_a_local_backend_is_told_as_coming_from_the_network() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.local, true);
            let event = only_event(node, Hook::Xdp, &Packet::udp(of.client, of.vip));
            assert_eq!(ends(&event), [of.client, of.vip, of.client, of.local]);
            assert_eq!(event.point, ObservationPoint::FROM_NETWORK);
            assert_eq!(event.reply, ReplyState::ORIGINAL);
        }
    });
}

#[test]
fn only_new_tcp_flags_and_the_interval_are_told_of_a_connection() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.remote, false);
            let packet = |flags| Packet::tcp(of.client, of.vip, flags);
            only_event(node, Hook::Xdp, &packet(SYN));
            let event = only_event(node, Hook::Xdp, &packet(ACK));
            assert_eq!(event.reason, ReportReason::ESTABLISHED);
            no_event(node, Hook::Xdp, &packet(ACK));
            only_event(node, Hook::Xdp, &packet(ACK | PSH));
            no_event(node, Hook::Xdp, &packet(ACK | PSH));
            node.let_pass(4.0);
            no_event(node, Hook::Xdp, &packet(ACK));
            // Due since half a second, seen when the entry is checked again.
            node.let_pass(1.5);
            let event = only_event(node, Hook::Xdp, &packet(ACK));
            assert_eq!(event.reason, ReportReason::ESTABLISHED);
            no_event(node, Hook::Xdp, &packet(ACK));
            let event = only_event(node, Hook::Xdp, &packet(FIN | ACK));
            assert_eq!(event.tcp_flags, FIN | ACK);
            no_event(node, Hook::Xdp, &packet(ACK));
        }
    });
}

#[test]
fn a_drop_is_told_with_its_reason_each_time() {
    on_node(|node| {
        for of in node.families() {
            node.frontend(of.vip, SERVICE);
            for hook in [Hook::Xdp, Hook::UplinkIn, Hook::PodFrom] {
                for _ in 0..2 {
                    let packet = Packet::tcp(of.client, of.vip, SYN);
                    let event = only_event(node, hook, &packet);
                    assert_eq!(event.kind, EventKind::DROP);
                    assert_eq!(event.drop_reason, DropReason::NoBackend as u8);
                    assert_eq!((event.packets, event.bytes), (1, packet.len()));
                    assert_eq!(ends(&event), [of.client, of.vip, of.client, of.vip]);
                }
            }
        }
    });
}

/// The hooks that observe, with the point they report.
const POINTS: [(Hook, ObservationPoint); 4] = [
    (Hook::UplinkIn, ObservationPoint::TO_HOST),
    (Hook::UplinkOut, ObservationPoint::TO_NETWORK),
    (Hook::PodFrom, ObservationPoint::FROM_ENDPOINT),
    (Hook::PodTo, ObservationPoint::TO_ENDPOINT),
];

#[test]
fn each_tc_hook_tells_a_flow_from_its_own_point() {
    on_node(|node| {
        for of in node.families() {
            for (hook, point) in POINTS {
                let packet = Packet::tcp(of.client, of.node, SYN);
                let event = only_event(node, hook, &packet);
                assert_eq!(event.kind, EventKind::TRACE);
                assert_eq!((event.service.0, event.backend.0), (0, 0));
                assert_eq!(ends(&event)[2..], [of.client, of.node]);
                let expected = Told {
                    point,
                    reply: ReplyState::ORIGINAL,
                    reason: ReportReason::NEW,
                    packets: 1,
                    tcp_flags: SYN,
                };
                assert_eq!(told(&event), expected);
                no_event(node, hook, &packet);
            }
        }
    });
}

#[test]
fn only_new_tcp_flags_and_the_interval_are_told_of_a_flow() {
    on_node(|node| {
        for of in node.families() {
            for (hook, _) in POINTS {
                let packet = |flags| Packet::tcp(of.client, of.node, flags);
                only_event(node, hook, &packet(SYN));
                for _ in 0..3 {
                    no_event(node, hook, &packet(SYN));
                }
                let event = only_event(node, hook, &packet(ACK));
                assert_eq!(event.packets, 5);
                assert_eq!(event.bytes, 5 * packet(ACK).len());
                assert_eq!(event.reason, ReportReason::ESTABLISHED);
                node.let_pass(5.5);
                let event = only_event(node, hook, &packet(ACK));
                assert_eq!(event.packets, 6);
                no_event(node, hook, &packet(ACK));
                let event = only_event(node, hook, &packet(FIN | ACK));
                assert_eq!((event.packets, event.tcp_flags), (8, FIN | ACK));
                no_event(node, hook, &packet(FIN | ACK));
                // The same ports again: another connection.
                let event = only_event(node, hook, &packet(SYN));
                assert_eq!((event.packets, event.reason), (1, ReportReason::NEW));
                no_event(node, hook, &packet(SYN));
            }
        }
    });
}

#[test]
fn both_directions_of_a_flow_are_told_apart() {
    use ReplyState as State;
    on_node(|node| {
        for of in node.families() {
            let (to, from) = (
                |transport| Packet::of(of.client, of.node, transport),
                |transport| Packet::of(of.node, of.client, transport),
            );
            let cases = [
                (
                    Transport::Udp,
                    Transport::Udp,
                    State::ORIGINAL,
                    State::REPLY,
                ),
                (
                    Transport::Tcp(SYN),
                    Transport::Tcp(SYN | ACK),
                    State::ORIGINAL,
                    State::REPLY,
                ),
            ];
            for (first, second, of_first, of_second) in cases {
                let event = only_event(node, Hook::UplinkIn, &to(first));
                assert_eq!(event.reply, of_first, "{first:?}");
                let event = only_event(node, Hook::UplinkOut, &from(second));
                assert_eq!(event.reply, of_second, "{second:?}");
            }
            // A connection that was there before us: nobody can tell.
            let (mine, theirs) = (at(of.client, 50_000), at(of.node, 22));
            let packet = Packet::tcp(mine, theirs, ACK);
            assert_eq!(
                only_event(node, Hook::UplinkIn, &packet).reply,
                State::UNKNOWN
            );
            let packet = Packet::tcp(theirs, mine, ACK);
            assert_eq!(
                only_event(node, Hook::UplinkOut, &packet).reply,
                State::UNKNOWN
            );
            // The same at a pod, whose points are each other's opposites.
            let (pod, peer) = (of.local, of.remote);
            let event = only_event(node, Hook::PodFrom, &Packet::udp(pod, peer));
            assert_eq!(event.reply, State::ORIGINAL);
            let event = only_event(node, Hook::PodTo, &Packet::udp(peer, pod));
            assert_eq!(event.reply, State::REPLY);
        }
    });
}

#[test]
fn icmp_is_told_with_type_and_code_and_neighbour_discovery_is_not() {
    on_node(|node| {
        let [v4, v6] = families();
        let cases = [
            (&v4, 8, ReplyState::ORIGINAL),
            (&v4, 0, ReplyState::REPLY),
            (&v4, 3, ReplyState::UNKNOWN),
            (&v6, 128, ReplyState::ORIGINAL),
            (&v6, 129, ReplyState::REPLY),
            (&v6, 2, ReplyState::UNKNOWN),
        ];
        for (of, kind, reply) in cases {
            let packet = Packet::icmp(of.client.ip(), of.node.ip(), kind);
            node.run(Hook::UplinkIn, &packet);
            let events = node.events();
            assert_eq!(events.len(), 1, "type {kind}");
            assert_eq!(events[0].source_port.get(), u16::from(kind));
            assert_eq!(events[0].reply, reply, "type {kind}");
        }
        for kind in 133..=137 {
            let packet = Packet::icmp(v6.client.ip(), v6.node.ip(), kind);
            no_event(node, Hook::UplinkIn, &packet);
        }
    });
}

#[test]
fn what_the_node_only_forwards_is_told_at_the_pod_alone() {
    on_node(|node| {
        if !node.can(Need::Ingress) {
            return;
        }
        for of in node.families() {
            let inwards = Packet::udp(of.client, of.local);
            no_event(node, Hook::UplinkIn, &inwards);
            no_event(node, Hook::UplinkIn, &inwards);
            only_event(node, Hook::PodTo, &inwards);
            let outwards = Packet::udp(of.local, of.client);
            only_event(node, Hook::PodFrom, &outwards);
            no_event(node, Hook::UplinkOutForwarded, &outwards);
        }
    });
}

#[test]
fn what_tc_sends_on_is_told_once() {
    on_node(|node| {
        for of in node.families() {
            node.service(SERVICE, of.vip, of.elsewhere, false);
            let packet = Packet::udp(of.client, of.vip);
            no_event(node, Hook::Xdp, &packet);
            let event = only_event(node, Hook::UplinkIn, &packet);
            assert_eq!((event.service.0, event.packets), (SERVICE, 1));
            no_event(node, Hook::UplinkIn, &packet);
        }
    });
}

#[test]
fn a_full_ring_loses_events_and_counts_them() {
    let mut config = small_config();
    config.flows.ring_buffer_bytes = ByteSize::from_bytes(4096);
    on_new_node(&config, |node| {
        node.configure();
        // A record has a header of eight bytes before it.
        let room = 4096 / (size_of::<FlowEvent>() as u64 + 8);
        let of = families()[0];
        let flows = 40;
        for port in 0..flows {
            node.run(
                Hook::UplinkOut,
                &Packet::udp(at(of.node, 1000 + port), of.client),
            );
        }
        let lost = u64::from(flows) - room;
        node.expect_counted(&[(Counter::EventsLost, lost)]);
        assert_eq!(node.events().len() as u64, room);
        // With room again, events go on.
        only_event(
            node,
            Hook::UplinkOut,
            &Packet::udp(at(of.node, 2000), of.client),
        );
    });
}

#[test]
fn nothing_is_told_when_flows_are_not_captured() {
    let mut config = small_config();
    config.flows.enabled = false;
    on_node_with(&config, |node| {
        for of in node.families() {
            services(node, &of);
            for hook in Hook::ALL {
                no_event(node, hook, &Packet::tcp(of.client, of.vip, SYN));
                no_event(node, hook, &Packet::tcp(of.client, of.vip2, SYN));
                no_event(node, hook, &Packet::tcp(of.client, of.node, SYN));
            }
        }
        assert!(!node.counted().contains_key("events_sent"));
    });
}

fn services(node: &mut Node, of: &Addresses) {
    node.service(SERVICE, of.vip, of.remote, false);
    node.frontend(of.vip2, SERVICE + 1);
}
