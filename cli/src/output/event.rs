//! The words for a flow that all text forms share.

use super::drop_text;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use weir_proto::flow::{
    CiliumEventType, Endpoint, Flow, L7FlowType, LostEvent, Service, SocketTranslationPoint,
    Verdict, layer4, layer7,
};

/// Classes of events, numbered as in `CiliumEventType.type`.
mod class {
    pub const DROP: i32 = 1;
    pub const CAPTURE: i32 = 3;
    pub const TRACE: i32 = 4;
    pub const POLICY_VERDICT: i32 = 5;
    pub const TRACE_SOCK: i32 = 7;
}

/// Names of `CiliumEventType.sub_type` of trace events.
pub(crate) const TRACE_POINTS: [&str; 14] = [
    "to-endpoint",
    "to-proxy",
    "to-host",
    "to-stack",
    "to-overlay",
    "from-endpoint",
    "from-proxy",
    "from-host",
    "from-stack",
    "from-overlay",
    "from-network",
    "to-network",
    "from-crypto",
    "to-crypto",
];

/// Names of the reserved identities, by number.
pub(crate) const IDENTITIES: [&str; 11] = [
    "unknown",
    "host",
    "world",
    "unmanaged",
    "health",
    "init",
    "remote-node",
    "kube-apiserver",
    "ingress",
    "world-ipv4",
    "world-ipv6",
];

/// A point in time in UTC, to the millisecond.
pub(crate) fn time(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
    time.map_or_else(
        || "N/A".into(),
        |time| {
            time.to_zoned(TimeZone::UTC)
                .strftime("%b %e %H:%M:%S%.3f")
                .to_string()
        },
    )
}

/// One end of a flow, as text and number.
pub(crate) struct Host {
    /// Name, or address if there is no name.
    pub name: String,
    /// Port, zero if there is none.
    pub port: u32,
}

/// Source and destination.
pub(crate) fn hosts(flow: &Flow, numeric: bool) -> (Host, Host) {
    let (source_port, destination_port) = ports(flow);
    let Some(ip) = &flow.ip else {
        let ethernet = flow.ethernet.clone().unwrap_or_default();
        let host = |name| Host { name, port: 0 };
        return (host(ethernet.source), host(ethernet.destination));
    };
    let host = |address: &str, port, endpoint, service, names| {
        let name = if numeric {
            None
        } else {
            name(endpoint, service, names)
        };
        let bracketed = || {
            if port > 0 && address.contains(':') {
                format!("[{address}]")
            } else {
                address.into()
            }
        };
        Host {
            name: name.unwrap_or_else(bracketed),
            port,
        }
    };
    let source = host(
        &ip.source,
        source_port,
        flow.source.as_ref(),
        flow.source_service.as_ref(),
        &flow.source_names,
    );
    let destination = host(
        &ip.destination,
        destination_port,
        flow.destination.as_ref(),
        flow.destination_service.as_ref(),
        &flow.destination_names,
    );
    (source, destination)
}

/// Pod, else service, else DNS names. A service's namespace stands for the pod's as well.
fn name(
    endpoint: Option<&Endpoint>,
    service: Option<&Service>,
    names: &[String],
) -> Option<String> {
    let pod = endpoint.map(|endpoint| (endpoint.namespace.as_str(), endpoint.pod_name.as_str()));
    let (mut namespace, mut name) = pod.unwrap_or_default();
    if let Some(service) = service {
        namespace = &service.namespace;
        if name.is_empty() {
            name = &service.name;
        }
    }
    match (namespace, name) {
        (_, "") if names.is_empty() => None,
        (_, "") => Some(names.join(",")),
        ("", name) => Some(name.to_owned()),
        (namespace, name) => Some(format!("{namespace}/{name}")),
    }
}

fn ports(flow: &Flow) -> (u32, u32) {
    match flow.l4.as_ref().and_then(|l4| l4.protocol.as_ref()) {
        Some(layer4::Protocol::Tcp(tcp)) => (tcp.source_port, tcp.destination_port),
        Some(layer4::Protocol::Udp(udp)) => (udp.source_port, udp.destination_port),
        Some(layer4::Protocol::Sctp(sctp)) => (sctp.source_port, sctp.destination_port),
        _ => (0, 0),
    }
}

/// `(world)` or `(ID:4711)`.
pub(crate) fn identity(endpoint: Option<&Endpoint>) -> String {
    let identity = endpoint.map_or(0, |endpoint| endpoint.identity);
    match IDENTITIES.get(identity as usize) {
        Some(name) => format!("({name})"),
        None => format!("(ID:{identity})"),
    }
}

/// Where the flow was seen, or why it was dropped.
pub(crate) fn kind(flow: &Flow) -> String {
    if let Some(l7) = &flow.l7 {
        return l7_kind(l7.r#type(), l7.record.as_ref());
    }
    let Some(CiliumEventType { r#type, sub_type }) = flow.event_type else {
        return "UNKNOWN".into();
    };
    match r#type {
        class::TRACE => usize::try_from(sub_type)
            .ok()
            .and_then(|index| TRACE_POINTS.get(index))
            .map_or_else(|| sub_type.to_string(), |name| (*name).to_owned()),
        class::DROP => drop_text::of(sub_type),
        class::POLICY_VERDICT => {
            format!(
                "policy-verdict:{} {}",
                match_type(flow.policy_match_type),
                direction(flow)
            )
        }
        class::CAPTURE => flow.debug_capture_point().as_str_name().to_owned(),
        class::TRACE_SOCK => socket_point(flow.sock_xlate_point()),
        _ => "UNKNOWN".into(),
    }
}

#[expect(deprecated, reason = "servers may still send Kafka records")]
fn l7_kind(kind: L7FlowType, record: Option<&layer7::Record>) -> String {
    let kind = match kind {
        L7FlowType::Request => "request",
        L7FlowType::Response => "response",
        L7FlowType::Sample => return "l7-sample".into(),
        L7FlowType::UnknownL7Type => return "UNKNOWN".into(),
    };
    match record {
        Some(layer7::Record::Dns(dns)) => format!("dns-{kind} {}", dns.observation_source),
        Some(layer7::Record::Http(_)) => format!("http-{kind}"),
        Some(layer7::Record::Kafka(_)) => format!("kafka-{kind}"),
        None => "UNKNOWN".into(),
    }
}

fn match_type(number: u32) -> String {
    const NAMES: [&str; 7] = [
        "none",
        "L3-Only",
        "L3-L4",
        "L4-Only",
        "all",
        "L3-Proto",
        "Proto-Only",
    ];
    NAMES
        .get(number as usize)
        .map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

fn direction(flow: &Flow) -> &'static str {
    flow.traffic_direction().as_str_name()
}

fn socket_point(point: SocketTranslationPoint) -> String {
    match point {
        SocketTranslationPoint::SockXlatePointPreDirectionFwd => "pre-xlate-fwd",
        SocketTranslationPoint::SockXlatePointPostDirectionFwd => "post-xlate-fwd",
        SocketTranslationPoint::SockXlatePointPreDirectionRev => "pre-xlate-rev",
        SocketTranslationPoint::SockXlatePointPostDirectionRev => "post-xlate-rev",
        SocketTranslationPoint::SockXlatePointUnknown => "SOCK_XLATE_POINT_UNKNOWN",
    }
    .to_owned()
}

/// The verdict; a policy's is in words of its own.
pub(crate) fn verdict(flow: &Flow) -> &'static str {
    let verdict = flow.verdict();
    if flow
        .event_type
        .is_some_and(|event| event.r#type == class::POLICY_VERDICT)
    {
        match verdict {
            Verdict::Forwarded | Verdict::Redirected => return "ALLOWED",
            Verdict::Dropped | Verdict::Error => return "DENIED",
            Verdict::Audit => return "AUDITED",
            _ => {}
        }
    }
    verdict.as_str_name()
}

/// The last column.
#[expect(
    deprecated,
    reason = "the summary is deprecated and what everybody reads"
)]
pub(crate) fn summary(flow: &Flow) -> String {
    let trace = flow.ip_trace_id.map_or(0, |id| id.trace_id);
    let trace = if trace > 0 {
        format!("IP Trace ID: {trace}; ")
    } else {
        String::new()
    };
    let auth = match flow.auth_type {
        0 => String::new(),
        _ => format!("; Auth: {}", flow.auth_type().as_str_name()),
    };
    format!("{trace}{}{auth}", flow.summary)
}

/// A notice of a loss, without its time.
pub(crate) fn lost(event: &LostEvent) -> String {
    let span = match (&event.first, &event.last) {
        (Some(first), Some(last)) => {
            format!(
                " (first: {}, last: {})",
                time(Some(first)),
                time(Some(last))
            )
        }
        _ => String::new(),
    };
    let source = event.source().as_str_name();
    format!(
        "EVENTS LOST: {source} CPU({}) {}{span}",
        event.cpu.unwrap_or(0),
        event.num_events_lost
    )
}
