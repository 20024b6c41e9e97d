//! Frames that are cut, odd or broken: none may be changed, none may be dropped, none may crash.

use ebpf_abi::Counter;
use ebpf_abi::tcp::SYN;

use crate::network::{Addresses, at, families, ipv4, ipv6};
use crate::node::{Hook, Need, Node, Verdict, on_node};
use crate::packet::{
    DESTINATION_OPTIONS, ETHERNET, HOP_BY_HOP, Packet, ROUTING, Transport, extension,
    fragment_header, source_port,
};
use crate::turned::{OPENERS, answered_as, delivered};

const SERVICE: u32 = 7;
const LOCAL_SERVICE: u32 = 8;

/// A frontend with a backend elsewhere and another with one here.
fn two_services(node: &mut Node, of: &Addresses) {
    node.service(SERVICE, of.vip, of.remote, false);
    node.service(LOCAL_SERVICE, of.vip2, of.local, true);
}

/// Asserts that every hook passes these bytes as they are and counts them so.
fn left_alone(node: &mut Node, name: &str, frame: &[u8], counter: Option<Counter>) {
    node.counted();
    for hook in Hook::ALL {
        let outcome = node.run_bytes(hook, frame);
        assert!(
            outcome.verdict == Verdict::Pass && outcome.frame == frame,
            "{name} at {hook:?}: {outcome}"
        );
    }
    // Only the hooks on the way in count: on the way out there is nothing to leave alone.
    let ways_in = [Hook::Xdp, Hook::UplinkIn, Hook::PodFrom].len() as u64;
    let expected: Vec<_> = counter
        .map(|counter| (counter, ways_in))
        .into_iter()
        .collect();
    node.expect_counted(&expected);
    assert_eq!(node.entries(), 0, "{name}");
}

#[test]
fn a_frame_cut_anywhere_passes_as_it_is() {
    on_node(|node| {
        for of in families() {
            two_services(node, &of);
            let mut packets: Vec<Packet> = OPENERS
                .map(|transport| Packet::of(of.client, of.vip, transport))
                .into();
            packets.push(Packet::icmp(of.client.ip(), of.vip.ip(), 8));
            if of.vip.is_ipv4() {
                packets.push(packets[0].with(|packet| packet.options = vec![1; 12]));
            } else {
                let headers = [(HOP_BY_HOP, 8), (ROUTING, 24), (DESTINATION_OPTIONS, 16)]
                    .map(|(kind, len)| extension(kind, len));
                packets.push(packets[1].with(|packet| packet.extensions = headers.into()));
            }
            for packet in packets {
                let frame = packet.bytes();
                let network_header = if of.vip.is_ipv4() { 20 } else { 40 };
                for len in ETHERNET..frame.len() {
                    for hook in Hook::ALL {
                        // The kernel itself refuses frames without an Ethernet header, and some
                        // refuse buffers without a network header. The parser's own tests go down
                        // to zero.
                        if hook != Hook::Xdp && len < ETHERNET + network_header {
                            continue;
                        }
                        let outcome = node.run_bytes(hook, &frame[..len]);
                        assert!(
                            outcome.verdict == Verdict::Pass && outcome.frame == frame[..len],
                            "{packet:?} cut to {len} bytes at {hook:?}: {outcome}"
                        );
                    }
                }
            }
        }
        assert_eq!(node.entries(), 0);
        assert_eq!(node.events().len(), 0);
    });
}

/// Offsets and the bytes to be written there.
type Patches = &'static [(usize, u8)];

#[test]
fn headers_that_contradict_themselves_are_left_alone() {
    on_node(|node| {
        let (v4, v6) = (ipv4(), ipv6());
        two_services(node, &v4);
        two_services(node, &v6);
        let tcp4 = Packet::tcp(v4.client, v4.vip, SYN).bytes();
        let tcp6 = Packet::tcp(v6.client, v6.vip, SYN).bytes();
        // Lengths that the cases below exceed by one.
        assert_eq!((tcp4[17], tcp6[19]), (0x43, 0x2f));
        let cases: [(&str, &[u8], Patches); 14] = [
            ("version 5", &tcp4, &[(14, 0x55)]),
            ("version 6 in IPv4", &tcp4, &[(14, 0x65)]),
            ("version 0 in IPv6", &tcp6, &[(14, 0x00)]),
            ("version 4 in IPv6", &tcp6, &[(14, 0x45)]),
            ("header of 4 words", &tcp4, &[(14, 0x44)]),
            ("header without length", &tcp4, &[(14, 0x40)]),
            ("total length zero", &tcp4, &[(16, 0), (17, 0)]),
            ("total length of the header alone", &tcp4, &[(17, 20)]),
            ("total length too large by one", &tcp4, &[(17, 0x44)]),
            (
                "total length as large as can be",
                &tcp4,
                &[(16, 0xff), (17, 0xff)],
            ),
            ("payload length zero", &tcp6, &[(18, 0), (19, 0)]),
            ("payload length too large by one", &tcp6, &[(19, 0x30)]),
            ("TCP header of 4 words", &tcp4, &[(46, 0x40)]),
            ("TCP header without length", &tcp6, &[(66, 0)]),
        ];
        for (name, frame, patches) in cases {
            let mut frame = frame.to_vec();
            for (offset, byte) in patches {
                frame[*offset] = *byte;
            }
            left_alone(node, name, &frame, Some(Counter::Malformed));
        }
        // The longest header there is, in a frame that ends before it does.
        let mut frame = tcp4[..70].to_vec();
        (frame[14], frame[17]) = (0x4f, 56);
        left_alone(
            node,
            "header beyond the frame",
            &frame,
            Some(Counter::Malformed),
        );
    });
}

#[test]
fn what_only_the_stack_can_handle_is_left_to_it() {
    use Counter::{PassedExtensionHeader, PassedFragment, PassedVlan};
    on_node(|node| {
        let (v4, v6) = (ipv4(), ipv6());
        two_services(node, &v4);
        two_services(node, &v6);
        let udp4 = Packet::udp(v4.client, v4.vip);
        let udp6 = Packet::udp(v6.client, v6.vip);
        let fragment4 = |field| udp4.with(|packet| packet.fragment = field);
        let extended = |headers: &[(u8, usize)]| {
            udp6.with(|packet| {
                packet.extensions = headers
                    .iter()
                    .map(|(kind, len)| extension(*kind, *len))
                    .collect();
            })
        };
        let fragment6 = |offset, more| {
            udp6.with(|packet| packet.extensions = vec![fragment_header(offset, more)])
        };
        let hidden_fragment = extended(&[(HOP_BY_HOP, 8)])
            .with(|packet| packet.extensions.push(fragment_header(0, true)));
        let tagged = |packet: &Packet, tags: &[u16]| {
            packet.with(|packet| packet.tags = tags.iter().map(|tag| (*tag, 42)).collect())
        };
        let cases = [
            ("first fragment", fragment4(0x2000), PassedFragment),
            ("middle fragment", fragment4(0x2003), PassedFragment),
            ("last fragment", fragment4(0x0003), PassedFragment),
            ("furthest fragment", fragment4(0x1fff), PassedFragment),
            ("first IPv6 fragment", fragment6(0, true), PassedFragment),
            ("middle IPv6 fragment", fragment6(2, true), PassedFragment),
            ("last IPv6 fragment", fragment6(2, false), PassedFragment),
            ("atomic IPv6 fragment", fragment6(0, false), PassedFragment),
            ("fragment behind options", hidden_fragment, PassedFragment),
            (
                "five headers",
                extended(&[(HOP_BY_HOP, 8); 5]),
                PassedExtensionHeader,
            ),
            (
                "authentication",
                extended(&[(51, 24)]),
                PassedExtensionHeader,
            ),
            (
                "UDP out of reach",
                extended(&[(DESTINATION_OPTIONS, 2000)]),
                PassedExtensionHeader,
            ),
            ("802.1Q", tagged(&udp4, &[0x8100]), PassedVlan),
            ("802.1Q over IPv6", tagged(&udp6, &[0x8100]), PassedVlan),
            ("802.1ad", tagged(&udp4, &[0x88a8]), PassedVlan),
            ("two tags", tagged(&udp4, &[0x88a8, 0x8100]), PassedVlan),
        ];
        for (name, packet, counter) in cases {
            left_alone(node, name, &packet.bytes(), Some(counter));
        }
    });
}

#[test]
fn frames_that_are_none_of_ours_are_not_even_counted() {
    on_node(|node| {
        for of in families() {
            two_services(node, &of);
            let zero = |address| at(address, 0);
            let cases = [
                ("source port zero", Packet::udp(zero(of.client), of.vip)),
                (
                    "destination port zero",
                    Packet::udp(of.client, zero(of.vip)),
                ),
                ("both zero", Packet::tcp(zero(of.client), zero(of.vip), SYN)),
                ("SCTP", Packet::of(of.client, of.vip, Transport::Other(132))),
            ];
            for (name, packet) in cases {
                left_alone(node, name, &packet.bytes(), None);
            }
        }
        let mut arp = vec![0xff; 12];
        arp.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        arp.extend([0; 20]);
        left_alone(node, "ARP", &arp, None);
        let mut lldp = arp;
        lldp[12..14].copy_from_slice(&[0x88, 0xcc]);
        left_alone(node, "LLDP", &lldp, None);
    });
}

/// Sends a packet through all that may change it: to a backend elsewhere by XDP and by TC, to one
/// here and its answer back.
fn goes_all_ways(node: &mut Node, of: &Addresses, change: impl Fn(&mut Packet)) {
    for transport in OPENERS {
        let changed = |source, destination| {
            Packet::of(source, destination, transport).with(|packet| change(packet))
        };
        let packet = changed(of.client, of.vip);
        let first = node.run(Hook::Xdp, &Packet::of(of.client, of.vip, transport));
        let port = source_port(&first.frame);
        let leaves = node.wire.sent_to_peer(&packet, of, port, of.remote);
        node.expect(Hook::Xdp, &packet, Verdict::Transmit, &leaves);
        let leaves = crate::turned::before_neighbour(&packet, &leaves);
        node.expect(Hook::UplinkIn, &packet, Verdict::Redirect, &leaves);

        let packet = changed(of.client, of.vip2);
        let leaves = delivered(&packet, of.local);
        node.expect(Hook::Xdp, &packet, Verdict::Pass, &leaves);
        node.expect(Hook::UplinkIn, &packet, Verdict::Pass, &leaves);
        let reply = changed(of.local, of.client);
        let leaves = answered_as(&reply, of.vip2);
        node.expect(Hook::UplinkOut, &reply, Verdict::Pass, &leaves);
    }
}

#[test]
fn ipv4_options_are_carried_along() {
    on_node(|node| {
        let of = ipv4();
        two_services(node, &of);
        for len in [4, 8, 36, 40] {
            goes_all_ways(node, &of, |packet| packet.options = vec![1; len]);
        }
    });
}

#[test]
fn extension_headers_within_reach_are_carried_along() {
    on_node(|node| {
        if !node.can(Need::Ipv6RoutesOfXdp) {
            return;
        }
        let of = ipv6();
        two_services(node, &of);
        let chains: [&[(u8, usize)]; 6] = [
            &[(HOP_BY_HOP, 8)],
            &[(ROUTING, 24)],
            &[(DESTINATION_OPTIONS, 256)],
            &[(HOP_BY_HOP, 8), (DESTINATION_OPTIONS, 8), (ROUTING, 24)],
            &[
                (HOP_BY_HOP, 8),
                (DESTINATION_OPTIONS, 8),
                (ROUTING, 24),
                (DESTINATION_OPTIONS, 16),
            ],
            &[(DESTINATION_OPTIONS, 1992)],
        ];
        for chain in chains {
            goes_all_ways(node, &of, |packet| {
                packet.extensions = chain
                    .iter()
                    .map(|(kind, len)| extension(*kind, *len))
                    .collect();
            });
        }
    });
}

#[test]
fn a_wrong_checksum_stays_wrong_by_as_much() {
    on_node(|node| {
        for of in node.families() {
            two_services(node, &of);
            for error in [1, 0x0100, 0x1234, 0xfffe] {
                goes_all_ways(node, &of, |packet| packet.checksum_error = error);
            }
            if of.vip.is_ipv4() {
                goes_all_ways(node, &of, |packet| packet.header_checksum_error = 0x4321);
            }
        }
    });
}

#[test]
fn padding_behind_a_packet_is_kept() {
    on_node(|node| {
        for of in families() {
            two_services(node, &of);
            let packet = Packet::udp(of.client, of.vip2).with(|packet| packet.payload.clear());
            let padded = |packet: &Packet| [packet.bytes(), vec![0xee; 18]].concat();
            let leaves = delivered(&packet, of.local);
            for hook in [Hook::Xdp, Hook::UplinkIn] {
                node.run_bytes(hook, &padded(&packet))
                    .assert(Verdict::Pass, &padded(&leaves));
            }
        }
    });
}

#[test]
fn a_checksum_that_becomes_zero_is_sent_as_all_ones() {
    on_node(|node| {
        for of in families() {
            two_services(node, &of);
            let request = Packet::udp(of.client, of.vip2);
            // The last two bytes of an even payload decide the sum.
            let becomes_zero = |payload: u16| {
                request.with(|packet| packet.payload = payload.to_be_bytes().to_vec())
            };
            let checksum_of = |packet: &Packet| {
                let bytes = packet.bytes();
                let at = bytes.len() - 4;
                u16::from_be_bytes([bytes[at], bytes[at + 1]])
            };
            let payload = (0..=u16::MAX)
                .find(|payload| {
                    checksum_of(&delivered(&becomes_zero(*payload), of.local)) == 0xffff
                })
                .expect("one payload makes the sum zero");
            let packet = becomes_zero(payload);
            assert_ne!(checksum_of(&packet), 0xffff);
            let leaves = delivered(&packet, of.local);
            for hook in [Hook::Xdp, Hook::UplinkIn] {
                node.expect(hook, &packet, Verdict::Pass, &leaves);
            }
            // And away from it again.
            let reply =
                Packet::udp(of.local, of.client).with(|reply| reply.payload = packet.payload);
            let leaves = answered_as(&reply, of.vip2);
            node.expect(Hook::UplinkOut, &reply, Verdict::Pass, &leaves);
        }
    });
}
