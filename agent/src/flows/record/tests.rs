use super::*;
use ebpf_abi::{Addr4, Address as _, Be16};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Sixteen bytes of an address, as the programs write them.
pub(crate) fn wide(text: &str) -> Addr6 {
    match text.parse().unwrap() {
        IpAddr::V4(address) => Addr4::from(address as Ipv4Addr).widen(),
        IpAddr::V6(address) => Addr6::from(address as Ipv6Addr).widen(),
    }
}

/// An event between two `ADDRESS PORT` pairs, at from-endpoint.
pub(crate) fn event(source: (&str, u16), destination: (&str, u16)) -> FlowEvent {
    FlowEvent {
        source: wide(source.0),
        translated_source: wide(source.0),
        source_port: Be16::new(source.1),
        translated_source_port: Be16::new(source.1),
        destination: wide(destination.0),
        translated_destination: wide(destination.0),
        destination_port: Be16::new(destination.1),
        translated_destination_port: Be16::new(destination.1),
        family: if source.0.contains(':') { 6 } else { 4 },
        protocol: Protocol::TCP,
        kind: EventKind::TRACE,
        point: ObservationPoint::FROM_ENDPOINT,
        reply: ReplyState::ORIGINAL,
        tcp_flags: ebpf_abi::tcp::SYN,
        ..FlowEvent::default()
    }
}

/// A record of an event, without names.
pub(crate) fn record(event: FlowEvent) -> FlowRecord {
    FlowRecord {
        time_ns: 1_700_000_000_123_456_789,
        uuid: Uuid::from_u128(0x1234),
        event,
        node: Arc::new(NodeInfo {
            name: "node-1".into(),
            labels: vec!["zone=a".into()],
        }),
        interface: None,
        source: Arc::default(),
        destination: Arc::default(),
        source_service: None,
        destination_service: None,
    }
}

#[test]
fn direction_is_that_of_the_connection_at_a_pod() {
    use ObservationPoint as P;
    use ReplyState as R;
    let cases = [
        (
            EventKind::TRACE,
            P::FROM_ENDPOINT,
            R::ORIGINAL,
            TrafficDirection::Egress,
        ),
        (
            EventKind::TRACE,
            P::FROM_ENDPOINT,
            R::REPLY,
            TrafficDirection::Ingress,
        ),
        (
            EventKind::TRACE,
            P::TO_ENDPOINT,
            R::ORIGINAL,
            TrafficDirection::Ingress,
        ),
        (
            EventKind::TRACE,
            P::TO_ENDPOINT,
            R::REPLY,
            TrafficDirection::Egress,
        ),
        (
            EventKind::TRACE,
            P::TO_ENDPOINT,
            R::UNKNOWN,
            TrafficDirection::Unknown,
        ),
        (
            EventKind::TRACE,
            P::FROM_NETWORK,
            R::ORIGINAL,
            TrafficDirection::Unknown,
        ),
        (
            EventKind::DROP,
            P::FROM_ENDPOINT,
            R::REPLY,
            TrafficDirection::Egress,
        ),
        (
            EventKind::DROP,
            P::FROM_NETWORK,
            R::UNKNOWN,
            TrafficDirection::Ingress,
        ),
        (
            EventKind::SOCKET,
            P::SOCKET,
            R::UNKNOWN,
            TrafficDirection::Unknown,
        ),
    ];
    for (kind, point, reply, expected) in cases {
        let base = event(("10.0.0.1", 1), ("10.0.0.2", 2));
        let record = record(FlowEvent {
            kind,
            point,
            reply,
            ..base
        });
        assert_eq!(
            record.traffic_direction(),
            expected,
            "{kind:?} {point:?} {reply:?}"
        );
    }
}

#[test]
fn a_socket_goes_where_it_was_translated_to() {
    let mut socket = event(("10.0.0.1", 0), ("10.96.0.1", 80));
    socket.kind = EventKind::SOCKET;
    socket.translated_destination = wide("10.0.0.2");
    socket.translated_destination_port = Be16::new(8080);
    let record = record(socket);
    assert_eq!(
        record.address(Side::Destination),
        "10.0.0.2".parse::<IpAddr>().unwrap()
    );
    assert_eq!(record.port(Side::Destination), Some(8080));
    assert_eq!(record.event_type(), (7, 2));
    assert_eq!(record.tcp_flags(), None);
}

#[test]
fn only_a_translated_source_is_reported_as_such() {
    let mut translated = event(("10.0.0.1", 1), ("10.0.0.2", 2));
    assert_eq!(record(translated).source_xlated(), None);
    translated.translated_source = wide("192.0.2.1");
    assert_eq!(record(translated).source_xlated(), "192.0.2.1".parse().ok());
    // Programs that translate nothing may leave the field zero.
    translated.translated_source = Addr6::default();
    assert_eq!(record(translated).source_xlated(), None);
}

#[test]
fn ports_belong_to_protocols_that_have_them() {
    let mut icmp = event(("10.0.0.1", 8), ("10.0.0.2", 0));
    icmp.protocol = Protocol::ICMP;
    assert_eq!(record(icmp).port(Side::Source), None);
    icmp.protocol = protocol::SCTP;
    assert_eq!(record(icmp).port(Side::Source), Some(8));
}
