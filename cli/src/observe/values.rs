//! Values of filters that stand for numbers or structures.

use weir_proto::flow::{
    DropReason, EventTypeFilter, IpVersion, NetworkInterface, TcpFlags, TrafficDirection, Verdict,
    Workload,
};

use crate::output::event::{IDENTITIES, TRACE_POINTS};

/// Names of `CiliumEventType.type` that flows have.
const EVENT_TYPES: [(&str, i32); 6] = [
    ("drop", 1),
    ("capture", 3),
    ("trace", 4),
    ("policy-verdict", 5),
    ("trace-sock", 7),
    ("l7", 129),
];

/// Text that only the agent can judge.
#[expect(clippy::unnecessary_wraps, reason = "parsers of values have one form")]
pub(super) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// A name that must be there, because an empty one would match anything.
pub(super) fn name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("a name is missing".into())
    } else {
        Ok(text.to_owned())
    }
}

/// Number of an identity: the reserved ones' names, or a number.
pub(super) fn identity(text: &str) -> Result<u32, String> {
    let name = text.to_ascii_lowercase();
    if let Some(index) = IDENTITIES.iter().position(|known| *known == name) {
        return Ok(index as u32);
    }
    let number = match name.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => name.parse().ok(),
    };
    number.ok_or_else(|| {
        format!(
            "{text:?} is not an identity: use a number or one of {}",
            IDENTITIES.join(", ")
        )
    })
}

pub(super) fn verdict(text: &str) -> Result<i32, String> {
    let names = "FORWARDED, DROPPED, ERROR, AUDIT, REDIRECTED, TRACED, TRANSLATED";
    Verdict::from_str_name(&text.to_ascii_uppercase())
        .map(Into::into)
        .ok_or_else(|| format!("{text:?} is not a verdict: use one of {names}"))
}

pub(super) fn drop_reason(text: &str) -> Result<i32, String> {
    DropReason::from_str_name(&text.to_ascii_uppercase())
        .map(Into::into)
        .ok_or_else(|| {
            format!("{text:?} is not the name of a drop reason, such as SERVICE_BACKEND_NOT_FOUND")
        })
}

pub(super) fn direction(text: &str) -> Result<i32, String> {
    match text.to_ascii_lowercase().as_str() {
        "ingress" => Ok(TrafficDirection::Ingress.into()),
        "egress" => Ok(TrafficDirection::Egress.into()),
        _ => Err(format!(
            "{text:?} is not a direction: use ingress or egress"
        )),
    }
}

pub(super) fn ip_version(text: &str) -> Result<i32, String> {
    match text.to_ascii_lowercase().as_str() {
        "4" | "v4" | "ipv4" => Ok(IpVersion::IPv4.into()),
        "6" | "v6" | "ipv6" => Ok(IpVersion::IPv6.into()),
        _ => Err(format!("{text:?} is not an IP version: use 4 or 6")),
    }
}

/// `TYPE[:SUBTYPE]`, each a name or a number.
pub(super) fn event_type(text: &str) -> Result<EventTypeFilter, String> {
    let (name, sub_name) = match text.split_once(':') {
        Some((name, sub_name)) => (name, Some(sub_name)),
        None => (text, None),
    };
    let known = EVENT_TYPES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number);
    let r#type = known.or_else(|| name.parse().ok()).ok_or_else(|| {
        let names = EVENT_TYPES.map(|(name, _)| name).join(", ");
        format!("{name:?} is not an event type: use a number or one of {names}")
    })?;
    let Some(sub_name) = sub_name else {
        return Ok(EventTypeFilter {
            r#type,
            ..EventTypeFilter::default()
        });
    };
    let is_trace = r#type == 4;
    let point = TRACE_POINTS
        .iter()
        .position(|known| is_trace && *known == sub_name);
    let sub_type = point
        .and_then(|index| i32::try_from(index).ok())
        .or_else(|| sub_name.parse().ok());
    let sub_type = sub_type.ok_or_else(|| {
        format!(
            "{sub_name:?} is not a subtype: use a number, or behind trace: one of {}",
            TRACE_POINTS.join(", ")
        )
    })?;
    Ok(EventTypeFilter {
        r#type,
        match_sub_type: true,
        sub_type,
    })
}

/// Flags that must all be set: `syn,ack`.
pub(super) fn tcp_flags(text: &str) -> Result<TcpFlags, String> {
    let mut flags = TcpFlags::default();
    for name in text.split(',') {
        let flag = match name.trim().to_ascii_lowercase().as_str() {
            "fin" => &mut flags.fin,
            "syn" => &mut flags.syn,
            "rst" => &mut flags.rst,
            "psh" => &mut flags.psh,
            "ack" => &mut flags.ack,
            "urg" => &mut flags.urg,
            "ece" => &mut flags.ece,
            "cwr" => &mut flags.cwr,
            "ns" => &mut flags.ns,
            _ => {
                return Err(format!(
                    "{name:?} is not a TCP flag: use fin, syn, rst, psh, ack, urg, ece, cwr or ns"
                ));
            }
        };
        *flag = true;
    }
    Ok(flags)
}

/// `[KIND/]NAME`.
pub(super) fn workload(text: &str) -> Result<Workload, String> {
    let (kind, name) = text.split_once('/').unwrap_or(("", text));
    if kind.is_empty() && name.is_empty() {
        return Err("a workload is missing: use [KIND/]NAME".into());
    }
    Ok(Workload {
        name: name.to_owned(),
        kind: kind.to_owned(),
    })
}

pub(super) fn interface(text: &str) -> Result<NetworkInterface, String> {
    Ok(NetworkInterface {
        name: name(text)?,
        index: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(identity("world"), Ok(2));
        assert_eq!(identity("Remote-Node"), Ok(6));
        assert_eq!(identity("4711"), Ok(4711));
        assert_eq!(identity("0x10"), Ok(16));
        assert_eq!(verdict("dropped"), Ok(2));
        assert_eq!(drop_reason("service_backend_not_found"), Ok(158));
        assert_eq!(direction("Egress"), Ok(2));
        assert_eq!(ip_version("ipv6"), Ok(2));
        assert_eq!(workload("Deployment/web").unwrap().kind, "Deployment");
        assert_eq!(
            workload("web"),
            Ok(Workload {
                name: "web".into(),
                kind: String::new()
            })
        );
        let flags = tcp_flags("SYN, ack").unwrap();
        assert_eq!(
            flags,
            TcpFlags {
                syn: true,
                ack: true,
                ..TcpFlags::default()
            }
        );
    }

    #[test]
    fn event_types() {
        let filter = |r#type, sub_type: Option<i32>| {
            let (match_sub_type, sub_type) = (sub_type.is_some(), sub_type.unwrap_or(0));
            Ok(EventTypeFilter {
                r#type,
                match_sub_type,
                sub_type,
            })
        };
        let cases = [
            ("drop", filter(1, None)),
            ("trace:to-endpoint", filter(4, Some(0))),
            ("trace:11", filter(4, Some(11))),
            ("l7", filter(129, None)),
            ("1:158", filter(1, Some(158))),
            ("0", filter(0, None)),
        ];
        for (text, expected) in cases {
            assert_eq!(event_type(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        assert!(identity("mars").is_err());
        assert!(verdict("LOST").is_err());
        assert!(drop_reason("BECAUSE").is_err());
        assert!(direction("up").is_err());
        assert!(ip_version("5").is_err());
        assert!(tcp_flags("syn,fun").is_err());
        assert!(workload("").is_err() && interface("").is_err() && name("").is_err());
        for text in ["flow", "drop:no-backend", "trace:nowhere", ""] {
            assert!(event_type(text).is_err(), "{text}");
        }
    }
}
