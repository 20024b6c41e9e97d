use super::*;
use crate::flows::identity::IdentityId;
use crate::flows::record::tests::{event, record, wide};
use crate::flows::record::{CLUSTER_NAME, EndpointInfo};
use crate::state::{ObjectName, Workload};
use ebpf_abi::event::{EventKind, ObservationPoint, ReplyState};
use ebpf_abi::{DropReason, FlowEvent, Protocol};
use std::sync::Arc;
use weir_proto::flow::{
    EventTypeFilter, HttpHeader, NetworkInterface, TcpFlags, Workload as WorkloadFilter,
    flow_filter::Experimental,
};

fn named(event: FlowEvent) -> FlowRecord {
    let mut record = record(event);
    record.source = Arc::new(EndpointInfo {
        identity: IdentityId(4711),
        namespace: "shop".into(),
        pod_name: "web-1".into(),
        labels: vec!["k8s:app=web".into()],
        workload: Some(Workload {
            kind: "Deployment".into(),
            name: "web".into(),
        }),
        cluster_name: CLUSTER_NAME,
    });
    record.destination = Arc::new(EndpointInfo {
        identity: IdentityId::WORLD,
        labels: vec!["reserved:world".into()],
        ..EndpointInfo::default()
    });
    record.destination_service = Some(Arc::new(ObjectName::new("shop", "db")));
    record.interface = Some("eth0".into());
    record
}

/// A TCP packet from pod shop/web-1 to service shop/db.
fn packet() -> FlowEvent {
    let mut event = event(("10.0.0.1", 40_000), ("10.96.0.9", 5432));
    event.tcp_flags = ebpf_abi::tcp::SYN | ebpf_abi::tcp::ACK;
    event.ifindex = 7;
    event
}

fn matches(filter: FlowFilter, record: &FlowRecord) -> bool {
    FlowFilters::compile(&[filter], &[])
        .unwrap()
        .matches(record)
}

fn text(value: &str) -> Vec<String> {
    vec![value.to_owned()]
}

/// Expects of each value whether the filter it makes matches the record.
#[track_caller]
fn expect<V: Copy + std::fmt::Debug>(
    record: &FlowRecord,
    filter: impl Fn(V) -> FlowFilter,
    cases: &[(V, bool)],
) {
    for (value, expected) in cases {
        assert_eq!(matches(filter(*value), record), *expected, "{value:?}");
    }
}

#[test]
fn addresses() {
    let record = named(packet());
    expect(
        &record,
        |v| FlowFilter {
            source_ip: text(v),
            ..Default::default()
        },
        &[
            ("10.0.0.1", true),
            ("10.0.0.2", false),
            ("10.0.0.0/8", true),
            ("10.0.0.77/24", true),
            ("11.0.0.0/8", false),
            ("::/0", false),
        ],
    );
    expect(
        &record,
        |v| FlowFilter {
            destination_ip: text(v),
            ..Default::default()
        },
        &[("10.96.0.9", true), ("10.0.0.1", false)],
    );
    expect(
        &record,
        |v| FlowFilter {
            source_ip_xlated: text(v),
            ..Default::default()
        },
        &[("10.0.0.1", false), ("0.0.0.0/0", false)],
    );
    let translated = named(FlowEvent {
        translated_source: wide("192.0.2.1"),
        ..packet()
    });
    expect(
        &translated,
        |v| FlowFilter {
            source_ip_xlated: text(v),
            ..Default::default()
        },
        &[("192.0.2.0/24", true), ("10.0.0.1", false)],
    );
    let six = named(event(("fd00::1", 1), ("fd00::2", 2)));
    let version = |v| FlowFilter {
        ip_version: vec![v],
        ..Default::default()
    };
    expect(&record, version, &[(0, false), (1, true), (2, false)]);
    expect(&six, version, &[(0, false), (1, false), (2, true)]);
    // Another spelling of the same address.
    expect(
        &six,
        |v| FlowFilter {
            source_ip: text(v),
            ..Default::default()
        },
        &[("fd00:0::1", true)],
    );
    let encrypted = |v| FlowFilter {
        encrypted: vec![v],
        ..Default::default()
    };
    expect(&record, encrypted, &[(true, false), (false, true)]);
    for point in [ObservationPoint::TO_CRYPTO, ObservationPoint::FROM_CRYPTO] {
        let mut event = packet();
        event.point = point;
        expect(&named(event), encrypted, &[(true, true), (false, false)]);
        event.kind = EventKind::DROP;
        expect(&named(event), encrypted, &[(true, false), (false, true)]);
    }
}

#[test]
fn names() {
    let record = named(packet());
    expect(
        &record,
        |v| FlowFilter {
            source_pod: text(v),
            ..Default::default()
        },
        &[
            ("shop/web", true),
            ("shop/web-1", true),
            ("shop/web-1/ignored", true),
            ("shop/", true),
            ("/web", true),
            ("/", true),
            ("web", false), // in namespace default
            ("default/", false),
            ("shop/api", false),
        ],
    );
    expect(
        &record,
        |v| FlowFilter {
            destination_pod: text(v),
            ..Default::default()
        },
        &[
            ("/", false), // nothing is known of it
        ],
    );
    expect(
        &record,
        |v| FlowFilter {
            destination_service: text(v),
            ..Default::default()
        },
        &[
            ("shop/db", true),
            ("shop/d", true),
            ("/", true),
            ("db", false),
        ],
    );
    expect(
        &record,
        |v| FlowFilter {
            source_service: text(v),
            ..Default::default()
        },
        &[("/", false)],
    );
    let workload = |(kind, name): (&str, &str)| {
        let workload = WorkloadFilter {
            kind: kind.into(),
            name: name.into(),
        };
        FlowFilter {
            source_workload: vec![workload],
            ..Default::default()
        }
    };
    expect(
        &record,
        workload,
        &[
            (("Deployment", "web"), true),
            (("", "web"), true),
            (("Deployment", ""), true),
            (("", ""), true),
            (("StatefulSet", "web"), false),
            (("", "we"), false),
        ],
    );
    expect(
        &record,
        |v| FlowFilter {
            node_name: text(v),
            ..Default::default()
        },
        &[
            ("node-1", true),
            ("NODE-1", true),
            ("node-*", true),
            ("*-1", true),
            ("node", false),
            ("default/", true),
            ("/node-1", true),
            ("default/node-1", true),
            ("other/node-1", false),
        ],
    );
    expect(
        &record,
        |v| FlowFilter {
            source_cluster_name: text(v),
            ..Default::default()
        },
        &[("default", true), ("def", false)],
    );
}

#[test]
fn labels_and_identities() {
    let record = named(packet());
    expect(
        &record,
        |v| FlowFilter {
            source_label: text(v),
            ..Default::default()
        },
        &[
            ("app=web", true),
            ("k8s:app in (web,db)", true),
            ("app=db", false),
        ],
    );
    expect(
        &record,
        |v| FlowFilter {
            destination_label: text(v),
            ..Default::default()
        },
        &[("reserved:world", true), ("app", false)],
    );
    expect(
        &record,
        |v| FlowFilter {
            node_labels: text(v),
            ..Default::default()
        },
        &[("zone=a", true), ("k8s:zone=a", false)],
    );
    expect(
        &record,
        |v| FlowFilter {
            source_identity: vec![v],
            ..Default::default()
        },
        &[(4711, true), (2, false)],
    );
    expect(
        &record,
        |v| FlowFilter {
            destination_identity: vec![v],
            ..Default::default()
        },
        &[(2, true), (4711, false)],
    );
}

#[test]
fn transport() {
    let record = named(packet());
    let protocol = |v| FlowFilter {
        protocol: text(v),
        ..Default::default()
    };
    expect(
        &record,
        protocol,
        &[
            ("tcp", true),
            ("TCP", true),
            ("udp", false),
            ("http", false),
        ],
    );
    let icmp = named(FlowEvent {
        protocol: Protocol::ICMP,
        ..packet()
    });
    expect(
        &icmp,
        protocol,
        &[
            ("icmp", true),
            ("icmpv4", true),
            ("icmpv6", false),
            ("tcp", false),
        ],
    );
    let port = |v| FlowFilter {
        destination_port: text(v),
        ..Default::default()
    };
    expect(&record, port, &[("5432", true), ("40000", false)]);
    expect(&icmp, port, &[("5432", false)]);
    expect(
        &record,
        |v| FlowFilter {
            source_port: text(v),
            ..Default::default()
        },
        &[("40000", true)],
    );
    let flags = |flags| FlowFilter {
        tcp_flags: vec![flags],
        ..Default::default()
    };
    let syn = TcpFlags {
        syn: true,
        ..Default::default()
    };
    expect(
        &record,
        flags,
        &[
            (syn, true),
            (TcpFlags { ack: true, ..syn }, true),
            (TcpFlags { fin: true, ..syn }, false),
            (TcpFlags { ns: true, ..syn }, false),
            (TcpFlags::default(), true),
        ],
    );
    expect(&icmp, flags, &[(TcpFlags::default(), false)]);
}

#[test]
fn events() {
    let record = named(packet());
    let drop = named(FlowEvent {
        kind: EventKind::DROP,
        drop_reason: DropReason::NoBackend as u8,
        point: ObservationPoint::FROM_NETWORK,
        reply: ReplyState::UNKNOWN,
        ..packet()
    });
    let verdict = |v| FlowFilter {
        verdict: vec![v],
        ..Default::default()
    };
    expect(&record, verdict, &[(1, true), (2, false), (99, false)]);
    expect(&drop, verdict, &[(1, false), (2, true)]);
    let class = |(kind, sub): (i32, Option<i32>)| {
        let (match_sub_type, sub_type) = (sub.is_some(), sub.unwrap_or(0));
        let wanted = EventTypeFilter {
            r#type: kind,
            match_sub_type,
            sub_type,
        };
        FlowFilter {
            event_type: vec![wanted],
            ..Default::default()
        }
    };
    expect(
        &record,
        class,
        &[
            ((4, None), true),
            ((4, Some(5)), true),
            ((4, Some(0)), false),
            ((0, None), true),
            ((1, None), false),
        ],
    );
    expect(
        &drop,
        class,
        &[((1, Some(158)), true), ((1, Some(133)), false)],
    );
    let reply = |v| FlowFilter {
        reply: vec![v],
        ..Default::default()
    };
    expect(&record, reply, &[(false, true), (true, false)]);
    expect(&drop, reply, &[(false, true), (true, false)]);
    let unknown = named(FlowEvent {
        reply: ReplyState::UNKNOWN,
        ..packet()
    });
    expect(&unknown, reply, &[(false, false), (true, false)]);
    let direction = |v| FlowFilter {
        traffic_direction: vec![v],
        ..Default::default()
    };
    expect(&record, direction, &[(1, false), (2, true)]);
    let reason = |v| FlowFilter {
        drop_reason_desc: vec![v],
        ..Default::default()
    };
    expect(&drop, reason, &[(158, true), (133, false)]);
    expect(&record, reason, &[(0, false)]);
    let interface = |(index, name): (u32, &str)| FlowFilter {
        interface: vec![NetworkInterface {
            index,
            name: name.into(),
        }],
        ..Default::default()
    };
    expect(
        &record,
        interface,
        &[
            ((0, "eth0"), true),
            ((7, ""), true),
            ((7, "eth1"), false),
            ((8, "eth0"), false),
        ],
    );
    let uuid = |v| FlowFilter {
        uuid: text(v),
        ..Default::default()
    };
    expect(
        &record,
        uuid,
        &[
            ("00000000-0000-0000-0000-000000001234", true),
            ("00000000-0000-0000-0000-000000001235", false),
            ("nonsense", false),
        ],
    );
}

#[test]
fn layer_seven_fields_never_match() {
    let record = named(packet());
    let filters = [
        FlowFilter {
            http_status_code: text("50+"),
            ..Default::default()
        },
        FlowFilter {
            http_method: text("get"),
            ..Default::default()
        },
        FlowFilter {
            http_path: text("/v1"),
            ..Default::default()
        },
        FlowFilter {
            http_url: text("."),
            ..Default::default()
        },
        FlowFilter {
            http_header: vec![HttpHeader::default()],
            ..Default::default()
        },
        FlowFilter {
            dns_query: text(".*"),
            ..Default::default()
        },
        FlowFilter {
            trace_id: text(""),
            ..Default::default()
        },
        FlowFilter {
            source_fqdn: text("*"),
            ..Default::default()
        },
        FlowFilter {
            destination_fqdn: text("*.example.com."),
            ..Default::default()
        },
        FlowFilter {
            ip_trace_id: vec![1],
            ..Default::default()
        },
    ];
    for filter in filters {
        assert!(!matches(filter.clone(), &record), "{filter:?}");
    }
}

#[test]
fn lists_are_alternatives_and_fields_are_conditions() {
    let record = named(packet());
    let tcp = FlowFilter {
        protocol: text("tcp"),
        ..Default::default()
    };
    let udp = FlowFilter {
        protocol: text("udp"),
        ..Default::default()
    };
    let either = FlowFilter {
        protocol: vec!["udp".into(), "tcp".into()],
        ..Default::default()
    };
    let both = FlowFilter {
        protocol: text("tcp"),
        source_port: text("1"),
        ..Default::default()
    };
    let empty = FlowFilter::default();
    let cases: [(&[&FlowFilter], &[&FlowFilter], bool); 10] = [
        (&[], &[], true),
        (&[&empty], &[], true),
        (&[], &[&empty], false),
        (&[&tcp], &[], true),
        (&[&udp], &[], false),
        (&[&udp, &tcp], &[], true),
        (&[&either], &[], true),
        (&[&both], &[], false),
        (&[&tcp], &[&udp], true),
        (&[&tcp], &[&tcp], false),
    ];
    for (allow, deny, expected) in cases {
        let list =
            |filters: &[&FlowFilter]| filters.iter().map(|f| (*f).clone()).collect::<Vec<_>>();
        let filters = FlowFilters::compile(&list(allow), &list(deny)).unwrap();
        assert_eq!(filters.matches(&record), expected, "{allow:?} {deny:?}");
    }
}

#[test]
fn nonsense_is_refused_with_its_field() {
    let http = EventTypeFilter {
        r#type: 1,
        ..Default::default()
    };
    let cel = Experimental {
        cel_expression: text("true"),
    };
    let cases = vec![
        (
            "source_ip",
            FlowFilter {
                source_ip: text("10.0.0"),
                ..Default::default()
            },
        ),
        (
            "destination_ip",
            FlowFilter {
                destination_ip: text("::/129"),
                ..Default::default()
            },
        ),
        (
            "source_ip_xlated",
            FlowFilter {
                source_ip_xlated: text(""),
                ..Default::default()
            },
        ),
        (
            "source_pod",
            FlowFilter {
                source_pod: text(""),
                ..Default::default()
            },
        ),
        (
            "destination_service",
            FlowFilter {
                destination_service: text(""),
                ..Default::default()
            },
        ),
        (
            "source_port",
            FlowFilter {
                source_port: text("65536"),
                ..Default::default()
            },
        ),
        (
            "destination_port",
            FlowFilter {
                destination_port: text("http"),
                ..Default::default()
            },
        ),
        (
            "protocol",
            FlowFilter {
                protocol: text("quic"),
                ..Default::default()
            },
        ),
        (
            "source_label",
            FlowFilter {
                source_label: text("a=b c"),
                ..Default::default()
            },
        ),
        (
            "node_labels",
            FlowFilter {
                node_labels: text("!"),
                ..Default::default()
            },
        ),
        (
            "node_name",
            FlowFilter {
                node_name: text("a/b/c"),
                ..Default::default()
            },
        ),
        (
            "source_fqdn",
            FlowFilter {
                source_fqdn: text("a b"),
                ..Default::default()
            },
        ),
        (
            "source_cluster_name",
            FlowFilter {
                source_cluster_name: text(""),
                ..Default::default()
            },
        ),
        (
            "http_status_code",
            FlowFilter {
                http_status_code: text("600"),
                ..Default::default()
            },
        ),
        (
            "http_path",
            FlowFilter {
                http_path: text("("),
                ..Default::default()
            },
        ),
        (
            "http_method",
            FlowFilter {
                http_method: text("get"),
                event_type: vec![http],
                ..Default::default()
            },
        ),
        (
            "experimental.cel_expression",
            FlowFilter {
                experimental: Some(cel),
                ..Default::default()
            },
        ),
    ];
    for (field, filter) in cases {
        let Err(error) = FlowFilters::compile(&[], &[filter]) else {
            panic!("{field}")
        };
        assert_eq!(error.field, field);
        assert!(
            error
                .to_string()
                .starts_with(&format!("invalid filter: {field}: ")),
            "{error}"
        );
    }
}
