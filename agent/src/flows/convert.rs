//! Compact records -> protobuf, for a reader that asked for them and with the fields it wants.

mod summary;

use std::sync::Arc;

use ebpf_abi::event::EventKind;
use ebpf_abi::{Family, Protocol, tcp};
use prost_types::Timestamp;
use weir_proto::flow::{
    CiliumEventType, Emitter, Endpoint, Flow, FlowType, IcmPv4, IcmPv6, Igmp, Ip, IpVersion,
    Layer4, LostEvent, LostEventSource, NetworkInterface, Sctp, Service, SocketTranslationPoint,
    Tcp, TcpFlags, TraceObservationPoint, TraceReason, Udp, Vrrp, Workload, layer4,
};
use weir_proto::observer::GetFlowsResponse;
use weir_proto::observer::get_flows_response::ResponseTypes;

use super::mask::Mask;
use super::record::{EndpointInfo, Entry, FlowRecord, LostRecord, LostSource, Side, protocol};
use crate::state::ObjectName;

/// Name of the program that makes the records.
const EMITTER: &str = "Weir";

/// A point in time as protobuf has it.
pub fn timestamp(unix_ns: u64) -> Timestamp {
    const SECOND_NS: u64 = 1_000_000_000;
    Timestamp {
        seconds: (unix_ns / SECOND_NS).cast_signed(),
        nanos: (unix_ns % SECOND_NS) as i32,
    }
}

/// Nanoseconds since the Unix epoch; what lies before it counts as zero.
pub fn unix_ns(timestamp: &Timestamp) -> u64 {
    let seconds = u64::try_from(timestamp.seconds).unwrap_or(0);
    let nanos = u64::try_from(timestamp.nanos).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// The answer that carries an entry of the store.
pub fn response(entry: &Entry, node_name: &str, mask: &Mask) -> GetFlowsResponse {
    match entry {
        Entry::Flow(record) => {
            let flow = flow(record, mask);
            GetFlowsResponse {
                node_name: flow.node_name.clone(),
                time: flow.time,
                response_types: Some(ResponseTypes::Flow(flow)),
            }
        }
        Entry::Lost(lost) => lost_response(lost, node_name),
    }
}

/// The answer that carries a notice of a loss.
pub fn lost_response(lost: &LostRecord, node_name: &str) -> GetFlowsResponse {
    let source = match lost.source {
        LostSource::Kernel => LostEventSource::PerfEventRingBuffer,
        LostSource::Decoder => LostEventSource::UnknownLostEventSource,
        LostSource::Store => LostEventSource::HubbleRingBuffer,
    };
    let event = LostEvent {
        source: source.into(),
        num_events_lost: lost.count,
        cpu: None,
        first: Some(timestamp(lost.first_ns)),
        last: Some(timestamp(lost.last_ns)),
    };
    GetFlowsResponse {
        node_name: node_name.to_owned(),
        time: Some(timestamp(lost.last_ns)),
        response_types: Some(ResponseTypes::LostEvents(event)),
    }
}

/// A record as the flow API has it, reduced to the wanted fields.
#[expect(deprecated, reason = "clients still read the old forms of some fields")]
pub fn flow(record: &FlowRecord, mask: &Mask) -> Flow {
    let event = &record.event;
    let (class, sub_type) = record.event_type();
    let reason = if record.is_drop() {
        i32::from(event.drop_reason)
    } else {
        0
    };
    let is_trace = event.kind == EventKind::TRACE;
    Flow {
        time: mask.pick("time", || Some(timestamp(record.time_ns))),
        uuid: mask.pick("uuid", || record.uuid.to_string()),
        verdict: mask.pick("verdict", || record.verdict().into()),
        drop_reason: mask.pick("drop_reason", || reason.cast_unsigned()),
        drop_reason_desc: mask.pick("drop_reason_desc", || reason),
        ip: mask.message("IP", |mask| Some(ip(record, mask))),
        l4: mask.message("l4", |mask| l4(record, mask)),
        source: mask.message("source", |mask| Some(endpoint(&record.source, mask))),
        destination: mask.message("destination", |mask| {
            Some(endpoint(&record.destination, mask))
        }),
        r#type: mask.pick("Type", || {
            if record.is_socket() {
                FlowType::Sock
            } else {
                FlowType::L3L4
            }
            .into()
        }),
        node_name: mask.pick("node_name", || record.node.name.clone()),
        node_labels: mask.pick("node_labels", || record.node.labels.clone()),
        reply: mask.pick("reply", || record.is_reply().unwrap_or(false)),
        is_reply: mask.pick("is_reply", || record.is_reply()),
        event_type: mask.message("event_type", |mask| {
            let r#type = mask.pick("type", || class);
            Some(CiliumEventType {
                r#type,
                sub_type: mask.pick("sub_type", || sub_type),
            })
        }),
        source_service: mask.message("source_service", |mask| {
            service(record.source_service.as_ref(), mask)
        }),
        destination_service: mask.message("destination_service", |mask| {
            service(record.destination_service.as_ref(), mask)
        }),
        traffic_direction: mask.pick("traffic_direction", || record.traffic_direction().into()),
        trace_observation_point: mask.pick("trace_observation_point", || {
            if is_trace {
                observation_point(event.point.0)
            } else {
                0
            }
        }),
        trace_reason: mask.pick("trace_reason", || {
            if is_trace { trace_reason(record) } else { 0 }
        }),
        interface: mask.message("interface", |mask| interface(record, mask)),
        sock_xlate_point: mask.pick("sock_xlate_point", || {
            let post = SocketTranslationPoint::SockXlatePointPostDirectionFwd;
            if record.is_socket() { post.into() } else { 0 }
        }),
        socket_cookie: mask.pick("socket_cookie", || event.socket_cookie),
        cgroup_id: mask.pick("cgroup_id", || event.cgroup_id),
        emitter: mask.message("emitter", |mask| {
            Some(Emitter {
                name: mask.pick("name", || EMITTER.to_owned()),
                version: mask.pick("version", || env!("CARGO_PKG_VERSION").to_owned()),
            })
        }),
        summary: mask.pick("Summary", || summary::of(record)),
        ..Flow::default()
    }
}

fn ip(record: &FlowRecord, mask: &Mask) -> Ip {
    let version = match record.family() {
        Family::V4 => IpVersion::IPv4,
        Family::V6 => IpVersion::IPv6,
    };
    Ip {
        source: mask.pick("source", || record.address(Side::Source).to_string()),
        destination: mask.pick("destination", || {
            record.address(Side::Destination).to_string()
        }),
        ip_version: mask.pick("ipVersion", || version.into()),
        encrypted: mask.pick("encrypted", || record.is_encrypted()),
        source_xlated: mask.pick("source_xlated", || {
            record
                .source_xlated()
                .map(|address| address.to_string())
                .unwrap_or_default()
        }),
    }
}

/// The transport header; `None` for protocols that the flow API has no message for.
fn l4(record: &FlowRecord, mask: &Mask) -> Option<Layer4> {
    let event = &record.event;
    let port = |side| record.port(side).unwrap_or_default().into();
    let source_port = |mask: &Mask| mask.pick("source_port", || port(Side::Source));
    let destination_port = |mask: &Mask| mask.pick("destination_port", || port(Side::Destination));
    // ICMP has its type and code where others have ports.
    let (kind, code) = (
        event.source_port.get().into(),
        event.destination_port.get().into(),
    );
    let protocol = match event.protocol {
        Protocol::TCP => mask.message("TCP", |mask| {
            Some(layer4::Protocol::Tcp(Tcp {
                source_port: source_port(mask),
                destination_port: destination_port(mask),
                flags: mask.message("flags", |mask| {
                    record.tcp_flags().map(|f| tcp_flags(f, mask))
                }),
            }))
        }),
        Protocol::UDP => mask.message("UDP", |mask| {
            let (source_port, destination_port) = (source_port(mask), destination_port(mask));
            Some(layer4::Protocol::Udp(Udp {
                source_port,
                destination_port,
            }))
        }),
        protocol::SCTP => mask.message("SCTP", |mask| {
            let (source_port, destination_port) = (source_port(mask), destination_port(mask));
            Some(layer4::Protocol::Sctp(Sctp {
                source_port,
                destination_port,
            }))
        }),
        Protocol::ICMP => mask.message("ICMPv4", |mask| {
            let r#type = mask.pick("type", || kind);
            Some(layer4::Protocol::IcmPv4(IcmPv4 {
                r#type,
                code: mask.pick("code", || code),
            }))
        }),
        Protocol::ICMPV6 => mask.message("ICMPv6", |mask| {
            let r#type = mask.pick("type", || kind);
            Some(layer4::Protocol::IcmPv6(IcmPv6 {
                r#type,
                code: mask.pick("code", || code),
            }))
        }),
        protocol::VRRP => mask.message("VRRP", |_| Some(layer4::Protocol::Vrrp(Vrrp::default()))),
        protocol::IGMP => mask.message("IGMP", |_| Some(layer4::Protocol::Igmp(Igmp::default()))),
        _ => None,
    };
    protocol.map(|protocol| Layer4 {
        protocol: Some(protocol),
    })
}

fn tcp_flags(flags: u8, mask: &Mask) -> TcpFlags {
    let set = |name, bit| mask.pick(name, || flags & bit != 0);
    TcpFlags {
        fin: set("FIN", tcp::FIN),
        syn: set("SYN", tcp::SYN),
        rst: set("RST", tcp::RST),
        psh: set("PSH", tcp::PSH),
        ack: set("ACK", tcp::ACK),
        urg: set("URG", tcp::URG),
        ece: set("ECE", tcp::ECE),
        cwr: set("CWR", tcp::CWR),
        ns: false,
    }
}

fn endpoint(info: &EndpointInfo, mask: &Mask) -> Endpoint {
    Endpoint {
        id: 0,
        identity: mask.pick("identity", || info.identity.0),
        namespace: mask.pick("namespace", || info.namespace.to_string()),
        labels: mask.pick("labels", || info.labels.clone()),
        pod_name: mask.pick("pod_name", || info.pod_name.clone()),
        workloads: mask.pick("workloads", || {
            let workload = info.workload.iter().cloned();
            workload
                .map(|owner| Workload {
                    name: owner.name,
                    kind: owner.kind,
                })
                .collect()
        }),
        cluster_name: mask.pick("cluster_name", || info.cluster_name.to_owned()),
    }
}

fn service(name: Option<&Arc<ObjectName>>, mask: &Mask) -> Option<Service> {
    name.map(|service| Service {
        name: mask.pick("name", || service.name.to_string()),
        namespace: mask.pick("namespace", || service.namespace.to_string()),
    })
}

fn interface(record: &FlowRecord, mask: &Mask) -> Option<NetworkInterface> {
    let index = record.event.ifindex;
    (index != 0).then(|| NetworkInterface {
        index: mask.pick("index", || index),
        name: mask.pick("name", || {
            record.interface.as_deref().unwrap_or_default().to_owned()
        }),
    })
}

/// The data path's zero is to-endpoint, protobuf's zero is unknown.
fn observation_point(number: u8) -> i32 {
    match number {
        0 => TraceObservationPoint::ToEndpoint.into(),
        other => other.into(),
    }
}

/// Numbers of the data path start at zero with "new"; there the direction is not part of them.
fn trace_reason(record: &FlowRecord) -> i32 {
    match (record.is_reply(), record.event.reason.0) {
        (Some(true), _) => TraceReason::Reply.into(),
        (_, number @ 0..=4) => i32::from(number) + 1,
        (_, 5) => TraceReason::Unknown.into(),
        (_, number) => number.into(),
    }
}

#[cfg(test)]
mod tests;
