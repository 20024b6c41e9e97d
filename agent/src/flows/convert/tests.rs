use super::*;
use crate::flows::identity::IdentityId;
use crate::flows::record::tests::{event, record};
use ebpf_abi::event::{ObservationPoint, ReplyState, ReportReason};
use ebpf_abi::{DropReason, FlowEvent};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};

fn mask(paths: &[&str]) -> Mask {
    Mask::compile(
        &paths
            .iter()
            .map(|path| (*path).to_owned())
            .collect::<Vec<_>>(),
    )
    .unwrap()
}

/// The flow in its JSON form, as a client prints it.
fn json(flow: &Flow) -> serde_json::Value {
    let pool = DescriptorPool::decode(weir_proto::FILE_DESCRIPTOR_SET).unwrap();
    let descriptor = pool.get_message_by_name("flow.Flow").unwrap();
    let message = DynamicMessage::decode(descriptor, flow.encode_to_vec().as_slice()).unwrap();
    let options = prost_reflect::SerializeOptions::new().use_proto_field_name(true);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .unwrap()
}

fn named() -> FlowRecord {
    let mut event = event(("10.0.0.1", 40_000), ("10.96.0.9", 80));
    event.ifindex = 7;
    let mut record = record(event);
    record.interface = Some("eth0".into());
    record.source = Arc::new(EndpointInfo {
        identity: IdentityId(4711),
        namespace: "shop".into(),
        pod_name: "web-1".into(),
        labels: vec!["k8s:app=web".into()],
        workload: Some(crate::state::Workload {
            kind: "Deployment".into(),
            name: "web".into(),
        }),
        cluster_name: "default",
    });
    record.destination_service = Some(Arc::new(ObjectName::new("shop", "db")));
    record
}

#[test]
fn a_whole_flow() {
    assert_eq!(
        json(&flow(&named(), &Mask::All)),
        serde_json::json!({
            "time": "2023-11-14T22:13:20.123456789Z",
            "uuid": "00000000-0000-0000-0000-000000001234",
            "verdict": "FORWARDED",
            "IP": {"source": "10.0.0.1", "destination": "10.96.0.9", "ipVersion": "IPv4"},
            "l4": {"TCP": {"source_port": 40000, "destination_port": 80, "flags": {"SYN": true}}},
            "source": {
                "identity": 4711,
                "namespace": "shop",
                "labels": ["k8s:app=web"],
                "pod_name": "web-1",
                "workloads": [{"name": "web", "kind": "Deployment"}],
                "cluster_name": "default",
            },
            "destination": {},
            "Type": "L3_L4",
            "node_name": "node-1",
            "node_labels": ["zone=a"],
            "event_type": {"type": 4, "sub_type": 5},
            "destination_service": {"name": "db", "namespace": "shop"},
            "traffic_direction": "EGRESS",
            "trace_observation_point": "FROM_ENDPOINT",
            "trace_reason": "NEW",
            "is_reply": false,
            "interface": {"index": 7, "name": "eth0"},
            "emitter": {"name": "Weir", "version": env!("CARGO_PKG_VERSION")},
            "Summary": "TCP Flags: SYN",
        })
    );
}

#[test]
fn a_drop_says_why_and_has_no_direction_in_its_connection() {
    let mut record = named();
    record.event.kind = EventKind::DROP;
    record.event.drop_reason = DropReason::NoBackend as u8;
    let json = json(&flow(&record, &Mask::All));
    assert_eq!(json["verdict"], "DROPPED");
    assert_eq!(json["drop_reason"], 158);
    assert_eq!(json["drop_reason_desc"], "SERVICE_BACKEND_NOT_FOUND");
    assert_eq!(
        json["event_type"],
        serde_json::json!({"type": 1, "sub_type": 158})
    );
    for absent in ["is_reply", "trace_observation_point", "trace_reason"] {
        assert_eq!(json.get(absent), None, "{absent}");
    }
}

#[test]
fn every_drop_reason_of_the_data_path_has_a_name_in_the_flow_api() {
    use weir_proto::flow::DropReason as Named;
    for reason in DropReason::ALL {
        assert!(Named::try_from(reason as i32).is_ok(), "{reason:?}");
    }
}

#[test]
fn a_socket_is_translated() {
    let mut record = named();
    record.event.kind = EventKind::SOCKET;
    record.event.point = ObservationPoint::SOCKET;
    record.event.socket_cookie = 99;
    record.event.cgroup_id = 12;
    let json = json(&flow(&record, &Mask::All));
    assert_eq!(json["Type"], "SOCK");
    assert_eq!(json["verdict"], "TRANSLATED");
    assert_eq!(
        json["sock_xlate_point"],
        "SOCK_XLATE_POINT_POST_DIRECTION_FWD"
    );
    assert_eq!(
        json["event_type"],
        serde_json::json!({"type": 7, "sub_type": 2})
    );
    assert_eq!(
        (&json["socket_cookie"], &json["cgroup_id"]),
        (&"99".into(), &"12".into())
    );
    assert_eq!(json["l4"]["TCP"].get("flags"), None);
    assert_eq!(json.get("is_reply"), None);
}

#[test]
fn points_and_reasons_are_numbered_as_the_flow_api_wants() {
    let cases = [
        (0, 0, ReplyState::ORIGINAL, "TO_ENDPOINT", "NEW"),
        (10, 1, ReplyState::ORIGINAL, "FROM_NETWORK", "ESTABLISHED"),
        (11, 1, ReplyState::REPLY, "TO_NETWORK", "REPLY"),
        (2, 0, ReplyState::REPLY, "TO_HOST", "REPLY"),
    ];
    for (point, reason, reply, expected_point, expected_reason) in cases {
        let base = event(("fd00::1", 1), ("fd00::2", 2));
        let (point, reason) = (ObservationPoint(point), ReportReason(reason));
        let json = json(&flow(
            &record(FlowEvent {
                point,
                reason,
                reply,
                ..base
            }),
            &Mask::All,
        ));
        assert_eq!(json["trace_observation_point"], expected_point);
        assert_eq!(json["trace_reason"], expected_reason);
        assert_eq!(json["is_reply"], reply == ReplyState::REPLY);
        assert_eq!(json["IP"]["ipVersion"], "IPv6");
    }
}

#[test]
fn only_wanted_fields_are_filled() {
    let mask = mask(&[
        "IP.source",
        "source.pod_name",
        "l4.TCP.flags.SYN",
        "interface.name",
    ]);
    assert_eq!(
        json(&flow(&named(), &mask)),
        serde_json::json!({
            "IP": {"source": "10.0.0.1"},
            "l4": {"TCP": {"flags": {"SYN": true}}},
            "source": {"pod_name": "web-1"},
            "traffic_direction": "EGRESS",
            "interface": {"name": "eth0"},
        })
    );
    let udp = FlowEvent {
        protocol: Protocol::UDP,
        ..event(("10.0.0.1", 1), ("10.0.0.2", 2))
    };
    assert_eq!(flow(&record(udp), &mask).l4, None);
}

#[test]
fn the_answer_repeats_node_and_time_of_the_masked_flow() {
    let entry = Entry::Flow(named());
    let whole = response(&entry, "other", &Mask::All);
    assert_eq!(
        (whole.node_name.as_str(), whole.time.is_some()),
        ("node-1", true)
    );
    let masked = response(&entry, "other", &mask(&["IP"]));
    assert_eq!((masked.node_name.as_str(), masked.time), ("", None));
}

#[test]
fn losses_name_their_place() {
    let cases = [
        (LostSource::Kernel, LostEventSource::PerfEventRingBuffer),
        (LostSource::Decoder, LostEventSource::UnknownLostEventSource),
        (LostSource::Store, LostEventSource::HubbleRingBuffer),
    ];
    for (source, expected) in cases {
        let lost = LostRecord {
            source,
            count: 7,
            first_ns: 1,
            last_ns: 1_000_000_002,
        };
        let response = response(&Entry::Lost(lost), "node-1", &Mask::All);
        let Some(ResponseTypes::LostEvents(event)) = response.response_types else {
            panic!()
        };
        assert_eq!((event.source(), event.num_events_lost), (expected, 7));
        assert_eq!(
            response.time,
            Some(Timestamp {
                seconds: 1,
                nanos: 2
            })
        );
        assert_eq!(response.node_name, "node-1");
    }
}

#[test]
fn times_survive_the_way_there_and_back() {
    for ns in [0, 1, 999_999_999, 1_000_000_000, 1_700_000_000_123_456_789] {
        assert_eq!(unix_ns(&timestamp(ns)), ns);
    }
    assert_eq!(
        unix_ns(&Timestamp {
            seconds: -5,
            nanos: 0
        }),
        0
    );
}
