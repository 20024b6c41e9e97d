use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::tcp;

mod refused;
mod segment_size;

const TCP: u8 = Protocol::TCP.0;
const UDP: u8 = Protocol::UDP.0;

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

fn segment(protocol: u8) -> Vec<u8> {
    match protocol {
        TCP => {
            let mut header = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, tcp::SYN];
            header.extend([0xff; 6]);
            header
        }
        UDP => vec![0x9c, 0x40, 0, 53, 0, 8, 0, 0],
        _ => vec![8, 3, 0, 0, 0, 1, 0, 1],
    }
}

fn ipv4(protocol: u8, options: usize, payload: usize) -> Vec<u8> {
    let mut segment = segment(protocol);
    segment.extend(vec![0x5a; payload]);
    let header_len = 20 + options;
    let mut packet = vec![0x40 | (header_len / 4) as u8, 0];
    packet.extend(((header_len + segment.len()) as u16).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 63, protocol, 0, 0]);
    packet.extend([203, 0, 113, 7, 198, 51, 100, 10]);
    packet.extend(vec![1; options]);
    packet.extend(segment);
    ethernet(0x0800, &packet)
}

/// `extensions` are types and lengths in bytes.
fn ipv6(protocol: u8, extensions: &[(u8, usize)], payload: usize) -> Vec<u8> {
    let mut rest = Vec::new();
    let mut kinds = extensions.iter().map(|(kind, _)| *kind).chain([protocol]);
    let first = kinds.next().unwrap();
    for (_, len) in extensions {
        let mut header = vec![0; *len];
        header[0] = kinds.next().unwrap();
        header[1] = (len / 8 - 1) as u8;
        rest.extend(header);
    }
    rest.extend(segment(protocol));
    rest.extend(vec![0x5a; payload]);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((rest.len() as u16).to_be_bytes());
    packet.extend([first, 62]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    packet.extend([0x20, 1, 0xd, 0xb8, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10]);
    packet.extend(rest);
    ethernet(0x86dd, &packet)
}

/// Parses a copy that ends where its allocation ends, so that Miri and sanitizers see each read
/// beyond it.
fn parse_exactly(bytes: &[u8]) -> Result<Parsed, Unbalanced> {
    let exact: std::boxed::Box<[u8]> = bytes.into();
    parse(&Frame::from_bytes(&exact))
}

fn parsed4(bytes: &[u8]) -> Packet<Addr4> {
    match parse_exactly(bytes) {
        Ok(Parsed::V4(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

fn parsed6(bytes: &[u8]) -> Packet<Addr6> {
    match parse_exactly(bytes) {
        Ok(Parsed::V6(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

/// One frame of each kind that parses.
fn good_frames() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("TCP", ipv4(TCP, 0, 10)),
        ("UDP", ipv4(UDP, 0, 10)),
        ("ICMP", ipv4(Protocol::ICMP.0, 0, 10)),
        ("TCP behind options", ipv4(TCP, 40, 10)),
        ("TCP over IPv6", ipv6(TCP, &[], 10)),
        ("UDP over IPv6", ipv6(UDP, &[], 10)),
        ("ICMPv6", ipv6(Protocol::ICMPV6.0, &[], 10)),
        (
            "UDP behind extension headers",
            ipv6(UDP, &[(0, 8), (43, 24), (60, 16)], 10),
        ),
    ]
}

#[test]
fn fields_are_read_where_they_stand() {
    let packet = parsed4(&ipv4(TCP, 8, 10));
    let tuple = packet.tuple;
    assert_eq!(tuple.source, Addr4(u32::from_ne_bytes([203, 0, 113, 7])));
    assert_eq!(
        tuple.destination,
        Addr4(u32::from_ne_bytes([198, 51, 100, 10]))
    );
    assert_eq!(
        (tuple.source_port.get(), tuple.destination_port.get()),
        (40_000, 80)
    );
    assert_eq!((tuple.protocol, tuple._pad), (Protocol::TCP, [0; 3]));
    assert_eq!((packet.len_bytes, packet.transport_offset), (58, 42));
    assert_eq!((packet.tcp_flags, packet.ttl), (tcp::SYN, 63));

    let packet = parsed6(&ipv6(UDP, &[(0, 8)], 10));
    let tuple = packet.tuple;
    assert_eq!(
        (tuple.source_port.get(), tuple.destination_port.get()),
        (40_000, 53)
    );
    assert_eq!(tuple.protocol, Protocol::UDP);
    assert_eq!((packet.len_bytes, packet.transport_offset), (66, 62));
    assert_eq!((packet.tcp_flags, packet.ttl), (0, 62));
}

#[test]
fn icmp_carries_type_and_code_for_ports() {
    let tuple = parsed4(&ipv4(Protocol::ICMP.0, 0, 0)).tuple;
    assert_eq!(
        (tuple.source_port.get(), tuple.destination_port.get()),
        (8, 3)
    );
}

#[test]
fn a_frame_cut_anywhere_is_malformed() {
    for (name, frame) in good_frames() {
        assert!(parse_exactly(&frame).is_ok(), "{name}");
        for len in 0..frame.len() {
            let result = parse_exactly(&frame[..len]);
            assert_eq!(
                result,
                Err(Unbalanced::Malformed),
                "{name} cut to {len} bytes"
            );
        }
    }
}

#[test]
fn padding_behind_a_packet_is_no_part_of_it() {
    for (name, frame) in good_frames() {
        let mut padded = frame.clone();
        padded.extend([0; 32]);
        assert_eq!(parse_exactly(&padded), parse_exactly(&frame), "{name}");
    }
}

/// Of a buffer whose headers alone are at hand, nothing more has to be fetched; of one with less, as
/// much as any headers need.
#[test]
fn headers_are_as_long_as_they_say() {
    let needed = |bytes: &[u8]| {
        let frame: Frame<'_> = Frame::from_bytes(bytes);
        headers_len(&frame, Be16(0))
    };
    let mut with_options = ipv4(TCP, 4, 40);
    with_options[14 + 24 + 12] = 0xa0;
    let rows: [(&str, Vec<u8>, usize); 8] = [
        ("IP in IP", ipv4(4, 0, 10), 14 + 20),
        ("TCP", ipv4(TCP, 0, 10), 14 + 20 + 20),
        (
            "TCP and IPv4, both with options",
            with_options,
            14 + 24 + 40,
        ),
        ("UDP", ipv4(UDP, 0, 10), 14 + 20 + 8),
        ("ICMP", ipv4(Protocol::ICMP.0, 0, 10), 14 + 20 + 4),
        ("TCP over IPv6", ipv6(TCP, &[], 10), 14 + 40 + 20),
        ("ICMPv6", ipv6(Protocol::ICMPV6.0, &[], 10), 14 + 40 + 4),
        ("extension headers", ipv6(UDP, &[(0, 8)], 10), HEADERS_MAX),
    ];
    for (name, frame, expected) in rows {
        let headers = &frame[..expected.min(frame.len())];
        assert_eq!(needed(headers), expected, "{name}");
        for len in 0..headers.len() {
            let needed = needed(&headers[..len]);
            assert!(needed > len, "{name} cut to {len} bytes: {needed}");
        }
    }
    let arp = ethernet(0x0806, &[0; 28]);
    assert_eq!(needed(&arp), HEADERS_MAX);
    let bare: Frame<'_, 0> = Frame::from_bytes(&arp[14..]);
    assert_eq!(headers_len(&bare, ethertype::IPV4), HEADERS_MAX);
}

/// A frame with a few bytes changed.
fn patched(mut frame: Vec<u8>, patches: &[(usize, u8)]) -> Vec<u8> {
    for (offset, byte) in patches {
        frame[*offset] = *byte;
    }
    frame
}

#[test]
fn the_network_header_is_found_behind_tags() {
    let tagged = |kinds: &[u16]| {
        let mut frame = ethernet(0x0800, &[]);
        for kind in kinds {
            let at = frame.len() - 2;
            frame.splice(at..at, [kind.to_be_bytes(), [0, 42]].concat());
        }
        frame
    };
    let rows: [(&[u16], _); 5] = [
        (&[], Some((ethertype::IPV4, 14))),
        (&[0x8100], Some((ethertype::IPV4, 18))),
        (&[0x88a8], Some((ethertype::IPV4, 18))),
        (&[0x88a8, 0x8100], Some((ethertype::IPV4, 22))),
        (&[0x88a8, 0x8100, 0x8100], Some((ethertype::VLAN, 22))),
    ];
    for (kinds, expected) in rows {
        let frame = tagged(kinds);
        assert_eq!(
            network_header(&Frame::from_bytes(&frame)),
            expected,
            "{kinds:x?}"
        );
    }
    let frame = tagged(&[0x88a8, 0x8100]);
    for len in 0..frame.len() {
        assert_eq!(
            network_header(&Frame::from_bytes(&frame[..len])),
            None,
            "{len}"
        );
    }
}

/// What holds of every packet that parsed: the programs write where it says without asking again.
fn assert_within(frame: &[u8]) {
    let (offset, len_bytes, tuple_len) = match parse_exactly(frame) {
        Ok(Parsed::V4(packet)) => (packet.transport_offset, packet.len_bytes, 34),
        Ok(Parsed::V6(packet)) => (packet.transport_offset, packet.len_bytes, 54),
        Err(_) => return,
    };
    let (offset, len) = (usize::from(offset), ETHERNET_LEN + len_bytes as usize);
    assert!(
        offset >= tuple_len && offset + 4 <= len && len <= frame.len(),
        "{frame:?}"
    );
    assert!(offset <= TRANSPORT_OFFSET_MAX, "{offset}");
}

proptest! {
    #[test]
    fn any_bytes_parse_or_are_left_alone(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_within(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_plausible_start_do_too(
        kind in prop::sample::select(vec![0x0800_u16, 0x86dd, 0x8100, 0x0806]),
        version in prop::sample::select(vec![0x45_u8, 0x46, 0x4f, 0x60]),
        mut bytes in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        bytes[0] = version;
        assert_within(&ethernet(kind, &bytes));
    }

    #[test]
    fn a_good_frame_with_some_bytes_changed_does_too(
        which in 0..8_usize,
        patches in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let (_, mut frame) = good_frames().swap_remove(which);
        for (at, byte) in patches {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        assert_within(&frame);
        assert_within(&frame[..cut.index(frame.len())]);
    }
}
