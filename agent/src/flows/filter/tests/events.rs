//! Filters by kinds of events, and by what no event has.

use super::*;

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
