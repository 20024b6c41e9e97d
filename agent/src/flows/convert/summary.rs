//! The one line of text about a flow that clients show.

use ebpf_abi::{Protocol, tcp};

use crate::flows::record::{FlowRecord, protocol};

/// TCP flags in the order in which they are listed.
const FLAGS: [(u8, &str); 8] = [
    (tcp::SYN, "SYN"),
    (tcp::ACK, "ACK"),
    (tcp::RST, "RST"),
    (tcp::FIN, "FIN"),
    (tcp::PSH, "PSH"),
    (tcp::URG, "URG"),
    (tcp::ECE, "ECE"),
    (tcp::CWR, "CWR"),
];

/// The summary of a record.
pub(super) fn of(record: &FlowRecord) -> String {
    let event = &record.event;
    // ICMP has its type and code where others have ports.
    let (kind, code) = (event.source_port.get(), event.destination_port.get());
    match event.protocol {
        Protocol::TCP => match record.tcp_flags() {
            Some(flags) => format!("TCP Flags: {}", flag_names(flags)),
            None => "TCP".into(),
        },
        Protocol::UDP => "UDP".into(),
        protocol::SCTP => "SCTP".into(),
        protocol::VRRP => "VRRP".into(),
        protocol::IGMP => "IGMP".into(),
        Protocol::ICMP => format!("ICMPv4 {}", icmp4(kind, code)),
        Protocol::ICMPV6 => format!("ICMPv6 {}", icmp6(kind, code)),
        Protocol(number) => format!("IP protocol {number}"),
    }
}

fn flag_names(flags: u8) -> String {
    let names = FLAGS
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, name)| *name);
    names.collect::<Vec<_>>().join(", ")
}

/// Names of types and codes of RFC 792 and its successors.
fn icmp4(kind: u16, code: u16) -> String {
    let (name, codes): (&str, &[&str]) = match kind {
        0 => ("EchoReply", &[]),
        3 => (
            "DestinationUnreachable",
            &[
                "Net",
                "Host",
                "Protocol",
                "Port",
                "FragmentationNeeded",
                "SourceRoutingFailed",
                "NetUnknown",
                "HostUnknown",
                "SourceIsolated",
                "NetAdminProhibited",
                "HostAdminProhibited",
                "NetTOS",
                "HostTOS",
                "CommAdminProhibited",
                "HostPrecedence",
                "PrecedenceCutoff",
            ],
        ),
        4 => ("SourceQuench", &[]),
        5 => ("Redirect", &["Net", "Host", "TOS+Net", "TOS+Host"]),
        8 => ("EchoRequest", &[]),
        9 => ("RouterAdvertisement", &[]),
        10 => ("RouterSolicitation", &[]),
        11 => (
            "TimeExceeded",
            &["TTLExceeded", "FragmentReassemblyTimeExceeded"],
        ),
        12 => (
            "ParameterProblem",
            &["PointerIndicatesError", "MissingOption", "BadLength"],
        ),
        13 => ("TimestampRequest", &[]),
        14 => ("TimestampReply", &[]),
        _ => return format!("{kind}({code})"),
    };
    named(name, codes, code)
}

/// Names of types and codes of RFC 4443 and RFC 4861.
fn icmp6(kind: u16, code: u16) -> String {
    let (name, codes): (&str, &[&str]) = match kind {
        1 => (
            "DestinationUnreachable",
            &[
                "NoRouteToDst",
                "AdminProhibited",
                "BeyondScopeOfSrc",
                "AddressUnreachable",
                "PortUnreachable",
                "SrcAddressFailedPolicy",
                "RejectRouteToDst",
            ],
        ),
        2 => ("PacketTooBig", &[]),
        3 => (
            "TimeExceeded",
            &["HopLimitExceeded", "FragmentReassemblyTimeExceeded"],
        ),
        4 => (
            "ParameterProblem",
            &[
                "ErroneousHeader",
                "UnrecognizedNextHeader",
                "UnrecognizedIPv6Option",
            ],
        ),
        128 => ("EchoRequest", &[]),
        129 => ("EchoReply", &[]),
        133 => ("RouterSolicitation", &[]),
        134 => ("RouterAdvertisement", &[]),
        135 => ("NeighborSolicitation", &[]),
        136 => ("NeighborAdvertisement", &[]),
        137 => ("Redirect", &[]),
        _ => return format!("{kind}({code})"),
    };
    named(name, codes, code)
}

/// `Type(Code)`; types without named codes show a code only if it is not the usual zero.
fn named(name: &str, codes: &[&str], code: u16) -> String {
    match codes.get(usize::from(code)) {
        Some(code) => format!("{name}({code})"),
        None if codes.is_empty() && code == 0 => name.to_owned(),
        None => format!("{name}({code})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::record::tests::{event, record};
    use ebpf_abi::FlowEvent;
    use ebpf_abi::event::EventKind;

    #[test]
    fn summaries() {
        let six = FLAGS.iter().fold(0, |all, (bit, _)| all | bit);
        let cases = [
            (
                Protocol::TCP,
                1,
                2,
                tcp::SYN | tcp::ACK,
                "TCP Flags: SYN, ACK",
            ),
            (
                Protocol::TCP,
                1,
                2,
                six,
                "TCP Flags: SYN, ACK, RST, FIN, PSH, URG, ECE, CWR",
            ),
            (Protocol::UDP, 1, 2, 0, "UDP"),
            (protocol::SCTP, 1, 2, 0, "SCTP"),
            (Protocol::ICMP, 8, 0, 0, "ICMPv4 EchoRequest"),
            (
                Protocol::ICMP,
                3,
                3,
                0,
                "ICMPv4 DestinationUnreachable(Port)",
            ),
            (
                Protocol::ICMP,
                3,
                99,
                0,
                "ICMPv4 DestinationUnreachable(99)",
            ),
            (Protocol::ICMP, 8, 1, 0, "ICMPv4 EchoRequest(1)"),
            (Protocol::ICMP, 77, 5, 0, "ICMPv4 77(5)"),
            (Protocol::ICMPV6, 129, 0, 0, "ICMPv6 EchoReply"),
            (
                Protocol::ICMPV6,
                1,
                4,
                0,
                "ICMPv6 DestinationUnreachable(PortUnreachable)",
            ),
            (Protocol(47), 0, 0, 0, "IP protocol 47"),
        ];
        for (protocol, source, destination, tcp_flags, expected) in cases {
            let base = event(("10.0.0.1", source), ("10.0.0.2", destination));
            let record = record(FlowEvent {
                protocol,
                tcp_flags,
                ..base
            });
            assert_eq!(of(&record), expected);
        }
        let base = event(("10.0.0.1", 0), ("10.0.0.2", 80));
        assert_eq!(
            of(&record(FlowEvent {
                kind: EventKind::SOCKET,
                ..base
            })),
            "TCP"
        );
    }
}
