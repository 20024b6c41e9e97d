//! Traffic between nodes, seen by someone on the wire between them.
//!
//! The same with the kernel's WireGuard and with the process: agents pick by what the kernel has,
//! and nothing here asks which it was.

#[path = "encryption/api_server.rs"]
mod api_server;
#[path = "encryption/attackers.rs"]
mod attackers;
#[path = "encryption/basics.rs"]
mod basics;
#[path = "encryption/host_routing.rs"]
mod host_routing;
#[path = "encryption/nodes.rs"]
mod nodes;
#[path = "encryption/removal.rs"]
mod removal;
#[path = "encryption/rotation.rs"]
mod rotation;
#[path = "encryption/services.rs"]
mod services;
#[path = "encryption/single_pods.rs"]
mod single_pods;
#[path = "encryption/sizes.rs"]
mod sizes;
#[path = "encryption/stock.rs"]
mod stock;
#[path = "encryption/strict.rs"]
mod strict;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use weir_tests::agent::AgentConfig;
use weir_tests::capture::between::BetweenNodes;
use weir_tests::capture::{Capture, Captured};
use weir_tests::cluster::{Node, Pod};
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::{Cluster, Place, wait};

use crate::setting::{SOON, ordinary, web};

/// UDP port of the nodes' devices.
const WIREGUARD_PORT: u16 = 51_871;
/// Name of the nodes' devices.
pub const DEVICE: &str = "weir_wg0";
/// Counter of what was not let out in clear text.
const DROPPED: &str = "drop_unencrypted";

/// Agents that encrypt, with more settings of `encryption`.
pub fn encrypting(settings: Value) -> AgentConfig {
    AgentConfig {
        encryption: true,
        encryption_settings: settings,
        ..AgentConfig::default()
    }
}

/// The usual cluster, encrypting, its servers up, the keys of its nodes not exchanged yet.
fn start(name: &str, settings: Value) -> Result<Cluster> {
    let cluster = ordinary(name).agents(encrypting(settings)).start()?;
    cluster.serve()?;
    cluster.apply(&web().over(cluster.web_pods()))?;
    Ok(cluster)
}

/// A serving pod of another node than that of `asker`.
fn remote(cluster: &Cluster) -> Result<&Pod> {
    let here = cluster.pod("asker")?.node_name();
    let found = cluster.web_pods().find(|pod| pod.node_name() != here);
    found.with_context(|| format!("all pods are on {here}"))
}

/// One request from `place`, which must be answered soon.
fn ask_from(place: &Place, address: IpAddr) -> Result<()> {
    let traffic = place.http(address, HTTP_PORT).requests(1);
    let report = traffic.timeout(Duration::from_millis(500)).run()?;
    ensure!(
        report.failed == 0,
        "{} to {address}: {:?}",
        place.name(),
        report.failures.0
    );
    Ok(())
}

/// One request from `asker`.
fn ask(cluster: &Cluster, address: IpAddr) -> Result<()> {
    ask_from(cluster.pod("asker")?, address)
}

/// Fails if `address` answers `place`.
fn must_not_answer(place: &Place, address: IpAddr) -> Result<()> {
    if ask_from(place, address).is_ok() {
        bail!("{address} answered {}", place.name());
    }
    Ok(())
}

/// Waits until `place` gets an answer from all of `addresses`.
fn wait_for_answers(place: &Place, addresses: impl IntoIterator<Item = IpAddr>) -> Result<()> {
    for address in addresses {
        wait::until(&format!("{address} to answer"), SOON, || {
            ask_from(place, address)
        })?;
    }
    Ok(())
}

/// Exchanges the nodes' keys, and waits until `asker` reaches the other node in both families.
fn connect(cluster: &Cluster) -> Result<()> {
    cluster.distribute_keys()?;
    wait_for_answers(cluster.pod("asker")?, remote(cluster)?.address().both())
}

/// Hands the nodes' records on as they change, as the API server of a cluster does, while `action`
/// runs.
pub fn while_records_are_passed_on<T>(
    cluster: &Cluster,
    action: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                // The action fails if it needs what could not be passed on.
                let _ = cluster.mirror_keys();
                thread::sleep(Duration::from_millis(50));
            }
        });
        let result = action();
        done.store(true, Ordering::SeqCst);
        result
    })
}

/// Looks at all that passes by the wire of `node2`, outside of the node.
fn look(cluster: &Cluster) -> Result<Capture> {
    cluster.underlay().capture("node2")
}

/// Packets between the nodes: fails if one could be read, or fewer than `at_least` were encrypted.
fn assert_unreadable(cluster: &Cluster, captured: &Captured, at_least: usize) -> Result<()> {
    ensure!(captured.left_out == 0, "the capture overflowed");
    let between = captured.between(&cluster.nodes_on_wire()?, WIREGUARD_PORT);
    ensure!(
        between.readable.is_empty(),
        "{} readable packets:\n{}",
        between.readable.len(),
        BetweenNodes::shown(&between.readable)
    );
    let encrypted = between.wireguard.len();
    ensure!(
        encrypted >= at_least,
        "{encrypted} encrypted packets where {at_least} were expected"
    );
    Ok(())
}

/// Likewise for packets from or to pods. Without a device the kernel of a node answers WireGuard's
/// messages with ICMP, which is nobody's secret.
fn assert_pods_unreadable(cluster: &Cluster, captured: &Captured, at_least: usize) -> Result<()> {
    ensure!(captured.left_out == 0, "the capture overflowed");
    let pods = cluster.pods().iter().flat_map(|pod| pod.address().both());
    let pods: Vec<_> = pods.collect();
    let between = captured.between(&cluster.nodes_on_wire()?, WIREGUARD_PORT);
    let readable = between.readable_of(&pods);
    ensure!(readable.is_empty(), "{}", BetweenNodes::shown(&readable));
    let encrypted = between.wireguard.len();
    ensure!(encrypted >= at_least, "{encrypted} encrypted packets");
    Ok(())
}

/// Waits until the agent of `node` reports a problem with all of `words`.
fn wait_for_problem(node: &Node, words: &[&str]) -> Result<()> {
    wait::until(
        &format!("{} to report {words:?}", node.name()),
        SOON,
        || {
            let problems = node.agent()?.status()?.problems();
            let is_it = |problem: &String| words.iter().all(|word| problem.contains(word));
            ensure!(problems.iter().any(is_it), "{problems:?}");
            Ok(())
        },
    )
}

/// Restarts the agent of a node with another configuration.
pub fn restart_with(node: &Node, config: &AgentConfig) -> Result<()> {
    let agent = node.agent()?;
    agent.configure(config)?;
    agent.stop()?;
    agent.start()
}

/// The text of the record that `node` has published.
fn record(node: &Node) -> Result<String> {
    let file = format!("{}.yaml", node.name());
    let path = node.agent()?.manifests().join("published").join(file);
    wait::until("the record", SOON, || {
        std::fs::read_to_string(&path).context("read it")
    })
}

/// A key in the record that `node` has published, by its annotation.
fn published_key(node: &Node, annotation: &str) -> Result<Option<String>> {
    let record: Value = serde_yaml_ng::from_str(&record(node)?).context("read the record")?;
    let annotations = &record["metadata"]["annotations"];
    Ok(annotations[annotation].as_str().map(str::to_owned))
}

const KEY: &str = "weir.dev/wireguard-public-key";

/// A record of the node `name` with this key.
fn record_of(name: &str, key: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  annotations:\n    {KEY}: \"{key}\"\n"
    )
}
