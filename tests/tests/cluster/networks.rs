//! Nodes with two networks: the default route goes by one, and what their Node objects name is on the
//! other, with all other nodes and clients.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weir_tests::agent::AgentConfig;
use weir_tests::cluster::Node;
use weir_tests::plan::UPLINK;
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::{Cluster, wait};

use crate::encryption::encrypting;
use crate::setting::{NODE_PORT, SOON, backends, ordinary, wait_for_web, web};

/// Interface of a node to the network of its default route.
const OTHER: &str = "mgmt0";

#[test]
fn the_network_that_the_node_object_names_is_served() -> Result<()> {
    let agents = AgentConfig {
        more: json!({ "devices": { "uplinks": [] } }),
        ..AgentConfig::default()
    };
    let cluster = ordinary("networks").agents(agents).agents_later().start()?;
    cluster.nodes().iter().try_for_each(lead_elsewhere)?;
    cluster.start_agents()?;
    cluster.serve()?;
    cluster.apply(&web().over(cluster.web_pods()))?;
    wait_for_web(&cluster)?;
    for node in cluster.nodes() {
        has_both_uplinks(node)?;
        answers_its_node_port(&cluster, node)?;
    }

    // An agent that cannot ask anybody keeps what the one before it attached to.
    let node = cluster.node("node1")?;
    let agent = node.agent()?;
    agent.kill9()?;
    let aside = agent.manifests().with_extension("aside");
    fs::rename(agent.manifests(), &aside)?;
    agent.launch()?;
    wait::until("the agent to wait for its source", SOON, || {
        let status = agent.status()?;
        let waits = &status.0["waiting_for"];
        ensure!(*waits == json!(["apply services"]), "{waits}");
        Ok(())
    })?;
    has_both_uplinks(node)?;
    answers_its_node_port(&cluster, node)?;
    fs::rename(&aside, agent.manifests())?;
    agent.wait_ready()?;
    has_both_uplinks(node)?;
    answers_its_node_port(&cluster, node)
}

/// Encrypted, a plugin that masquerades has it done at our device; and an address on loopback comes first of
/// all, as where one is told by BGP.
#[test]
fn pods_reach_other_nodes_masqueraded() -> Result<()> {
    let builder = ordinary("masquerade").agents(encrypting(Value::Null));
    let cluster = builder.agents_later().start()?;
    let [node1, node2] = [cluster.node("node1")?, cluster.node("node2")?];
    node1.ip("addr add 192.0.2.77/32 dev lo")?;
    masquerade(node1)?;
    // Node2 answers a node, in clear text: on the way back that is not where the pod's packets left by.
    node1.output(
        "sysctl",
        &["-qw", &format!("net.ipv4.conf.{UPLINK}.rp_filter=2")],
    )?;
    cluster.start_agents()?;
    cluster.serve()?;
    node2.serve()?;
    cluster.distribute_keys()?;
    let asker = cluster.pod("asker")?;
    wait::until("node2 to answer", SOON, || {
        let asked = asker.http(node2.address().v4.into(), HTTP_PORT).requests(1);
        let report = asked.timeout(Duration::from_millis(500)).run()?;
        ensure!(report.failed == 0, "{report:?}");
        let seen = report
            .clients
            .iter()
            .all(|it| node1.address().contains(*it));
        ensure!(seen, "not masqueraded: {report:?}");
        Ok(())
    })
}

/// What pods send elsewhere than to pods comes from the node, as with most plugins.
fn masquerade(node: &Node) -> Result<()> {
    for rule in [
        "add table ip cni",
        "add chain ip cni out { type nat hook postrouting priority srcnat ; }",
        "add rule ip cni out ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade",
    ] {
        node.output("nft", &rule.split(' ').collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Gives a node a network where nobody answers, and its default routes to that.
fn lead_elsewhere(node: &Node) -> Result<()> {
    let lines = [
        format!("link add {OTHER} type veth peer name mgmt1"),
        "link set mgmt1 up".to_owned(),
        format!("link set {OTHER} up"),
        format!("addr add 192.0.2.7/24 dev {OTHER}"),
        format!("addr add 2001:db8:7::7/64 dev {OTHER} nodad"),
        "-4 route del default".to_owned(),
        "-6 route del default".to_owned(),
        format!("-4 route add default via 192.0.2.1 dev {OTHER}"),
        format!("-6 route add default via 2001:db8:7::1 dev {OTHER}"),
    ];
    lines.iter().try_for_each(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        node.output("ip", &words).map(drop)
    })
}

fn has_both_uplinks(node: &Node) -> Result<()> {
    let status = node.agent()?.status()?;
    let interfaces = status.0["datapath"]["interfaces"].as_array();
    let interfaces = interfaces.into_iter().flatten();
    let uplinks = interfaces.filter(|one| one["role"] == "INTERFACE_ROLE_UPLINK");
    let names: BTreeSet<&str> = uplinks.filter_map(|one| one["name"].as_str()).collect();
    ensure!(names == BTreeSet::from([UPLINK, OTHER]), "{names:?}");
    Ok(())
}

/// All backends answer at the addresses of the Node object, and those on the other node are asked from
/// there: nobody could answer the network of the default route.
fn answers_its_node_port(cluster: &Cluster, node: &Node) -> Result<()> {
    let client = cluster.client("client")?;
    for address in node.address().both() {
        let traffic = client.http(address, NODE_PORT).requests(60).parallel(4);
        let report = traffic.run()?;
        assert_eq!(report.failed, 0, "{address}: {report:?}");
        let reached: BTreeSet<_> = report.backends.keys().copied().collect();
        assert_eq!(reached, backends(cluster, address, HTTP_PORT));
        let asking = [client.address(), node.address()];
        for seen in &report.clients {
            let is_expected = asking.iter().any(|one| one.contains(*seen));
            ensure!(is_expected, "{seen}: {report:?}");
        }
    }
    Ok(())
}
