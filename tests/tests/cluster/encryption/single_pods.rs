//! Beside a CNI whose pods are not in the ranges that Nodes name: they are known one by one.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_tests::cluster::{Node, Pod};
use weir_tests::manifest::{self, Manifest};
use weir_tests::plan::PodPlan;
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::{Cluster, Place, wait};

use super::{
    DEVICE, DROPPED, assert_unreadable, connect, encrypting, look, must_not_answer,
    wait_for_answers,
};
use crate::setting::{HTTP, SOON, ordinary, web};

/// The pod of node2 that is not known at first.
const LATE: &str = "web-4";

#[test]
fn pods_of_nodes_without_ranges_are_encrypted_one_by_one() -> Result<()> {
    one_by_one("enc-single", |_| json!({}))
}

/// As Kubernetes hands ranges out and Calico's IPAM has its own; and each node has pods in the other's.
#[test]
fn pods_outside_of_their_nodes_ranges_are_encrypted_one_by_one() -> Result<()> {
    one_by_one("enc-elsewhere", |node| {
        let number = if node == "node1" { 2 } else { 1 };
        let ranges = [
            format!("10.244.{number}.0/24"),
            format!("fd00:10:244:{number}::/64"),
        ];
        json!({ "podCIDR": ranges[0], "podCIDRs": ranges })
    })
}

fn one_by_one(name: &str, spec_of_node: impl Fn(&str) -> Value) -> Result<()> {
    // As the guide says: the ranges of the whole cluster are guarded before a pod is known.
    let settings = json!({ "strictMode": { "podCidrs": ["10.244.0.0/16", "fd00:10:244::/48"] } });
    let builder = ordinary(name).agents(encrypting(settings));
    let cluster = builder.agents_later().start()?;
    let pods = &cluster.plan().pods;
    let known_first: Vec<PodPlan> = pods.iter().filter(|it| it.name != LATE).cloned().collect();
    cluster.apply(&members(&cluster, &known_first, &spec_of_node))?;
    cluster.start_agents()?;
    cluster.serve()?;
    let capture = look(&cluster)?;
    connect(&cluster)?;

    let node1 = cluster.node("node1")?;
    let (late, others) = pods_of_node2(&cluster)?;
    let expected = addresses_of(&others);
    ensure!(
        allowed_singles(node1)? == expected,
        "{:?}",
        allowed_singles(node1)?
    );
    let ranges = cluster.node("node2")?.pod_ranges();
    let allowed = node1.output("wg", &["show", DEVICE, "allowed-ips"])?;
    ensure!(
        ranges.iter().all(|range| !allowed.contains(range.as_str())),
        "{allowed}"
    );

    // Through a Service too, and from a client outside, whose backends' answers come back this way.
    cluster.apply(&web().over(others.iter().copied()))?;
    let asker = cluster.pod("asker")?;
    wait::until("the service to be known", SOON, || {
        for place in [asker, cluster.client("client")? as &Place] {
            for vip in cluster.vips(0) {
                let report = place.http(vip, HTTP).requests(20).run()?;
                ensure!(
                    report.failed == 0 && report.backends.len() == others.len(),
                    "{report:?}"
                );
            }
        }
        Ok(())
    })?;
    for address in others.iter().flat_map(|pod| pod.address().both()) {
        let report = asker.http(address, HTTP_PORT).requests(20).run()?;
        ensure!(report.failed == 0, "{address}: {report:?}");
    }

    // One that is not known is out of reach, and nothing for it leaves.
    let dropped = || anyhow::Ok(node1.agent()?.status()?.counter(DROPPED));
    let must_be_dropped = || {
        let before = dropped()?;
        for address in late.address().both() {
            must_not_answer(asker, address)?;
        }
        ensure!(
            dropped()? > before,
            "its packets are dropped, not just lost"
        );
        Ok(())
    };
    must_be_dropped()?;

    // It comes, and goes again.
    cluster.apply(&members(&cluster, pods, &spec_of_node))?;
    wait_for_answers(asker, late.address().both())?;
    cluster.apply(&members(&cluster, &known_first, &spec_of_node))?;
    wait::until("the pod to be no peer's", SOON, || {
        let allowed = allowed_singles(node1)?;
        ensure!(allowed == expected, "{allowed:?}");
        Ok(())
    })?;
    must_be_dropped()?;
    wait_for_answers(asker, expected)?;
    assert_unreadable(&cluster, &capture.finish()?, 200)
}

/// The members of the cluster with `pods`, its Nodes as `spec_of_node` says.
fn members(cluster: &Cluster, pods: &[PodPlan], spec_of_node: impl Fn(&str) -> Value) -> Manifest {
    let mut members = manifest::members(&cluster.plan().nodes, pods);
    for node in members
        .documents
        .iter_mut()
        .filter(|it| it["kind"] == "Node")
    {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        node["spec"] = spec_of_node(name);
    }
    members
}

/// The one that is not known at first, and the others.
fn pods_of_node2(cluster: &Cluster) -> Result<(&Pod, Vec<&Pod>)> {
    let pods = cluster
        .pods()
        .iter()
        .filter(|pod| pod.node_name() == "node2");
    let (late, others): (Vec<_>, Vec<_>) = pods.partition(|pod| pod.name() == LATE);
    Ok((late.first().copied().context("the late pod")?, others))
}

fn addresses_of(pods: &[&Pod]) -> Vec<IpAddr> {
    let mut addresses: Vec<_> = pods.iter().flat_map(|pod| pod.address().both()).collect();
    addresses.sort_unstable();
    addresses
}

/// The pods whose single addresses the peer of a node may use, in order.
fn allowed_singles(node: &Node) -> Result<Vec<IpAddr>> {
    let nodes = node.output("wg", &["show", DEVICE, "allowed-ips"])?;
    let prefixes = nodes.split_whitespace().skip(1);
    let singles =
        prefixes.filter_map(|prefix| prefix.strip_suffix("/32").or(prefix.strip_suffix("/128")));
    let mut pods: Vec<IpAddr> = singles
        .filter(|address| address.starts_with("10.244.") || address.starts_with("fd00:10:244:"))
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    pods.sort_unstable();
    Ok(pods)
}
