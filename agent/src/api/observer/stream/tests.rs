use super::*;
use crate::flows::convert::timestamp;
use crate::flows::record::tests::{event, record};
use ebpf_abi::Protocol;
use futures::StreamExt as _;
use std::num::NonZeroUsize;
use weir_proto::flow::FlowFilter;
use weir_proto::flow::layer4::Protocol as L4;
use weir_proto::observer::get_flows_response::ResponseTypes;

fn hub(capacity: usize) -> Arc<FlowHub> {
    Arc::new(FlowHub::new(NonZeroUsize::new(capacity).unwrap()))
}

/// Publishes flow `n` with source port `n`, seen at second `n`; UDP if odd.
fn publish(hub: &FlowHub, n: u16) {
    let mut event = event(("10.0.0.1", n), ("10.0.0.2", 80));
    if n % 2 == 1 {
        event.protocol = Protocol::UDP;
    }
    let mut record = record(event);
    record.time_ns = u64::from(n) * 1_000_000_000;
    hub.publish(&mut vec![Arc::new(Entry::Flow(record))]);
}

/// A store with flows 1 to 10.
fn ten() -> Arc<FlowHub> {
    let hub = hub(100);
    (1..=10).for_each(|n| publish(&hub, n));
    hub
}

/// Source port of a flow, or minus the number of lost events.
fn number(answer: Result<GetFlowsResponse, Status>) -> i64 {
    match answer.unwrap().response_types.unwrap() {
        ResponseTypes::Flow(flow) => match flow.l4.unwrap().protocol.unwrap() {
            L4::Tcp(tcp) => tcp.source_port.into(),
            L4::Udp(udp) => udp.source_port.into(),
            other => panic!("{other:?}"),
        },
        ResponseTypes::LostEvents(lost) => -i64::try_from(lost.num_events_lost).unwrap(),
        ResponseTypes::NodeStatus(_) => panic!("not from a node"),
    }
}

fn open(hub: &Arc<FlowHub>, request: &GetFlowsRequest) -> Result<FlowStream, Status> {
    FlowStream::open(hub, "node-1", request, CancellationToken::new())
}

async fn all(hub: &Arc<FlowHub>, request: &GetFlowsRequest) -> Vec<i64> {
    open(hub, request)
        .unwrap()
        .into_stream()
        .map(number)
        .collect()
        .await
}

#[expect(clippy::unnecessary_wraps, reason = "what a request's field takes")]
fn at(seconds: u64) -> Option<prost_types::Timestamp> {
    Some(timestamp(seconds * 1_000_000_000))
}

fn udp() -> Vec<FlowFilter> {
    vec![FlowFilter {
        protocol: vec!["udp".into()],
        ..FlowFilter::default()
    }]
}

#[tokio::test]
async fn start_and_end_are_where_the_request_says() {
    type R = GetFlowsRequest;
    let cases: Vec<(&str, R, Vec<i64>)> = vec![
        ("everything", R::default(), (1..=10).collect()),
        (
            "last",
            R {
                number: 3,
                ..R::default()
            },
            vec![8, 9, 10],
        ),
        (
            "more than there are",
            R {
                number: u64::MAX,
                ..R::default()
            },
            (1..=10).collect(),
        ),
        (
            "first",
            R {
                number: 3,
                first: true,
                ..R::default()
            },
            vec![1, 2, 3],
        ),
        (
            "first without number",
            R {
                first: true,
                ..R::default()
            },
            (1..=10).collect(),
        ),
        (
            "since",
            R {
                since: at(8),
                ..R::default()
            },
            vec![8, 9, 10],
        ),
        (
            "since and number",
            R {
                since: at(4),
                number: 2,
                ..R::default()
            },
            vec![4, 5],
        ),
        (
            "until",
            R {
                until: at(3),
                ..R::default()
            },
            vec![1, 2, 3],
        ),
        (
            "range",
            R {
                since: at(3),
                until: at(5),
                ..R::default()
            },
            vec![3, 4, 5],
        ),
        (
            "last before until",
            R {
                number: 3,
                until: at(9),
                ..R::default()
            },
            vec![8, 9],
        ),
        (
            "last that match",
            R {
                number: 2,
                whitelist: udp(),
                ..R::default()
            },
            vec![7, 9],
        ),
        (
            "first that match",
            R {
                number: 2,
                first: true,
                whitelist: udp(),
                ..R::default()
            },
            vec![1, 3],
        ),
        (
            "not matching",
            R {
                number: 2,
                blacklist: udp(),
                ..R::default()
            },
            vec![8, 10],
        ),
        (
            "since, matching",
            R {
                since: at(4),
                number: 2,
                whitelist: udp(),
                ..R::default()
            },
            vec![5, 7],
        ),
        (
            "empty range",
            R {
                since: at(5),
                until: at(3),
                ..R::default()
            },
            vec![],
        ),
    ];
    let hub = ten();
    for (name, request, expected) in cases {
        assert_eq!(all(&hub, &request).await, expected, "{name}");
    }
}

#[tokio::test]
async fn following_starts_where_asked_and_never_stops_on_a_number() {
    type R = GetFlowsRequest;
    let cases = [
        ("new ones", R::default(), vec![11, 12, 13]),
        (
            "last and new ones",
            R {
                number: 2,
                ..R::default()
            },
            vec![9, 10, 11, 12, 13],
        ),
        (
            "since",
            R {
                since: at(10),
                ..R::default()
            },
            vec![10, 11, 12, 13],
        ),
    ];
    for (name, request, expected) in cases {
        let hub = ten();
        let request = R {
            follow: true,
            ..request
        };
        let mut stream = Box::pin(open(&hub, &request).unwrap().into_stream());
        let mut seen = Vec::new();
        let writer = async {
            for n in 11..=13 {
                tokio::task::yield_now().await;
                publish(&hub, n);
            }
        };
        let reader = async {
            while seen.len() < expected.len() {
                seen.push(number(stream.next().await.unwrap()));
            }
        };
        let both = async { tokio::join!(writer, reader) };
        tokio::time::timeout(Duration::from_secs(10), both)
            .await
            .expect(name);
        assert_eq!(seen, expected, "{name}");
        assert!(futures::poll!(stream.next()).is_pending(), "{name}");
    }
}

#[tokio::test]
async fn following_ends_at_until_and_at_shutdown() {
    let hub = ten();
    let request = GetFlowsRequest {
        follow: true,
        until: at(11),
        ..GetFlowsRequest::default()
    };
    let mut stream = Box::pin(open(&hub, &request).unwrap().into_stream());
    publish(&hub, 11);
    publish(&hub, 12);
    assert_eq!(number(stream.next().await.unwrap()), 11);
    assert!(stream.next().await.is_none());

    let stop = CancellationToken::new();
    let request = GetFlowsRequest {
        follow: true,
        ..GetFlowsRequest::default()
    };
    let stream = FlowStream::open(&hub, "node-1", &request, stop.clone()).unwrap();
    let mut stream = Box::pin(stream.into_stream());
    assert!(futures::poll!(stream.next()).is_pending());
    stop.cancel();
    let status = stream.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn losses_pass_filters_times_and_numbers() {
    let hub = ten();
    let lost = LostRecord {
        source: LostSource::Kernel,
        count: 5,
        first_ns: 0,
        last_ns: 0,
    };
    hub.publish(&mut vec![Arc::new(Entry::Lost(lost))]);
    publish(&hub, 11);
    let request = GetFlowsRequest {
        number: 2,
        since: at(9),
        whitelist: udp(),
        ..GetFlowsRequest::default()
    };
    assert_eq!(all(&hub, &request).await, [9, -5, 11]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_overtaken_is_told_at_most_once_a_second() {
    let hub = hub(4);
    let request = GetFlowsRequest {
        follow: true,
        ..GetFlowsRequest::default()
    };
    let mut stream = Box::pin(open(&hub, &request).unwrap().into_stream());
    (1..=6).for_each(|n| publish(&hub, n));
    let mut take = async |count: usize| {
        let mut seen = Vec::new();
        for _ in 0..count {
            seen.push(number(stream.next().await.unwrap()));
        }
        seen
    };
    assert_eq!(take(5).await, [-2, 3, 4, 5, 6]);
    (7..=20).for_each(|n| publish(&hub, n));
    assert_eq!(take(4).await, [17, 18, 19, 20]);
    let before = Instant::now();
    assert_eq!(take(1).await, [-10]);
    assert!(
        before.elapsed() >= Duration::from_millis(900),
        "{:?}",
        before.elapsed()
    );
}

#[tokio::test]
async fn a_call_ends_where_the_store_ended_when_it_came() {
    let hub = ten();
    let mut stream = Box::pin(
        open(&hub, &GetFlowsRequest::default())
            .unwrap()
            .into_stream(),
    );
    publish(&hub, 11);
    let mut seen = Vec::new();
    while let Some(answer) = stream.next().await {
        seen.push(number(answer));
        publish(&hub, 12);
    }
    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let bad_filter = FlowFilter {
        source_port: vec!["x".into()],
        ..FlowFilter::default()
    };
    let bad_mask = FieldMask {
        paths: vec!["nope".into()],
    };
    let cases = [
        (
            GetFlowsRequest {
                first: true,
                follow: true,
                ..GetFlowsRequest::default()
            },
            tonic::Code::InvalidArgument,
            "first cannot be combined with follow",
        ),
        (
            GetFlowsRequest {
                whitelist: vec![bad_filter],
                ..GetFlowsRequest::default()
            },
            tonic::Code::Unknown,
            "invalid filter: source_port: \"x\" is not a port from 0 to 65535",
        ),
        (
            GetFlowsRequest {
                field_mask: Some(bad_mask),
                ..GetFlowsRequest::default()
            },
            tonic::Code::Unknown,
            "invalid fieldmask: \"nope\" is not a field of flow.Flow",
        ),
    ];
    for (request, code, message) in cases {
        let Err(status) = open(&hub(1), &request) else {
            panic!("{message}")
        };
        assert_eq!((status.code(), status.message()), (code, message));
    }
}
