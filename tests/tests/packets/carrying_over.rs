//! Connections that another version's table holds and this one's does not hold yet.

use std::thread;
use std::time::Duration;

use ebpf_abi::tcp::{ACK, SYN};
use ebpf_abi::{Counter, DropReason, IpcacheValue};

use crate::device::far;
use crate::network::{at, families};
use crate::node::{Hook, Node, Verdict, encrypting, on_node, on_node_with, small_config};
use crate::packet::{Packet, Transport};

const SERVICE: u32 = 7;

/// What a packet becomes that no entry is known of.
#[track_caller]
fn expect(node: &mut Node, hook: Hook, packet: &Packet, dropped: bool) {
    node.counted();
    let outcome = node.run(hook, packet);
    assert_eq!(
        matches!(outcome.verdict, Verdict::Drop),
        dropped,
        "{hook:?}"
    );
    let counter = Counter::ALL[DropReason::CarryingOver.counter() as usize].1;
    assert_eq!(node.counted().contains_key(counter), dropped, "{hook:?}");
}

#[test]
fn unknown_connections_wait_while_others_are_carried_over_but_not_for_ever() {
    const AT_MOST: Duration = Duration::from_secs(2);
    on_node(|node| {
        for of in families() {
            node.service(SERVICE, of.vip, of.local, true);
            let known = Packet::of(of.client, of.vip, Transport::Tcp(SYN));
            node.run(Hook::Xdp, &known);
            let unknown = at(of.client, 41_000);
            let request = Packet::of(unknown, of.vip, Transport::Tcp(ACK));
            let answer = Packet::of(of.local, unknown, Transport::Tcp(ACK));

            node.settings()
                .begin_carrying_over(AT_MOST)
                .expect("CONFIG");
            expect(node, Hook::Xdp, &request, true);
            expect(node, Hook::UplinkOutForwarded, &answer, true);
            let acknowledged = Packet::of(of.client, of.vip, Transport::Tcp(ACK));
            expect(node, Hook::Xdp, &acknowledged, false);
            let opening = Packet::of(at(of.client, 41_001), of.vip, Transport::Tcp(SYN));
            expect(node, Hook::Xdp, &opening, false);
            let datagram = Packet::of(unknown, of.vip, Transport::Udp);
            expect(node, Hook::Xdp, &datagram, false);

            node.settings().end_carrying_over().expect("CONFIG");
            expect(node, Hook::UplinkOutForwarded, &answer, false);

            // An agent that is killed never says so.
            node.settings()
                .begin_carrying_over(AT_MOST)
                .expect("CONFIG");
            expect(node, Hook::UplinkOutForwarded, &answer, true);
            thread::sleep(AT_MOST);
            expect(node, Hook::UplinkOutForwarded, &answer, false);
            expect(node, Hook::Xdp, &request, false);
        }
    });
}

/// The stack would end the connection with a reset.
#[test]
fn answers_that_were_encrypted_wait_as_well() {
    const AT_MOST: Duration = Duration::from_mins(1);
    let port = small_config().load_balancer.snat_ports.first;
    on_node_with(&encrypting(true), |node| {
        for of in node.families() {
            let answer = Packet::tcp(far(&of), at(of.node, port), ACK).bare_bytes();
            let to_pod = Packet::tcp(far(&of), at(of.local, port), ACK).bare_bytes();
            node.know(of.local.ip(), IpcacheValue::POD | IpcacheValue::LOCAL);
            for (carrying_over, verdict) in [(true, Verdict::Drop), (false, Verdict::Pass)] {
                let settings = node.settings();
                let told = if carrying_over {
                    settings.begin_carrying_over(AT_MOST)
                } else {
                    settings.end_carrying_over()
                };
                told.expect("CONFIG");
                let outcome = node.run_bytes(Hook::DeviceIn, &answer);
                assert_eq!(outcome.verdict, verdict, "{outcome}");
                let outcome = node.run_bytes(Hook::DeviceIn, &to_pod);
                assert_eq!(outcome.verdict, Verdict::Pass, "{outcome}");
            }
        }
    });
}
