//! Beside the common ways in which CNI plugins wire pods: whatever they call the interfaces, pods are
//! found, and reach services and are reached as their backends.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_tests::agent::AgentConfig;
use weir_tests::plan::{self, PodWiring};
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::{Cluster, Place, wait};

use crate::setting::{DATAGRAMS, HTTP, SOON, backends, ordinary, start_with_web};

#[test]
fn pods_of_a_bridge_are_found_and_served() -> Result<()> {
    pods_are_found_and_served(&start_with_web(
        &ordinary("bridge").wiring(PodWiring::Bridge),
    )?)
}

#[test]
fn pods_behind_proxy_arp_are_found_and_served() -> Result<()> {
    pods_are_found_and_served(&start_with_web(
        &ordinary("proxyarp").wiring(PodWiring::ProxyArp),
    )?)
}

fn pods_are_found_and_served(cluster: &Cluster) -> Result<()> {
    for node in cluster.nodes() {
        let status = node.agent()?.status()?;
        let attached = status.0["datapath"]["interfaces"].to_string();
        for pod in cluster
            .pods()
            .iter()
            .filter(|it| it.node_name() == node.name())
        {
            let interface = pod.host_interface();
            ensure!(
                attached.contains(&format!("\"{interface}\"")),
                "{interface}: {attached}"
            );
        }
    }
    let (client, asker) = (cluster.client("client")?, cluster.pod("asker")?);
    let from_outside = cluster.vips(0).map(|vip| (&**client, vip));
    let from_a_pod = plan::cluster_ip(0).both().map(|ip| (&**asker, ip));
    for (place, address) in from_outside.into_iter().chain(from_a_pod) {
        let report = place.http(address, HTTP).requests(60).parallel(4).run()?;
        let reached: BTreeSet<SocketAddr> = report.backends.keys().copied().collect();
        ensure!(report.failed == 0, "{address}: {report:?}");
        assert_eq!(reached, backends(cluster, address, HTTP_PORT), "{address}");
    }
    Ok(())
}

/// From the moment a pod's interface is there until the programs are at it, packets of the pod to a
/// ClusterIP are translated by its sockets only.
#[test]
fn a_new_pod_is_attached_to_within_the_time_it_takes_to_start() -> Result<()> {
    const WITHIN: Duration = Duration::from_millis(250);
    let cluster = start_with_web(&ordinary("window"))?;
    let node = cluster.node("node1")?;
    // Whoever makes pods sees the namespaces of all.
    let network = node.network().to_path_buf();
    let maker = Place::new("plugin", network, None, node.cgroup().to_path_buf());
    let mut windows = Vec::new();
    for number in 0..10 {
        let interface = format!("new{number}");
        let namespace = cluster.pod("asker")?.network().display().to_string();
        let arguments = [
            "link", "add", &interface, "up", "type", "veth", "peer", "name",
        ];
        let peer = format!("peer{number}");
        let made = SystemTime::now();
        maker.output(
            "ip",
            &[&arguments[..], &[&peer, "netns", &namespace]].concat(),
        )?;
        let attached = wait::until("programs at the interface", SOON, || {
            attached_at(&fs::read_to_string(node.agent()?.log())?, &interface)
        })?;
        windows.push(attached.duration_since(made).unwrap_or_default());
    }
    windows.sort_unstable();
    println!("from the making of an interface to its programs: {windows:?}");
    let median = windows[windows.len() / 2];
    ensure!(median < wait::patiently(WITHIN), "{windows:?}");
    Ok(())
}

/// In that window, here for good: what a pod dials is translated by its sockets.
#[test]
fn a_pod_that_is_not_attached_to_yet_reaches_services() -> Result<()> {
    let config = AgentConfig {
        more: json!({ "devices": { "pods": ["no-such-pod"] } }),
        ..AgentConfig::default()
    };
    let cluster = start_with_web(&ordinary("unattached").agents(config))?;
    let asker = cluster.pod("asker")?;
    let status = cluster.node(asker.node_name())?.agent()?.status()?;
    let attached = status.0["datapath"]["interfaces"].to_string();
    ensure!(!attached.contains(asker.host_interface()), "{attached}");
    for address in plan::cluster_ip(0).both() {
        let report = asker.http(address, HTTP).requests(60).parallel(4).run()?;
        let reached: BTreeSet<SocketAddr> = report.backends.keys().copied().collect();
        ensure!(report.failed == 0, "{address}: {report:?}");
        assert_eq!(reached, backends(&cluster, address, HTTP_PORT), "{address}");
        let report = asker.udp(address, DATAGRAMS).requests(50).run()?;
        assert_eq!(report.failed, 0, "{address}: {report:?}");
    }
    Ok(())
}

/// When the agent's log says that it attached to an interface.
fn attached_at(log: &str, interface: &str) -> Result<SystemTime> {
    let words = format!("attached interface=\"{interface}\"");
    let line = log.lines().find(|line| line.contains(&words));
    let line = line.context("it is not attached to yet")?;
    let time: jiff::Timestamp = line.split(' ').next().unwrap_or_default().parse()?;
    Ok(time.into())
}
