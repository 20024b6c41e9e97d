//! Nodes that reach each other by a VLAN, balanced and encrypted.
//!
//! Needs VLANs in the kernel, which the machines of `cargo xtask vm` have; see `tests/vm/suites.json`.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_tests::agent::AgentConfig;
use weir_tests::binary::{self, Binary};
use weir_tests::capture::between::BetweenNodes;
use weir_tests::cluster::Node;
use weir_tests::manifest::Service;
use weir_tests::plan::{self, UPLINK};
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::{Cluster, Place, wait};

const VLAN: &str = "vlan7";
const WIREGUARD_PORT: u16 = 51_871;
/// How long a change may take until it shows.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn the_wire_between_nodes_may_be_a_vlan() -> Result<()> {
    binary::announce(Binary::Traffic, env!("CARGO_BIN_EXE_weir-traffic"));
    let agents = AgentConfig {
        encryption: true,
        more: json!({ "devices": { "uplinks": [VLAN] } }),
        ..AgentConfig::default()
    };
    let cluster = Cluster::builder("vlan").nodes(2).pods_per_node(2);
    let cluster = cluster.pod_on(1, "asker").agents(agents);
    let cluster = cluster.agents_later().start()?;
    if let Err(error) = move_to_vlan(&cluster, cluster.node("node1")?) {
        println!("SKIPPED: no VLANs in this kernel: {error:#}");
        return Ok(());
    }
    move_to_vlan(&cluster, cluster.node("node2")?)?;
    cluster.start_agents()?;
    cluster.serve()?;
    let web = Service::new("web").cluster_ip(plan::cluster_ip(0));
    cluster.apply(&web.tcp("http", 80, HTTP_PORT).over(cluster.web_pods()))?;

    let (node1, asker) = (cluster.node("node1")?, cluster.pod("asker")?);
    let mut others = cluster.web_pods().filter(|pod| pod.node_name() == "node2");
    let other = others.next().context("a pod of node2")?.address();
    let capture = cluster.underlay().capture("node2")?;
    // Nobody is a peer yet.
    for address in other.both() {
        ensure!(ask(asker, address).is_err(), "{address} answers");
    }
    ensure!(node1.agent()?.status()?.counter("drop_unencrypted") > 0);

    cluster.distribute_keys()?;
    for address in other.both() {
        wait::until("the other node's pod to answer", SOON, || {
            ask(asker, address)
        })?;
    }
    for address in plan::cluster_ip(0).both() {
        let report = asker.http(address, 80).requests(40).run()?;
        let backends = report.backends.len();
        ensure!(report.failed == 0 && backends == 4, "{report:?}");
    }
    let captured = capture.finish()?;
    let between = captured.between(&cluster.nodes_on_wire()?, WIREGUARD_PORT);
    let readable = &between.readable;
    ensure!(readable.is_empty(), "{}", BetweenNodes::shown(readable));
    ensure!(
        between.wireguard.len() >= 100,
        "{}",
        between.wireguard.len()
    );
    Ok(())
}

fn ask(place: &Place, address: IpAddr) -> Result<()> {
    let traffic = place.http(address, HTTP_PORT).requests(1);
    let report = traffic.timeout(Duration::from_millis(500)).run()?;
    ensure!(report.failed == 0, "{report:?}");
    Ok(())
}

/// Gives a node's addresses, and its routes to the other's pods, to a VLAN on its uplink.
fn move_to_vlan(cluster: &Cluster, node: &Node) -> Result<()> {
    let address = node.address();
    let mut lines = vec![
        format!("link add link {UPLINK} name {VLAN} type vlan id 7"),
        format!("link set {VLAN} up"),
        format!("-4 addr flush dev {UPLINK}"),
        format!("-6 addr flush dev {UPLINK} scope global"),
        format!("addr add {}/24 dev {VLAN}", address.v4),
        format!("addr add {}/64 dev {VLAN} nodad", address.v6),
    ];
    let others = cluster.nodes().iter();
    for other in others.filter(|other| other.name() != node.name()) {
        let ways = other.pod_ranges().iter().zip(other.address().both());
        let ways = ways.map(|(range, via)| format!("route replace {range} via {via} dev {VLAN}"));
        lines.extend(ways);
    }
    lines.iter().try_for_each(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        node.output("ip", &words).map(drop)
    })
}
