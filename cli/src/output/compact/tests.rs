#![expect(
    deprecated,
    reason = "the summary is deprecated and what everybody reads"
)]

use super::*;
use crate::output::Paint;
use prost_types::Timestamp;
use weir_proto::flow::{
    CiliumEventType, Endpoint, Ethernet, Ip, Layer4, LostEvent, LostEventSource, Service,
    SocketTranslationPoint, Tcp, Udp, layer4,
};

/// A SYN from pod to pod.
pub(crate) fn flow() -> Flow {
    let endpoint = |identity, pod: &str| {
        let (namespace, pod_name) = ("production".to_owned(), pod.to_owned());
        Some(Endpoint {
            identity,
            namespace,
            pod_name,
            ..Endpoint::default()
        })
    };
    let tcp = Tcp {
        source_port: 40_001,
        destination_port: 8080,
        flags: None,
    };
    Flow {
        time: Some(Timestamp {
            seconds: 1_763_847_766,
            nanos: 133_456_789,
        }),
        verdict: Verdict::Forwarded.into(),
        ip: Some(Ip {
            source: "10.0.0.1".into(),
            destination: "fd00::2".into(),
            ..Ip::default()
        }),
        l4: Some(Layer4 {
            protocol: Some(layer4::Protocol::Tcp(tcp)),
        }),
        source: endpoint(12_345, "web-x"),
        destination: endpoint(23_456, "api-y"),
        node_name: "node-1".into(),
        event_type: Some(CiliumEventType {
            r#type: 4,
            sub_type: 0,
        }),
        is_reply: Some(false),
        summary: "TCP Flags: SYN".into(),
        ..Flow::default()
    }
}

pub(crate) fn answer(flow: Flow) -> GetFlowsResponse {
    GetFlowsResponse {
        node_name: flow.node_name.clone(),
        time: flow.time,
        response_types: Some(ResponseTypes::Flow(flow)),
    }
}

pub(crate) fn lost() -> GetFlowsResponse {
    let event = LostEvent {
        source: LostEventSource::HubbleRingBuffer.into(),
        num_events_lost: 3,
        ..LostEvent::default()
    };
    GetFlowsResponse {
        response_types: Some(ResponseTypes::LostEvents(event)),
        ..answer(flow())
    }
}

fn style() -> Style {
    Style {
        paint: Paint::new(false),
        numeric: false,
        node_name: false,
    }
}

fn line(style: Style, answer: &GetFlowsResponse) -> String {
    let mut out = Vec::new();
    Compact::new(style).write(answer, &mut out).unwrap();
    String::from_utf8(out).unwrap().trim_end().to_owned()
}

#[test]
fn lines() {
    type F = Flow;
    let world = Some(Endpoint {
        identity: 2,
        ..Endpoint::default()
    });
    let service = |name: &str| {
        Some(Service {
            name: name.into(),
            namespace: "shop".into(),
        })
    };
    let udp = layer4::Protocol::Udp(Udp {
        source_port: 53,
        destination_port: 0,
    });
    let event = |r#type, sub_type| Some(CiliumEventType { r#type, sub_type });
    let post = SocketTranslationPoint::SockXlatePointPostDirectionFwd.into();
    let cases = [
        (
            "to a pod",
            flow(),
            "production/web-x:40001 (ID:12345) -> production/api-y:8080 (ID:23456) \
             to-endpoint FORWARDED (TCP Flags: SYN)",
        ),
        (
            "a reply stands the other way round",
            F {
                is_reply: Some(true),
                ..flow()
            },
            "production/api-y:8080 (ID:23456) <- production/web-x:40001 (ID:12345) \
             to-endpoint FORWARDED (TCP Flags: SYN)",
        ),
        (
            "a drop",
            F {
                is_reply: None,
                verdict: Verdict::Dropped.into(),
                event_type: event(1, 158),
                ..flow()
            },
            "production/web-x:40001 (ID:12345) <> production/api-y:8080 (ID:23456) \
             Service backend not found DROPPED (TCP Flags: SYN)",
        ),
        (
            "addresses without names",
            F {
                source: world.clone(),
                destination: world.clone(),
                ..flow()
            },
            "10.0.0.1:40001 (world) -> [fd00::2]:8080 (world) \
             to-endpoint FORWARDED (TCP Flags: SYN)",
        ),
        (
            "a service without a pod",
            F {
                destination: world.clone(),
                destination_service: service("db"),
                ..flow()
            },
            "production/web-x:40001 (ID:12345) -> shop/db:8080 (world) \
             to-endpoint FORWARDED (TCP Flags: SYN)",
        ),
        (
            "a service's namespace stands for the pod's",
            F {
                destination_service: service("db"),
                ..flow()
            },
            "production/web-x:40001 (ID:12345) -> shop/api-y:8080 (ID:23456) \
             to-endpoint FORWARDED (TCP Flags: SYN)",
        ),
        (
            "DNS names",
            F {
                destination: world,
                destination_names: vec!["a.example".into(), "b.example".into()],
                ..flow()
            },
            "production/web-x:40001 (ID:12345) -> a.example,b.example:8080 (world) \
             to-endpoint FORWARDED (TCP Flags: SYN)",
        ),
        (
            "without port, without endpoint",
            F {
                l4: Some(Layer4 {
                    protocol: Some(udp),
                }),
                destination: None,
                event_type: event(4, 11),
                summary: "UDP".into(),
                ..flow()
            },
            "production/web-x:53 (ID:12345) -> fd00::2 (unknown) to-network FORWARDED (UDP)",
        ),
        (
            "a socket",
            F {
                is_reply: None,
                verdict: Verdict::Translated.into(),
                event_type: event(7, 2),
                sock_xlate_point: post,
                summary: "TCP".into(),
                ..flow()
            },
            "production/web-x:40001 (ID:12345) <> production/api-y:8080 (ID:23456) \
             post-xlate-fwd TRANSLATED (TCP)",
        ),
        (
            "a policy",
            F {
                event_type: event(5, 0),
                policy_match_type: 2,
                traffic_direction: 1,
                auth_type: 1,
                ..flow()
            },
            "production/web-x:40001 (ID:12345) -> production/api-y:8080 (ID:23456) \
             policy-verdict:L3-L4 INGRESS ALLOWED (TCP Flags: SYN; Auth: SPIRE)",
        ),
        (
            "no IP",
            F {
                ip: None,
                ethernet: Some(Ethernet {
                    source: "02:00".into(),
                    destination: "02:01".into(),
                }),
                event_type: None,
                ..flow()
            },
            "02:00 (ID:12345) -> 02:01 (ID:23456) UNKNOWN FORWARDED (TCP Flags: SYN)",
        ),
    ];
    for (name, flow, expected) in cases {
        let line = line(style(), &answer(flow));
        assert_eq!(line, format!("Nov 22 21:42:46.133: {expected}"), "{name}");
    }
}

#[test]
fn numeric_lines_have_addresses_and_the_node_is_shown_when_asked() {
    let style = Style {
        numeric: true,
        node_name: true,
        ..style()
    };
    assert_eq!(
        line(style, &answer(flow())),
        "Nov 22 21:42:46.133 [node-1]: 10.0.0.1:40001 (ID:12345) -> [fd00::2]:8080 (ID:23456) \
         to-endpoint FORWARDED (TCP Flags: SYN)"
    );
}

#[test]
fn losses_have_a_line_too() {
    assert_eq!(
        line(style(), &lost()),
        "Nov 22 21:42:46.133 EVENTS LOST: HUBBLE_RING_BUFFER CPU(0) 3"
    );
    let mut spanned = lost();
    if let Some(ResponseTypes::LostEvents(lost)) = &mut spanned.response_types {
        lost.first = Some(Timestamp {
            seconds: 0,
            nanos: 0,
        });
        lost.last = Some(Timestamp {
            seconds: 61,
            nanos: 2_000_000,
        });
    }
    assert_eq!(
        line(style(), &spanned),
        "Nov 22 21:42:46.133 EVENTS LOST: HUBBLE_RING_BUFFER CPU(0) 3 \
         (first: Jan  1 00:00:00.000, last: Jan  1 00:01:01.002)"
    );
}

#[test]
fn colours_change_nothing_but_colours() {
    let style = Style {
        paint: Paint::new(true),
        ..style()
    };
    let coloured = line(style, &answer(flow()));
    assert!(coloured.contains("\x1b[32mFORWARDED\x1b[0m"), "{coloured}");
    let mut plain = coloured;
    for number in [0, 31, 32, 33, 35, 36] {
        plain = plain.replace(&format!("\x1b[{number}m"), "");
    }
    assert_eq!(plain, line(self::style(), &answer(flow())));
}
