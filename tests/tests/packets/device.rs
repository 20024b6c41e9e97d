//! The hooks of the device that encrypts, and what comes for it from the network.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ebpf_abi::tcp::{ACK, SYN};
use ebpf_abi::{IpcacheValue as To, TrafficPath};

use crate::encryption::{MTU, account};
use crate::network::{Addresses, at, families, ip};
use crate::node::{Hook, Verdict, encrypting, on_node_with, small_config};
use crate::packet::{ETHERNET, Packet, assert_checksums, set_tcp_options};

/// Number of a service.
const SERVICE: u32 = 7;

/// The other node's pod, with an address that [`Packet::bare_bytes`] can be made of.
pub fn far(of: &Addresses) -> SocketAddr {
    let ip = if of.remote.is_ipv4() {
        "8.0.2.5"
    } else {
        "2001:db8:86dd:2::5"
    };
    SocketAddr::new(ip.parse().expect("an address"), of.remote.port())
}

#[test]
fn what_enters_the_device_is_counted_as_encrypted() {
    on_node_with(&encrypting(true), |node| {
        for of in families() {
            node.know(of.remote.ip(), To::POD | To::PEER);
            let packet = Packet::udp(at(far(&of), 45_000), of.remote);
            let bytes = packet.bare_bytes();
            let outcome = node.run_bytes(Hook::DeviceOut, &bytes);
            outcome.assert(Verdict::Pass, &bytes);
            let expected = BTreeMap::from([(TrafficPath::ENCRYPTED, (1, packet.len()))]);
            assert_eq!(account(node), expected);
        }
    });
}

#[test]
fn opening_segments_are_made_to_fit_the_device() {
    const NOP: u8 = 1;
    const STAMP: [u8; 4] = [NOP, NOP, NOP, NOP];
    let [high, low] = 1_460_u16.to_be_bytes();
    let option = [2, 4, high, low];
    // At an even offset, at odd ones, behind another option, at the end.
    let layouts = [0, 1, 3, 5, 7, 8];
    on_node_with(&encrypting(true), |node| {
        node.settings().set_encrypted_mtu(MTU).expect("CONFIG");
        for of in families() {
            let headers = if of.remote.is_ipv4() { 40 } else { 60 };
            let fitting = (MTU - headers) as u16;
            for place in layouts {
                let mut options = [NOP; 12];
                options[place..place + 4].copy_from_slice(&option);
                for (flags, size) in [(SYN, fitting), (SYN | ACK, fitting), (ACK, 1_460)] {
                    let packet = Packet::tcp(at(far(&of), 45_000), of.remote, flags);
                    let mut bytes = packet.bare_bytes();
                    set_tcp_options(&mut bytes, options);
                    let mut expected = bytes.clone();
                    let mut clamped = options;
                    clamped[place + 2..place + 4].copy_from_slice(&size.to_be_bytes());
                    set_tcp_options(&mut expected, clamped);
                    let outcome = node.run_bytes(Hook::DeviceOut, &bytes);
                    outcome.assert(Verdict::Pass, &expected);
                }
            }
            // One that fits stays as it is.
            let mut bytes = Packet::tcp(at(far(&of), 45_000), of.remote, SYN).bare_bytes();
            let mut options = [NOP; 12];
            options[..4].copy_from_slice(&[2, 4, 2, 24]);
            options[4..8].copy_from_slice(&STAMP);
            set_tcp_options(&mut bytes, options);
            node.run_bytes(Hook::DeviceOut, &bytes)
                .assert(Verdict::Pass, &bytes);
        }
    });
}

#[test]
fn what_leaves_the_device_passes_unless_it_answers_a_client() {
    on_node_with(&encrypting(true), |node| {
        let uplink = node.uplink_name();
        ip(&format!("route add 8.0.0.0/16 via 192.0.2.2 dev {uplink}"));
        let families = node.families();
        if families.len() > 1 {
            ip(&format!(
                "route add 2001:db8:86dd::/48 via 2001:db8:1::2 dev {uplink}"
            ));
        }
        for of in families {
            let backend = far(&of);
            // Of a pod to a pod: nothing is done to it.
            let packet = Packet::udp(backend, at(of.local, 45_000)).bare_bytes();
            let outcome = node.run_bytes(Hook::DeviceIn, &packet);
            outcome.assert(Verdict::Pass, &packet);

            // The answer of a backend to a client of this node's.
            node.service(SERVICE, of.vip, backend, false);
            let request = Packet::tcp(of.client, of.vip, SYN);
            let sent = node.run(Hook::UplinkIn, &request);
            assert_eq!(sent.verdict, Verdict::Redirect, "{sent}");
            let port = crate::packet::source_port(&sent.frame);
            let answer = Packet::tcp(backend, at(of.node, port), SYN | ACK);
            let outcome = node.run_bytes(Hook::DeviceIn, &answer.bare_bytes());
            assert_eq!(outcome.verdict, Verdict::Redirect, "{outcome}");
            let expected = Packet::tcp(of.vip, of.client, SYN | ACK).with(|it| it.ttl -= 1);
            assert_eq!(outcome.frame[ETHERNET..], expected.bytes()[ETHERNET..]);
            assert_checksums(&outcome.frame);
        }
    });
}

/// What is encrypted is observed at the device; at the uplink there is nothing to do about it.
#[test]
fn what_comes_for_the_device_is_passed_on_at_once() {
    let port = small_config().encryption.wireguard.port.get() as u16;
    on_node_with(&encrypting(true), |node| {
        for of in families() {
            let peer = at(of.remote, port);
            for (port, seen) in [(port, false), (port + 1, true)] {
                node.events();
                let packet = Packet::udp(peer, at(of.node, port));
                node.expect_untouched(Hook::UplinkIn, &packet);
                assert_eq!(!node.events().is_empty(), seen, "port {port}");
            }
            // A frontend of that port is another's.
            node.service(SERVICE, at(of.vip, port), of.local, true);
            let balanced = Packet::udp(peer, at(of.vip, port));
            let sent = Packet::udp(peer, of.local);
            node.expect(Hook::UplinkIn, &balanced, Verdict::Pass, &sent);
        }
    });
    on_node_with(&small_config(), |node| {
        for of in families() {
            let packet = Packet::udp(at(of.remote, port), at(of.node, port));
            node.events();
            node.expect_untouched(Hook::UplinkIn, &packet);
            assert!(
                !node.events().is_empty(),
                "without encryption it is any port"
            );
        }
    });
}
