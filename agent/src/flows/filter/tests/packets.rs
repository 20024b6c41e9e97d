//! Filters by addresses and by what the transport says.

use super::*;

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
