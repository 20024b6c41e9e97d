//! Changes of the configuration under load: what is switched on or off costs nothing.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weir_tests::agent::AgentConfig;
use weir_tests::cluster::Node;
use weir_tests::plan::UPLINK;
use weir_tests::{Cluster, wait};

use super::load::{UnderLoad, a_moment};
use crate::encryption::{DEVICE, encrypting, restart_with, while_records_are_passed_on};
use crate::setting::{SOON, ordinary, start_with_web};

#[test]
fn features_come_and_go_without_a_loss() -> Result<()> {
    let cluster = start_with_web(&ordinary("features"))?;
    let load = UnderLoad::start(&cluster)?;
    let usual = AgentConfig::default;
    let configurations = [
        AgentConfig {
            more: json!({ "flows": { "enabled": false } }),
            ..usual()
        },
        AgentConfig {
            external_cluster_ip: true,
            ..usual()
        },
        AgentConfig {
            more: json!({
                "metrics": { "enabled": false },
                "loadBalancer": { "maglev": { "loadFactor": 200 }, "tcpIdleTimeout": "2h" },
            }),
            ..usual()
        },
        usual(),
    ];
    for configuration in &configurations {
        switch(&cluster, configuration)?;
    }
    load.stop()?.assert_nothing_lost()
}

/// From the driver to the stack to TC alone, and back.
#[test]
fn xdp_comes_and_goes_without_a_loss() -> Result<()> {
    let cluster = start_with_web(&ordinary("xdpmodes"))?;
    let load = UnderLoad::start(&cluster)?;
    for mode in ["off", "native", "off", "auto"] {
        let configuration = AgentConfig {
            xdp_mode: mode.to_owned(),
            ..AgentConfig::default()
        };
        switch(&cluster, &configuration)?;
    }
    load.stop()?.assert_nothing_lost()
}

/// In the order of the guide: without strict mode first and last, and no strict filter on the reverse path.
#[test]
fn encryption_comes_and_goes_without_a_loss() -> Result<()> {
    let cluster = start_with_web(&ordinary("encload"))?;
    for node in cluster.nodes() {
        let loose = format!("net.ipv4.conf.{UPLINK}.rp_filter=2");
        node.output("sysctl", &["-w", &loose])?;
    }
    let load = UnderLoad::start_gently(&cluster)?;
    let permissive = encrypting(json!({ "strictMode": { "enabled": false } }));
    let strict = encrypting(Value::Null);
    let off = AgentConfig {
        encryption_settings: json!({ "wireguard": { "rotationGrace": "5s" } }),
        ..AgentConfig::default()
    };
    while_records_are_passed_on(&cluster, || {
        switch(&cluster, &permissive)?;
        wait_for_peers(&cluster)?;
        switch(&cluster, &strict)?;
        cluster
            .nodes()
            .iter()
            .try_for_each(assert_nothing_in_clear)?;
        switch(&cluster, &permissive)?;
        switch(&cluster, &off)?;
        cluster.nodes().iter().try_for_each(wait_for_the_end)
    })?;
    load.stop()?.assert_nothing_lost()
}

/// Waits until each node leads packets to the other's pods into its device.
fn wait_for_peers(cluster: &Cluster) -> Result<()> {
    for node in cluster.nodes() {
        wait::until("routes into the device", SOON, || {
            let routes = node.output("ip", &["route", "show", "table", "51871"])?;
            ensure!(routes.contains(DEVICE), "{routes}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Waits until a node has no device any more.
fn wait_for_the_end(node: &Node) -> Result<()> {
    wait::until("the device to go", SOON, || {
        let links = node.output("ip", &["-br", "link"])?;
        ensure!(!links.contains(DEVICE), "{links}");
        Ok(())
    })
}

/// Looks for a second at what the node sends to pods of the other one.
fn assert_nothing_in_clear(node: &Node) -> Result<()> {
    let report = ["encrypt", "report", "--fail-on-clear", "--during", "1s"];
    let text = node.agent()?.weir(&report)?;
    ensure!(text.contains("encrypted"), "{text}");
    Ok(())
}

/// Gives all agents another configuration, one after the other.
fn switch(cluster: &Cluster, configuration: &AgentConfig) -> Result<()> {
    for node in cluster.nodes() {
        restart_with(node, configuration)?;
        a_moment()?;
    }
    Ok(())
}
