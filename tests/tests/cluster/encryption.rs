//! Traffic between pods of different nodes, seen by someone on the wire between them.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use weir_tests::agent::AgentConfig;
use weir_tests::capture::Captured;
use weir_tests::cluster::Pod;
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::{Cluster, wait};

use crate::setting::{HTTP, SOON, ordinary, wait_for_web, web};

/// UDP port of the nodes' devices.
const WIREGUARD_PORT: u16 = 51_871;

fn start(name: &str) -> Result<Cluster> {
    let config = AgentConfig {
        encryption: true,
        ..AgentConfig::default()
    };
    let cluster = ordinary(name).agents(config).start()?;
    cluster.serve()?;
    cluster.apply(&web().over(cluster.web_pods()))?;
    Ok(cluster)
}

/// A serving pod of the other node than that of `asker`.
fn remote(cluster: &Cluster) -> Result<&Pod> {
    let here = cluster.pod("asker")?.node_name();
    let found = cluster.web_pods().find(|pod| pod.node_name() != here);
    found.ok_or_else(|| anyhow::anyhow!("all pods are on {here}"))
}

/// One request from `asker`.
fn ask(cluster: &Cluster, address: IpAddr) -> Result<()> {
    let traffic = cluster.pod("asker")?.http(address, HTTP_PORT).requests(1);
    let report = traffic.timeout(Duration::from_millis(500)).run()?;
    ensure!(report.failed == 0, "{:?}", report.failures.0);
    Ok(())
}

/// Packets between the nodes' underlay addresses that are encrypted, and packets with the address
/// of a pod that someone on the wire can read.
fn encrypted_and_clear(cluster: &Cluster, captured: &Captured) -> (usize, usize) {
    let encrypted = captured.matching(|it| it.destination.port() == WIREGUARD_PORT);
    let pods: Vec<IpAddr> = cluster
        .pods()
        .iter()
        .flat_map(|pod| pod.address().both())
        .collect();
    let clear = captured
        .matching(|it| pods.contains(&it.source.ip()) || pods.contains(&it.destination.ip()));
    (encrypted.len(), clear.len())
}

#[test]
fn nothing_between_pods_of_two_nodes_can_be_read_on_the_wire() -> Result<()> {
    let cluster = start("encrypted")?;
    let capture = cluster.node("node2")?.capture("eth0")?;
    let remote = remote(&cluster)?;

    // Before the nodes know each other's keys nothing passes, encrypted or not.
    for address in remote.address().both() {
        ensure!(
            ask(&cluster, address).is_err(),
            "{address} answered in clear text"
        );
    }
    cluster.distribute_keys()?;
    for address in remote.address().both() {
        wait::until(&format!("pod {address} to answer"), SOON, || {
            ask(&cluster, address)
        })?;
        let requests = cluster.pod("asker")?.http(address, HTTP_PORT).requests(200);
        let report = requests.run()?;
        ensure!(report.failed == 0, "{:?}", report.failures.0);
    }

    // From outside by way of node1 to pods of node2, and back.
    wait_for_web(&cluster)?;
    for vip in cluster.vips(0) {
        let report = cluster
            .client("client")?
            .http(vip, HTTP)
            .requests(200)
            .run()?;
        assert_eq!((report.failed, report.backends.len()), (0, 4), "{report:?}");
    }

    let (encrypted, clear) = encrypted_and_clear(&cluster, &capture.finish()?);
    assert_eq!(clear, 0, "packets of pods in clear text");
    ensure!(encrypted > 1_000, "{encrypted} encrypted packets");
    let status = cluster.node("node1")?.agent()?.status()?;
    let dropped = status.counter("drop_unencrypted");
    ensure!(
        dropped > 0,
        "what was tried before keys were known is counted: {}",
        status.0
    );
    Ok(())
}

#[test]
fn encryption_goes_on_without_an_agent_and_over_its_restart() -> Result<()> {
    let cluster = start("enc-restart")?;
    cluster.distribute_keys()?;
    let remote = remote(&cluster)?.address().both();
    for address in remote {
        wait::until(&format!("pod {address} to answer"), SOON, || {
            ask(&cluster, address)
        })?;
    }
    let capture = cluster.node("node2")?.capture("eth0")?;
    let agent = cluster.node("node1")?.agent()?;
    agent.kill9()?;
    for address in remote {
        let requests = cluster.pod("asker")?.http(address, HTTP_PORT).requests(100);
        assert_eq!(requests.run()?.failed, 0, "without an agent");
    }
    agent.start()?;
    for address in remote {
        let requests = cluster.pod("asker")?.http(address, HTTP_PORT).requests(100);
        assert_eq!(requests.run()?.failed, 0, "with a new agent");
    }
    let (encrypted, clear) = encrypted_and_clear(&cluster, &capture.finish()?);
    assert_eq!(clear, 0);
    ensure!(encrypted > 400, "{encrypted}");
    Ok(())
}

#[test]
fn uninstall_leaves_no_device_rule_route_or_key() -> Result<()> {
    let cluster = start("enc-uninstall")?;
    cluster.distribute_keys()?;
    let address = remote(&cluster)?.address().both()[0];
    wait::until("the pod to answer", SOON, || ask(&cluster, address))?;
    let node = cluster.node("node1")?;
    let agent = node.agent()?;
    agent.stop()?;
    let config = "/run/weir/agent.yaml";
    let output = agent
        .command()?
        .args(["uninstall", "--config", config])
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let links = node.output("ip", &["link", "show"])?;
    ensure!(!links.contains("weir"), "{links}");
    for family in ["-4", "-6"] {
        let rules = node.output("ip", &[family, "rule", "show"])?;
        ensure!(!rules.contains("51871"), "{rules}");
        let routes = node.output("ip", &[family, "route", "show", "table", "all"])?;
        ensure!(!routes.contains("51871"), "{routes}");
    }
    let left = std::fs::read_dir(agent.manifests().join("published"))?.count();
    assert_eq!(left, 1, "the record of the other node alone");
    ensure!(
        !agent.manifests().join("../state/encryption").exists(),
        "the key is gone"
    );
    Ok(())
}
