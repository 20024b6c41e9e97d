//! An interface that a program cannot be attached to, until it can.

use anyhow::{Result, ensure};
use serde_json::json;
use weir_tests::agent::AgentConfig;
use weir_tests::cluster::Node;
use weir_tests::plan::UPLINK;
use weir_tests::{Cluster, wait};

use crate::setting::SOON;

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
    Ok(())
}

/// Makes or removes a folder of the name that the pin of the link would have.
fn in_folder_of_links(node: &Node, what: &str) -> Result<()> {
    let script = format!("cd /sys/fs/bpf/weir/v*/links && {what} xdp_generic-{NUMBER}");
    node.output("sh", &["-c", script.as_str()]).map(drop)
}
