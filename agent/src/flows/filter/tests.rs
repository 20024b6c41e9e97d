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

mod events;
mod names;
mod packets;

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
