//! Port numbers and protocols.

use super::Findings;
use crate::state::L4Protocol;

/// Ports that an object may have: each is compared with all others, and multiplied by what it is
/// served at.
pub(super) const PORTS_MAX: usize = 1_024;

/// What is said of more.
pub(super) fn too_many(ports: usize) -> String {
    format!("has {ports} entries, more than {PORTS_MAX}")
}

/// A port number from 1 to 65535.
pub(super) fn number(findings: &mut Findings, field: &str, port: i32) -> Option<u16> {
    let number = u16::try_from(port).ok().filter(|port| *port > 0);
    if number.is_none() {
        findings.error(
            field,
            format!("{port} is no port number: it must be from 1 to 65535"),
        );
    }
    number
}

/// What a protocol means to the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Balanced.
    Balanced(L4Protocol),
    /// Valid, and left alone.
    NotBalanced,
}

/// A protocol; TCP when absent. `None` if it is none of Kubernetes's.
pub(super) fn protocol(
    findings: &mut Findings,
    field: &str,
    protocol: Option<&str>,
) -> Option<Protocol> {
    match protocol {
        None | Some("TCP") => Some(Protocol::Balanced(L4Protocol::Tcp)),
        Some("UDP") => Some(Protocol::Balanced(L4Protocol::Udp)),
        Some("SCTP") => {
            findings.not_honoured(field, "SCTP is not balanced, and this port is left out");
            Some(Protocol::NotBalanced)
        }
        Some(other) => {
            findings.error(
                field,
                format!("{other:?} is no protocol: write TCP, UDP or SCTP"),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_numbers_have_sixteen_bits_and_are_not_zero() {
        for (port, good) in [
            (1, true),
            (65_535, true),
            (0, false),
            (-1, false),
            (65_536, false),
            (i32::MIN, false),
        ] {
            let mut findings = Findings::default();
            assert_eq!(
                number(&mut findings, "port", port).is_some(),
                good,
                "{port}"
            );
            assert_eq!(findings.is_empty(), good, "{port}");
        }
    }

    #[test]
    fn protocols_are_those_of_kubernetes() {
        let tcp = Some(Protocol::Balanced(L4Protocol::Tcp));
        let udp = Some(Protocol::Balanced(L4Protocol::Udp));
        for (text, expected, findings_expected) in [
            (None, tcp, 0),
            (Some("TCP"), tcp, 0),
            (Some("UDP"), udp, 0),
            (Some("SCTP"), Some(Protocol::NotBalanced), 1),
            (Some("tcp"), None, 1),
            (Some(""), None, 1),
        ] {
            let mut findings = Findings::default();
            assert_eq!(
                protocol(&mut findings, "protocol", text),
                expected,
                "{text:?}"
            );
            assert_eq!(findings.len(), findings_expected, "{text:?}");
        }
    }
}
