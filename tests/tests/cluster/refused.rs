//! An interface that a program cannot be attached to, until it can.

use anyhow::{Result, ensure};
use serde_json::json;
use weir_tests::agent::AgentConfig;
use weir_tests::cluster::Node;
use weir_tests::plan::UPLINK;
use weir_tests::{Cluster, wait};

use crate::setting::{SOON, scrape};

/// An interface that comes later, and the number that it is made with.
const LATE: &str = "late0";
const NUMBER: &str = "77";
/// Exit code of `weir status` when something does not work.
const DEGRADED: i32 = 5;

#[test]
fn an_interface_that_refused_a_program_is_tried_again() -> Result<()> {
    let agents = AgentConfig {
        xdp_mode: "generic".into(),
        more: json!({ "devices": { "uplinks": [UPLINK, LATE] } }),
        ..AgentConfig::default()
    };
    let cluster = Cluster::builder("refused")
        .nodes(1)
        .agents(agents)
        .start()?;
    let node = cluster.node("node1")?;
    let agent = node.agent()?;
    // A folder where the link is to be pinned.
    in_folder_of_links(node, "mkdir")?;
    let kind = ["type", "veth", "peer", "name", "late1"];
    let made = ["link", "add", LATE, "index", NUMBER];
    node.output("ip", &[made, kind].concat())?;
    wait::until("the refusal to be told", SOON, || {
        let failures = agent.status()?.failures();
        let words = format!("not attached to {LATE}");
        ensure!(
            failures.iter().any(|it| it.contains(&words)),
            "{failures:?}"
        );
        Ok(())
    })?;
    let exit = agent.weir_output(&["status"])?.status.code();
    assert_eq!(exit, Some(DEGRADED));
    // Packets come in by it that nobody balances.
    wait::until("the node not to be ready", SOON, || {
        let answer = scrape(&cluster, "node1", "/readyz")?;
        ensure!(answer.contains("attach to interfaces"), "{answer}");
        Ok(())
    })?;

    // Nothing tells the agent, and the interface is what it was.
    in_folder_of_links(node, "rmdir")?;
    wait::until("another attempt", SOON, || {
        let failures = agent.status()?.failures();
        ensure!(failures.is_empty(), "{failures:?}");
        Ok(())
    })?;
    agent.weir(&["status"])?;
    let links = node.output("ip", &["link", "show", LATE])?;
    ensure!(links.contains("xdpgeneric"), "{links}");
    wait::until("the node to be ready", SOON, || is_ready(&cluster))
}

#[test]
fn a_node_without_an_uplink_is_not_ready_and_says_why() -> Result<()> {
    let agents = AgentConfig {
        more: json!({ "devices": { "uplinks": [LATE] } }),
        ..AgentConfig::default()
    };
    let cluster = Cluster::builder("nouplink")
        .nodes(1)
        .agents(agents)
        .agents_later()
        .start()?;
    let node = cluster.node("node1")?;
    let agent = node.agent()?;
    agent.launch()?;
    wait::until("the agent to miss its uplink", SOON, || {
        let failures = agent.status()?.failures();
        let told = failures.iter().any(|it| it.contains("devices.uplinks"));
        ensure!(told, "{failures:?}");
        Ok(())
    })?;
    let exit = agent.weir_output(&["status"])?.status.code();
    assert_eq!(exit, Some(DEGRADED));
    ensure!(is_ready(&cluster).is_err());

    // One comes, first without an address.
    node.output(
        "ip",
        &["link", "add", LATE, "type", "veth", "peer", "name", "late1"],
    )?;
    node.output("ip", &["link", "set", LATE, "up"])?;
    wait::until("the agent to miss an address", SOON, || {
        let failures = agent.status()?.failures();
        let told = failures.iter().any(|it| it.contains("has an address"));
        ensure!(told, "{failures:?}");
        Ok(())
    })?;
    ensure!(is_ready(&cluster).is_err());
    node.output("ip", &["addr", "add", "192.0.2.177/24", "dev", LATE])?;
    wait::until("the node to be ready", SOON, || is_ready(&cluster))?;
    agent.weir(&["status"]).map(drop)
}

fn is_ready(cluster: &Cluster) -> Result<()> {
    let answer = scrape(cluster, "node1", "/readyz")?;
    ensure!(
        answer.ends_with("ready\n") && answer.contains(" 200 "),
        "{answer}"
    );
    Ok(())
}

/// Makes or removes a folder of the name that the pin of the link would have.
fn in_folder_of_links(node: &Node, what: &str) -> Result<()> {
    let script = format!("cd /sys/fs/bpf/weir/v*/links && {what} xdp_generic-{NUMBER}");
    node.output("sh", &["-c", script.as_str()]).map(drop)
}
