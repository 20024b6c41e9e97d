//! Encryption is switched off, or Weir removed, while connections go on.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weir_tests::agent::AgentConfig;
use weir_tests::cluster::Node;
use weir_tests::traffic::server::ECHO_PORT;

use super::{
    DEVICE, KEY, WIREGUARD_PORT, ask, connect, encrypting, look, published_key, remote,
    restart_with, start, wait_for_answers, while_records_are_passed_on,
};
use weir_tests::wait;

use crate::setting::SOON;

/// In the order of the guide: strict mode first, on all nodes; then one node after the other.
#[test]
fn switching_it_off_node_by_node_costs_no_connection() -> Result<()> {
    let cluster = start("enc-off", Value::Null)?;
    connect(&cluster)?;
    let asker = cluster.pod("asker")?;
    let addresses = remote(&cluster)?.address().both();
    let streams = addresses.map(|address| asker.stream(address, ECHO_PORT).start());

    let permissive = encrypting(json!({ "strictMode": { "enabled": false } }));
    for node in cluster.nodes() {
        restart_with(node, &permissive)?;
    }
    let capture = look(&cluster)?;
    let off = AgentConfig {
        encryption_settings: json!({ "wireguard": { "rotationGrace": "1s" } }),
        ..AgentConfig::default()
    };
    while_records_are_passed_on(&cluster, || {
        for node in cluster.nodes() {
            restart_with(node, &off)?;
            wait_for_answers(asker, addresses)?;
        }
        Ok(())
    })?;
    for stream in streams {
        for report in stream?.stop()? {
            ensure!(report.error.is_none(), "{report:?}");
        }
    }
    let captured = capture.finish()?;
    let between = captured.between(&cluster.nodes_on_wire()?, WIREGUARD_PORT);
    ensure!(!between.readable_of(&addresses).is_empty(), "it is off now");
    cluster
        .nodes()
        .iter()
        .try_for_each(|node| wait::until("nothing to be left", SOON, || nothing_is_left(node)))
}

#[test]
fn uninstall_leaves_no_device_rule_route_or_key() -> Result<()> {
    let cluster = start("enc-uninstall", Value::Null)?;
    connect(&cluster)?;
    let node = cluster.node("node1")?;
    let agent = node.agent()?;
    let state = agent.directory().join("state");
    let key = published_key(node, KEY)?;

    // With the key kept, the node comes back as who it was.
    uninstall(node, &["--keep-key"])?;
    nothing_is_left(node)?;
    let kept: Vec<_> = fs::read_dir(&state)?.collect::<Result<_, _>>()?;
    assert_eq!(kept.len(), 1, "{kept:?}");
    ensure!(state.join("encryption/private-key").exists(), "{kept:?}");
    agent.start()?;
    assert_eq!(published_key(node, KEY)?, key);
    while_records_are_passed_on(&cluster, || {
        let address = remote(&cluster)?.address().both()[0];
        wait::until("the pod to answer again", SOON, || ask(&cluster, address))
    })?;

    uninstall(node, &[])?;
    nothing_is_left(node)?;
    let left = fs::read_dir(agent.manifests().join("published"))?.count();
    assert_eq!(left, 1, "the record of the other node alone");
    ensure!(!state.exists(), "the key is gone, and all else");
    Ok(())
}

fn uninstall(node: &Node, more: &[&str]) -> Result<()> {
    let agent = node.agent()?;
    agent.stop()?;
    let mut command = agent.command()?;
    command.args(["uninstall", "--config", "/run/weir/agent.yaml"]);
    let output = command.args(more).output()?;
    node.text_of("weir-agent uninstall", &output).map(drop)
}

/// Neither device nor rule nor route.
fn nothing_is_left(node: &Node) -> Result<()> {
    let links = node.output("ip", &["link", "show"])?;
    ensure!(!links.contains(DEVICE), "{links}");
    for family in ["-4", "-6"] {
        let rules = node.output("ip", &[family, "rule", "show"])?;
        ensure!(!rules.contains("51871"), "{rules}");
        let routes = node.output("ip", &[family, "route", "show", "table", "all"])?;
        ensure!(!routes.contains("51871"), "{routes}");
    }
    Ok(())
}
