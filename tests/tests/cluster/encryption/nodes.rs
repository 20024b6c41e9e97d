//! The nodes' own traffic: encrypted with `encryption.node`, but for its exceptions. And overlays,
//! whose outer packets are such traffic.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weir_tests::capture::Captured;
use weir_tests::cluster::Node;
use weir_tests::manifest;
use weir_tests::traffic::server::{ECHO_PORT, HTTP_PORT};
use weir_tests::{Cluster, wait};

use super::{
    DROPPED, WIREGUARD_PORT, assert_unreadable, connect, encrypting, look, must_not_answer, remote,
    restart_with, start, wait_for_answers,
};
use crate::setting::{SOON, ordinary};

#[test]
fn nodes_talk_encrypted_but_for_the_exceptions() -> Result<()> {
    let settings = json!({ "node": true, "nodeExceptPorts": [ECHO_PORT] });
    let builder = ordinary("enc-nodes").nodes(3).pods_per_node(1);
    let cluster = builder
        .agents(encrypting(settings))
        .agents_later()
        .start()?;
    let mut members = manifest::members(&cluster.plan().nodes, &cluster.plan().pods);
    for document in &mut members.documents {
        if document["metadata"]["name"] == "node3" {
            document["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = "".into();
        }
    }
    cluster.apply(&members)?;
    cluster.start_agents()?;
    cluster.serve()?;
    cluster.nodes().iter().try_for_each(Node::serve)?;
    connect(&cluster)?;
    let [node1, node2, node3] = ["node1", "node2", "node3"].map(|name| cluster.node(name));
    let (node1, node2, node3) = (node1?, node2?, node3?);

    // Node to node, node to pod and pod to node: nothing of it can be read.
    wait_for_answers(node1, node2.address().both())?;
    let capture = look(&cluster)?;
    let web2 = cluster.pod("web-2")?;
    for address in node2
        .address()
        .both()
        .into_iter()
        .chain(web2.address().both())
    {
        let report = node1.http(address, HTTP_PORT).requests(20).run()?;
        ensure!(report.failed == 0, "node1 to {address}: {report:?}");
    }
    let asker = cluster.pod("asker")?;
    for address in node2.address().both() {
        let report = asker.http(address, HTTP_PORT).requests(20).run()?;
        ensure!(report.failed == 0, "asker to {address}: {report:?}");
    }
    assert_unreadable(&cluster, &capture.finish()?, 400)?;

    // The excepted port, and the node of the control plane: in clear text, both ways.
    let capture = look(&cluster)?;
    for address in node2.address().both() {
        let stream = node1.stream(address, ECHO_PORT).length(SHORT).run()?;
        ensure!(stream.iter().all(|it| it.error.is_none()), "{stream:?}");
    }
    let ports = readable_ports(&cluster, &capture.finish()?)?;
    ensure!(ports.iter().all(|port| *port == ECHO_PORT), "{ports:?}");
    ensure!(ports.len() > 20, "{} packets in clear text", ports.len());
    assert_all_clear_text_is_excepted(node1, "node2")?;

    let capture = cluster.underlay().capture("node3")?;
    for address in node3.address().both() {
        let report = node1.http(address, HTTP_PORT).requests(20).run()?;
        ensure!(report.failed == 0, "node1 to {address}: {report:?}");
    }
    let ports = readable_ports(&cluster, &capture.finish()?)?;
    ensure!(ports.len() > 100, "{} packets in clear text", ports.len());
    assert_all_clear_text_is_excepted(node1, "node3")?;

    // Its pods, and pods that ask it, are not excepted.
    let capture = cluster.underlay().capture("node3")?;
    let web3 = cluster.pod("web-3")?;
    wait_for_answers(asker, web3.address().both())?;
    wait_for_answers(asker, node3.address().both())?;
    wait_for_answers(node3, web2.address().both())?;
    assert_unreadable(&cluster, &capture.finish()?, 30)
}

/// Whatever went from a node to another one in clear text is accounted as an exception, or went before
/// that was a peer; and something did.
fn assert_all_clear_text_is_excepted(node: &Node, to: &str) -> Result<()> {
    let report = node.agent()?.weir(&["encrypt", "report", "-o", "json"])?;
    let report: Value = serde_json::from_str(&report)?;
    let rows = report["rows"].as_array().into_iter().flatten();
    let rows = rows.filter(|row| row["node"] == to && row["kind"] == "TRAFFIC_KIND_CLEAR_NODE");
    let mut paths: Vec<_> = rows.map(|row| row["path"].clone()).collect();
    paths.retain(|path| path != "clear_no_peer");
    ensure!(paths == ["clear_excepted"], "{report:#}");
    Ok(())
}

const SHORT: std::time::Duration = std::time::Duration::from_millis(300);

/// The lower port of each readable packet between nodes.
fn readable_ports(cluster: &Cluster, captured: &Captured) -> Result<Vec<u16>> {
    let between = captured.between(&cluster.nodes_on_wire()?, WIREGUARD_PORT);
    let summaries = between
        .readable
        .iter()
        .filter_map(|packet| packet.summary());
    Ok(summaries
        .map(|it| it.source.port().min(it.destination.port()))
        .collect())
}

const OVERLAY: &str = "overlay";
const VXLAN_PORT: u16 = 4789;
/// Addresses of the nodes in the overlay: of no pod, so that nothing leads them into the tunnel.
const ENDS: [[&str; 2]; 2] = [["192.0.2.1", "fd07::1"], ["192.0.2.2", "fd07::2"]];

/// Packets of an overlay may carry anything: strict mode drops them, node encryption encrypts them.
#[test]
fn packets_of_an_overlay_are_dropped_or_encrypted() -> Result<()> {
    let cluster = start("enc-overlay", Value::Null)?;
    cluster.nodes().iter().try_for_each(Node::serve)?;
    connect(&cluster)?;
    let [node1, node2] = [cluster.node("node1")?, cluster.node("node2")?];
    for (node, peer, own) in [(node1, node2, ENDS[0]), (node2, node1, ENDS[1])] {
        make_overlay(node, peer, own)?;
    }
    let others: [IpAddr; 2] = [ENDS[1][0].parse()?, ENDS[1][1].parse()?];
    let capture = look(&cluster)?;
    let before = node1.agent()?.status()?.counter(DROPPED);
    for address in others {
        must_not_answer(node1, address)?;
    }
    let dropped = node1.agent()?.status()?.counter(DROPPED);
    ensure!(
        dropped > before,
        "{dropped} packets dropped, {before} before"
    );
    // Pods of the other node take the tunnel, whatever the CNI's routes say.
    for (node, peer) in [(node1, node2), (node2, node1)] {
        for (range, family) in peer.pod_ranges().iter().zip(["-4", "-6"]) {
            node.output("ip", &[family, "route", "replace", range, "dev", OVERLAY])?;
        }
    }
    wait_for_answers(cluster.pod("asker")?, remote(&cluster)?.address().both())?;
    assert_unreadable(&cluster, &capture.finish()?, 10)?;

    let encrypting_nodes = encrypting(json!({ "node": true }));
    for node in cluster.nodes() {
        restart_with(node, &encrypting_nodes)?;
    }
    let capture = look(&cluster)?;
    wait_for_answers(node1, others)?;
    wait::until("requests through the overlay", SOON, || {
        let report = node1.http(others[0], HTTP_PORT).requests(20).run()?;
        ensure!(report.failed == 0, "{report:?}");
        Ok(())
    })?;
    assert_unreadable(&cluster, &capture.finish()?, 100)
}

fn make_overlay(node: &Node, peer: &Node, own: [&str; 2]) -> Result<()> {
    let (local, remote) = (node.address().v4, peer.address().v4);
    let lines = [
        format!(
            "link add {OVERLAY} type vxlan id 7 local {local} remote {remote} dstport {VXLAN_PORT}"
        ),
        format!("link set {OVERLAY} up"),
        format!("address add {}/24 dev {OVERLAY}", own[0]),
        format!("address add {}/64 dev {OVERLAY} nodad", own[1]),
    ];
    lines.iter().try_for_each(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        node.output("ip", &words).map(drop)
    })
}
