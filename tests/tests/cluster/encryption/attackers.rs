//! Nodes that claim what is not theirs, and packets sent again by someone on the wire.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_tests::capture::packet::Summary;
use weir_tests::cluster::Pod;
use weir_tests::manifest::{self, Manifest};
use weir_tests::traffic::server::UDP_PORT;
use weir_tests::{Cluster, wait};

use super::{
    DEVICE, KEY, WIREGUARD_PORT, assert_unreadable, connect, encrypting, look, must_not_answer,
    published_key, record, record_of, remote, start, wait_for_answers, wait_for_problem,
};
use crate::setting::{SOON, ordinary};

/// A key of the right form that nobody has the private one of.
const NOBODYS_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

struct Setting {
    cluster: Cluster,
}

impl Setting {
    /// Three nodes with a pod each, of which the third misbehaves; all keys exchanged.
    fn start(name: &str) -> Result<Self> {
        let builder = ordinary(name).nodes(3).pods_per_node(1);
        let cluster = builder.agents(encrypting(Value::Null)).start()?;
        cluster.serve()?;
        cluster.distribute_keys()?;
        let setting = Self { cluster };
        setting.answers("web-2")?;
        setting.answers("web-3")?;
        Ok(setting)
    }

    fn asker(&self) -> Result<&Pod> {
        self.cluster.pod("asker")
    }

    fn answers(&self, pod: &str) -> Result<()> {
        let addresses = self.cluster.pod(pod)?.address().both();
        wait_for_answers(self.asker()?, addresses)
    }

    fn must_not_answer(&self, pod: &str) -> Result<()> {
        let addresses = self.cluster.pod(pod)?.address().both();
        addresses
            .iter()
            .try_for_each(|it| must_not_answer(self.asker()?, *it))
    }

    /// The good nodes report a problem with these words.
    fn is_reported(&self, words: &[&str]) -> Result<()> {
        for node in ["node1", "node2"] {
            wait_for_problem(self.cluster.node(node)?, words)?;
        }
        Ok(())
    }
}

#[test]
fn a_node_that_publishes_another_key_gets_nothing_and_disturbs_nobody() -> Result<()> {
    let setting = Setting::start("enc-keys")?;
    let cluster = &setting.cluster;
    let own = record(cluster.node("node3")?)?;
    let of_node2 = published_key(cluster.node("node2")?, KEY)?.context("node2 has a key")?;
    // All of node3 passes here; node1 and node2 are among each other.
    let capture = cluster.underlay().capture("node3")?;

    // A key that it does not have.
    cluster.publish("node3.yaml", &record_of("node3", NOBODYS_KEY))?;
    wait::until("node3 to be missed", SOON * 2, || {
        setting.must_not_answer("web-3")?;
        let problems = cluster.node("node1")?.agent()?.status()?.problems();
        let is_it = |it: &String| it.contains("Node node3") && it.contains("does not answer");
        ensure!(problems.iter().any(is_it), "{problems:?}");
        Ok(())
    })?;
    setting.answers("web-2")?;

    // One that it has stolen, or means to: the older node keeps it.
    cluster.publish("node3.yaml", &record_of("node3", &of_node2))?;
    wait_for_problem(
        cluster.node("node1")?,
        &["Node node3", "is the key of Node node2"],
    )?;
    setting.must_not_answer("web-3")?;
    setting.answers("web-2")?;

    // One that is none, and a record that is none.
    cluster.publish("node3.yaml", &record_of("node3", "no key at all"))?;
    setting.is_reported(&["Node node3", "is no key of WireGuard"])?;
    setting.must_not_answer("web-3")?;
    cluster.publish("node3.yaml", "metadata: [")?;
    setting.is_reported(&["published/node3.yaml"])?;
    setting.must_not_answer("web-3")?;
    setting.answers("web-2")?;

    // Its own again.
    cluster.publish("node3.yaml", &own)?;
    setting.answers("web-3")?;
    assert_unreadable(cluster, &capture.finish()?, 1)
}

#[test]
fn ranges_and_addresses_of_others_are_not_given_to_a_node_that_claims_them() -> Result<()> {
    let setting = Setting::start("enc-ranges")?;
    let cluster = &setting.cluster;
    let capture = cluster.underlay().capture("node3")?;
    let address_of_node1 = cluster.node("node1")?.address().v4;
    // Its own ranges, that of node2, a part of it, and one that an address of node1 lies in.
    let claims = json!([
        "10.244.3.0/24",
        "fd00:10:244:3::/64",
        "10.244.2.0/24",
        "10.244.2.0/28",
        "fd00:10:244:2::/64",
        format!("{address_of_node1}/32"),
    ]);
    let mut members = manifest::members(&cluster.plan().nodes, &cluster.plan().pods);
    edit_node(&mut members, "node3", |node| {
        node["spec"]["podCIDRs"] = claims.clone();
    });
    for (name, year) in [("node1", 2021), ("node2", 2022), ("node3", 2023)] {
        let created = format!("{year}-01-01T00:00:00Z");
        edit_node(&mut members, name, |node| {
            node["metadata"]["creationTimestamp"] = created.clone().into();
        });
    }
    cluster.apply(&members)?;

    let keeps = "of Node node2, which is older and keeps it";
    for claim in ["10.244.2.0/24", "10.244.2.0/28", "fd00:10:244:2::/64"] {
        setting.is_reported(&["Node node3", claim, keeps])?;
    }
    let holds = format!("holds {address_of_node1}, the address of Node node1");
    setting.is_reported(&["Node node3", &holds])?;
    for node in ["node1", "node2"] {
        let allowed = cluster
            .node(node)?
            .output("wg", &["show", DEVICE, "allowed-ips"])?;
        let lines: Vec<_> = allowed
            .lines()
            .filter(|it| it.contains("10.244.3.0/24"))
            .collect();
        ensure!(
            lines.len() == 1 && !lines[0].contains("10.244.2.") && !lines[0].contains("244:2:"),
            "{node} gives node3 what is node2's:\n{allowed}"
        );
    }
    setting.answers("web-2")?;
    setting.answers("web-3")?;
    // Of all this nothing for node2's pods went by way of node3.
    let captured = capture.finish()?;
    let to_node2 = cluster.pod("web-2")?.address();
    let hijacked = captured.matching(|it| to_node2.contains(it.destination.ip()));
    assert_eq!(hijacked.len(), 0);
    assert_unreadable(cluster, &captured, 1)
}

fn edit_node(manifest: &mut Manifest, name: &str, edit: impl Fn(&mut Value)) {
    let documents = manifest.documents.iter_mut();
    for document in documents.filter(|it| it["kind"] == "Node" && it["metadata"]["name"] == name) {
        edit(document);
    }
}

/// Everything that node1 sent to node2 is sent again, as it was and from another address.
#[test]
fn packets_sent_again_are_dropped_and_move_no_peer() -> Result<()> {
    let cluster = start("enc-replay", Value::Null)?;
    connect(&cluster)?;
    let [node1, node2] = [cluster.node("node1")?, cluster.node("node2")?];
    let remote = remote(&cluster)?;
    let asker = cluster.pod("asker")?;
    let at_pod = remote.capture("eth0")?;
    let capture = look(&cluster)?;
    let datagrams = |requests: u32| -> Result<()> {
        let report = asker
            .udp(remote.address().both()[0], UDP_PORT)
            .requests(requests)
            .run()?;
        ensure!(report.failed == 0, "{report:?}");
        Ok(())
    };
    datagrams(10)?;
    let captured = capture.finish()?;
    let between = captured.between(&cluster.nodes_on_wire()?, WIREGUARD_PORT);
    let sent_by_node1 = |frame: &[u8]| {
        let source = Summary::of(frame).map(|it| it.source.ip());
        source == Some(node1.address().v4.into())
    };
    let frames = between.wireguard.iter().map(|packet| packet.bytes.clone());
    let frames: Vec<_> = frames.filter(|frame| sent_by_node1(frame)).collect();
    ensure!(frames.len() >= 10, "{} messages", frames.len());

    let attacker = cluster.client("client")?;
    let IpAddr::V4(source) = attacker.address().both()[0] else {
        unreachable!("IPv4 comes first")
    };
    let moved: Vec<_> = frames
        .iter()
        .map(|frame| from_another_address(frame, source.octets()))
        .collect();
    // Into the wire of node2, where someone between the nodes would put them.
    cluster.underlay().send_frames("node2", &frames)?;
    cluster.underlay().send_frames("node2", &moved)?;
    // Whatever comes of them has come before these are answered.
    datagrams(10)?;

    let arrived = at_pod.finish()?;
    let arrived = arrived.matching(|it| {
        it.source.ip() == IpAddr::from(asker.address().v4) && it.destination.port() == UDP_PORT
    });
    assert_eq!(arrived.len(), 20, "each datagram once");
    let endpoints = node2.output("wg", &["show", DEVICE, "endpoints"])?;
    let expected = format!("{}:{WIREGUARD_PORT}", node1.address().v4);
    ensure!(
        endpoints.lines().count() == 1 && endpoints.trim_end().ends_with(&expected),
        "the peer has moved: {endpoints}"
    );
    wait::until("an answer in the other family as well", SOON, || {
        super::ask(&cluster, remote.address().v6.into())
    })
}

/// An IPv4 datagram from another source, its checksums right.
fn from_another_address(frame: &[u8], source: [u8; 4]) -> Vec<u8> {
    const IP: usize = 14;
    let mut frame = frame.to_vec();
    frame[IP + 12..IP + 16].copy_from_slice(&source);
    frame[IP + 10..IP + 12].fill(0);
    let words = frame[IP..IP + 20].chunks(2);
    let sum: u32 = words
        .map(|it| u32::from(u16::from_be_bytes([it[0], it[1]])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !(sum as u16 + (sum >> 16) as u16);
    frame[IP + 10..IP + 12].copy_from_slice(&checksum.to_be_bytes());
    // That of UDP is left out, as IPv4 allows.
    frame[IP + 26..IP + 28].fill(0);
    frame
}
