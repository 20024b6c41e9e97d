//! Which packets are parsed and balanced, and what is said of the others.

use super::*;

#[test]
fn what_cannot_be_balanced_is_named() {
    use Unbalanced::{ExtensionHeader, Fragment, Malformed, NotIp, OtherTransport, Vlan};
    const HOP: (u8, usize) = (0, 8);
    let tcp4 = || ipv4(TCP, 0, 4);
    let tcp6 = || ipv6(TCP, &[], 4);
    let cases = [
        ("ARP", ethernet(0x0806, &[0; 28]), NotIp),
        ("802.1Q tag", ethernet(0x8100, &tcp4()[10..]), Vlan),
        ("802.1ad tag", ethernet(0x88a8, &tcp4()[10..]), Vlan),
        (
            "version 5 in IPv4",
            patched(tcp4(), &[(14, 0x55)]),
            Malformed,
        ),
        (
            "version 6 in IPv4",
            patched(tcp4(), &[(14, 0x65)]),
            Malformed,
        ),
        (
            "version 4 in IPv6",
            patched(tcp6(), &[(14, 0x40)]),
            Malformed,
        ),
        (
            "header of 4 words",
            patched(tcp4(), &[(14, 0x44)]),
            Malformed,
        ),
        (
            "header without length",
            patched(tcp4(), &[(14, 0x40)]),
            Malformed,
        ),
        (
            "header beyond the frame",
            patched(tcp4(), &[(14, 0x4f)]),
            Malformed,
        ),
        (
            "total length zero",
            patched(tcp4(), &[(16, 0), (17, 0)]),
            Malformed,
        ),
        (
            "total length of the header",
            patched(tcp4(), &[(17, 20)]),
            Malformed,
        ),
        (
            "total length inside TCP",
            patched(tcp4(), &[(17, 39)]),
            Malformed,
        ),
        (
            "total length too large by one",
            patched(tcp4(), &[(17, 45)]),
            Malformed,
        ),
        (
            "total length far too large",
            patched(tcp4(), &[(16, 0xff)]),
            Malformed,
        ),
        (
            "payload length inside TCP",
            patched(tcp6(), &[(19, 19)]),
            Malformed,
        ),
        (
            "payload length too large by one",
            patched(tcp6(), &[(19, 25)]),
            Malformed,
        ),
        (
            "payload length zero",
            patched(tcp6(), &[(19, 0)]),
            Malformed,
        ),
        (
            "TCP header of 4 words",
            patched(tcp4(), &[(46, 0x40)]),
            Malformed,
        ),
        (
            "TCP header without length",
            patched(tcp6(), &[(66, 0)]),
            Malformed,
        ),
        ("first fragment", patched(tcp4(), &[(20, 0x20)]), Fragment),
        (
            "middle fragment",
            patched(tcp4(), &[(20, 0x20), (21, 9)]),
            Fragment,
        ),
        (
            "last fragment",
            patched(tcp4(), &[(20, 0x1f), (21, 0xff)]),
            Fragment,
        ),
        ("IPv6 fragment", ipv6(TCP, &[(44, 8)], 4), Fragment),
        (
            "fragment behind another header",
            ipv6(TCP, &[HOP, (44, 8)], 4),
            Fragment,
        ),
        ("SCTP", ipv4(132, 0, 4), OtherTransport),
        ("SCTP over IPv6", ipv6(132, &[], 4), OtherTransport),
        (
            "SCTP behind an extension header",
            ipv6(132, &[HOP], 4),
            OtherTransport,
        ),
        ("no next header", ipv6(59, &[], 4), OtherTransport),
        ("ESP", ipv6(50, &[], 4), OtherTransport),
        (
            "authentication header",
            ipv6(TCP, &[(51, 24)], 4),
            ExtensionHeader,
        ),
        (
            "five extension headers",
            ipv6(TCP, &[HOP; 5], 4),
            ExtensionHeader,
        ),
        (
            "transport beyond reach",
            ipv6(TCP, &[(60, 2000)], 4),
            ExtensionHeader,
        ),
        ("ICMPv6 inside IPv4", ipv4(58, 0, 4), OtherTransport),
        ("ICMP inside IPv6", ipv6(1, &[], 4), OtherTransport),
    ];
    for (name, frame, expected) in cases {
        assert_eq!(parse_exactly(&frame), Err(expected), "{name}");
    }
}

#[test]
fn what_is_odd_but_right_is_parsed() {
    let cases = [
        ("do not fragment", patched(ipv4(TCP, 0, 4), &[(20, 0x40)])),
        ("reserved flag", patched(ipv4(TCP, 0, 4), &[(20, 0x80)])),
        ("the most options", ipv4(UDP, 40, 0)),
        (
            "four extension headers",
            ipv6(TCP, &[(0, 8), (60, 8), (43, 24), (60, 8)], 4),
        ),
        ("transport just in reach", ipv6(TCP, &[(60, 1992)], 4)),
        ("UDP without payload", ipv4(UDP, 0, 0)),
    ];
    for (name, frame) in cases {
        assert!(parse_exactly(&frame).is_ok(), "{name}");
    }
}

#[test]
fn only_tcp_and_udp_with_both_ports_are_balanced() {
    let port_at = |frame: Vec<u8>, offset| patched(frame, &[(offset, 0), (offset + 1, 0)]);
    assert!(parsed4(&ipv4(TCP, 0, 0)).is_balanceable());
    assert!(parsed6(&ipv6(UDP, &[], 0)).is_balanceable());
    assert!(!parsed4(&ipv4(Protocol::ICMP.0, 0, 0)).is_balanceable());
    assert!(!parsed6(&ipv6(Protocol::ICMPV6.0, &[], 0)).is_balanceable());
    assert!(!parsed4(&port_at(ipv4(TCP, 0, 0), 34)).is_balanceable());
    assert!(!parsed4(&port_at(ipv4(TCP, 0, 0), 36)).is_balanceable());
    assert!(!parsed6(&port_at(ipv6(UDP, &[], 0), 54)).is_balanceable());
}
