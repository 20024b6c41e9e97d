//! Tunnels of the kernel between the nodes of a cluster, without agents: what encryption and
//! encapsulation build on works on a kernel before they are tested there.
//!
//! Needs kernel WireGuard, which the machines of `cargo xtask vm` have; see `tests/vm/suites.json`.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use weir_tests::Cluster;
use weir_tests::binary::{self, Binary};
use weir_tests::capture::packet::UDP;
use weir_tests::cluster::Node;
use weir_tests::traffic::server::{HTTP_PORT, UDP_PORT};

/// Name of the tunnel's device on each node.
const DEVICE: &str = "tunnel";
const WIREGUARD_PORT: u16 = 51820;
const VXLAN_PORT: u16 = 4789;
/// Addresses of the two nodes in the tunnel.
const ENDS: [[&str; 2]; 2] = [["192.0.2.1", "fd07::1"], ["192.0.2.2", "fd07::2"]];
/// Where a node keeps its key; `/run` is its own.
const KEY: &str = "/run/wireguard.key";

#[test]
fn wireguard_carries_pods_traffic_between_nodes() -> Result<()> {
    let cluster = cluster("wg")?;
    let [one, two] = nodes(&cluster)?;
    if let Err(error) = one.ip(&format!("link add {DEVICE} type wireguard")) {
        println!("SKIPPED: no kernel WireGuard: {error:#}");
        return Ok(());
    }
    two.ip(&format!("link add {DEVICE} type wireguard"))?;
    let keys = [one.make_wireguard_key(KEY)?, two.make_wireguard_key(KEY)?];
    for (node, peer, key) in [(one, two, &keys[1]), (two, one, &keys[0])] {
        let endpoint = format!("{}:{WIREGUARD_PORT}", peer.address().v4);
        let allowed = peer.pod_ranges().join(",");
        let port = WIREGUARD_PORT.to_string();
        let set = ["set", DEVICE, "listen-port", &port, "private-key", KEY];
        let of_peer = ["peer", key, "endpoint", &endpoint, "allowed-ips", &allowed];
        node.output("wg", &[&set[..], &of_peer].concat())?;
    }
    assert_carries(&cluster, WIREGUARD_PORT)
}

#[test]
fn vxlan_carries_pods_traffic_between_nodes() -> Result<()> {
    let cluster = cluster("vxlan")?;
    let [one, two] = nodes(&cluster)?;
    for (node, peer) in [(one, two), (two, one)] {
        let (local, remote) = (node.address().v4, peer.address().v4);
        node.ip(&format!(
            "link add {DEVICE} type vxlan id 7 local {local} remote {remote} \
                 dstport {VXLAN_PORT}"
        ))?;
    }
    assert_carries(&cluster, VXLAN_PORT)
}

fn cluster(name: &str) -> Result<Cluster> {
    binary::announce(Binary::Traffic, env!("CARGO_BIN_EXE_weir-traffic"));
    let cluster = Cluster::builder(name)
        .nodes(2)
        .pods_per_node(1)
        .without_agents()
        .start()?;
    cluster.serve()?;
    Ok(cluster)
}

fn nodes(cluster: &Cluster) -> Result<[&Node; 2]> {
    Ok([cluster.node("node1")?, cluster.node("node2")?])
}

/// Leads the traffic between the nodes' pods through the tunnel, and finds all of it there.
fn assert_carries(cluster: &Cluster, port: u16) -> Result<()> {
    let [one, two] = nodes(cluster)?;
    for (node, [own4, own6]) in [(one, ENDS[0]), (two, ENDS[1])] {
        node.ip(&format!("addr add {own4}/24 dev {DEVICE}"))?;
        node.ip(&format!("addr add {own6}/64 dev {DEVICE} nodad"))?;
        node.ip(&format!("link set {DEVICE} up"))?;
    }
    for (node, peer, gateways) in [(one, two, ENDS[1]), (two, one, ENDS[0])] {
        for (range, gateway) in peer.pod_ranges().iter().zip(gateways) {
            node.ip(&format!("route replace {range} via {gateway} dev {DEVICE}"))?;
        }
    }
    let (from, to) = (cluster.pod("web-1")?, cluster.pod("web-2")?);
    let capture = cluster.underlay().capture("node1")?;
    for address in to.address().both() {
        let report = from.http(address, HTTP_PORT).requests(20).run()?;
        assert_eq!(report.failed, 0, "{report:?}");
        assert!(seen_as(&report.clients, from.address().both()));
        let report = from.udp(address, UDP_PORT).requests(20).run()?;
        assert_eq!(report.failed, 0, "{report:?}");
        assert!(seen_as(&report.clients, from.address().both()));
    }
    let captured = capture.finish()?;
    let inside = captured.matching(|s| s.protocol == UDP && s.destination.port() == port);
    // A request and an answer of TCP are more packets, which makes up for some that were merged.
    ensure!(
        inside.len() >= 160,
        "{} packets in the tunnel",
        inside.len()
    );
    let pods = [from.address(), to.address()];
    let beside = captured.matching(|s| pods.iter().any(|pod| pod.contains(s.destination.ip())));
    assert!(beside.is_empty(), "{} beside the tunnel", beside.len());
    Ok(())
}

/// True if the server saw the pod itself.
fn seen_as<'a>(clients: impl IntoIterator<Item = &'a IpAddr>, pod: [IpAddr; 2]) -> bool {
    clients.into_iter().all(|client| pod.contains(client))
}
