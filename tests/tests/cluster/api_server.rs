//! Agents that take everything from a real API server.
//!
//! It runs in the underlay, where nodes reach it like a machine of its own. Nodes, Pods, Services and
//! slices are objects that these tests write; the pods are those of the cluster.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_tests::agent::AgentConfig;
use weir_tests::cluster::{Node, Pod};
use weir_tests::control_plane::{self, Client};
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::{Cluster, ControlPlane, plan, wait};

use crate::setting::{ECHO, HTTP, SOON, backends, ordinary, try_once, wait_for_web, web};

/// The client whose connections spread over all nodes.
const EVERYWHERE: &str = "everywhere";
/// How long nodes may take to see that the API server is back: their longest pause is half a minute.
pub const BACK: Duration = Duration::from_mins(1);
/// What is told of an API server that is away.
const AWAY: &str = "cannot be followed since";
/// What is told of what is served before an API server answered.
const LAST_SEEN: &str = "the cluster as it was when last seen";

/// Three nodes whose agents follow the API server, and the service `web` over their pods.
pub fn start(name: &str, config: AgentConfig) -> Result<(Cluster, ControlPlane)> {
    let cluster = ordinary(name)
        .nodes(3)
        .client_of_all_nodes(EVERYWHERE)
        .agents(config.following_api_server())
        .agents_later()
        .start()?;
    cluster.serve()?;
    let control_plane = ControlPlane::builder().in_cluster(&cluster).start()?;
    control_plane.admit(&cluster)?;
    control_plane.describe(&cluster)?;
    control_plane.apply(&web().over(cluster.web_pods()))?;
    cluster.start_agents()?;
    wait_for_web(&cluster)?;
    Ok((cluster, control_plane))
}

/// Requests through all nodes: all must be answered, and by exactly these.
pub fn must_reach(cluster: &Cluster, vip: IpAddr, expected: &BTreeSet<SocketAddr>) -> Result<()> {
    let traffic = cluster.client(EVERYWHERE)?.http(vip, HTTP).requests(200);
    let report = traffic.parallel(4).run()?;
    let reached: BTreeSet<_> = report.backends.keys().copied().collect();
    ensure!(
        report.failed == 0 && reached == *expected,
        "{vip}: {report:?}"
    );
    Ok(())
}

fn must_reach_all(cluster: &Cluster) -> Result<()> {
    let mut vips = cluster.vips(0).into_iter();
    vips.try_for_each(|vip| must_reach(cluster, vip, &backends(cluster, vip, HTTP_PORT)))
}

fn pods_of<'a>(cluster: &'a Cluster, node: &'a str) -> impl Iterator<Item = &'a Pod> {
    cluster
        .web_pods()
        .filter(move |pod| pod.node_name() == node)
}

/// Has the API server name only the pods of `node`, and waits until all nodes act on it.
fn move_to(cluster: &Cluster, control_plane: &ControlPlane, node: &str) -> Result<()> {
    control_plane.apply(&web().over(pods_of(cluster, node)))?;
    for (family, vip) in cluster.vips(0).into_iter().enumerate() {
        let addresses = pods_of(cluster, node).map(|pod| pod.address().both()[family]);
        let expected = addresses.map(|ip| SocketAddr::new(ip, HTTP_PORT)).collect();
        wait::until(&format!("{vip} to be that of {node}'s pods"), BACK, || {
            must_reach(cluster, vip, &expected)
        })?;
    }
    Ok(())
}

/// The object of a node.
pub fn object_of(client: &Client, node: &Node) -> Result<Value> {
    client.object(&format!("/api/v1/nodes/{}", node.name()))
}

/// The condition `WeirReady` of a node's object.
pub fn condition(object: &Value) -> Option<&Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|one| one["type"] == "WeirReady")
}

/// Waits until all objects of nodes say that they are ready, and which version runs there.
fn wait_for_records(cluster: &Cluster, client: &Client) -> Result<()> {
    for node in cluster.nodes() {
        wait::until(&format!("the record of {}", node.name()), SOON, || {
            let object = object_of(client, node)?;
            let is_ready = condition(&object).is_some_and(|it| it["status"] == "True");
            let version = &object["metadata"]["annotations"]["weir.dev/version"];
            ensure!(is_ready && version.is_string(), "{object:#}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Waits until `weir status` on `node` has these words.
fn wait_for_words(node: &Node, words: &str) -> Result<()> {
    wait::until(&format!("{} to say {words:?}", node.name()), SOON, || {
        let output = node.agent()?.weir_output(&["status"])?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(text.contains(words), "{text}");
        Ok(())
    })
}

#[test]
fn what_the_api_server_tells_is_served_on_all_nodes_and_followed() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let (cluster, control_plane) = start("apiserver", AgentConfig::default())?;
    let client = control_plane.client();
    must_reach_all(&cluster)?;
    for address in plan::cluster_ip(0).both() {
        let requests = cluster.pod("asker")?.http(address, HTTP).requests(100);
        let report = requests.run()?;
        assert_eq!((report.failed, report.backends.len()), (0, 6), "{report:?}");
    }
    wait_for_records(&cluster, &client)?;

    move_to(&cluster, &control_plane, "node3")?;
    let ingress = cluster.vips(1).map(|vip| json!({ "ip": vip }));
    client.patch(
        "/api/v1/namespaces/default/services/web/status",
        &json!({ "status": { "loadBalancer": { "ingress": ingress } } }),
    )?;
    for (before, after) in cluster.vips(0).into_iter().zip(cluster.vips(1)) {
        wait::until("the new address", SOON, || try_once(&cluster, after, HTTP))?;
        wait::until_true("the old address to go", SOON, || {
            try_once(&cluster, before, HTTP).is_err()
        })?;
    }
    client.delete("/api/v1/namespaces/default/services/web")?;
    wait::until_true("the Service to go", SOON, || {
        try_once(&cluster, cluster.vips(1)[0], HTTP).is_err()
    })
}

#[test]
fn without_the_api_server_nodes_serve_on_over_a_kill_and_a_reboot() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let (cluster, mut control_plane) = start("apiaway", AgentConfig::default())?;
    let [node1, node2] = [cluster.node("node1")?, cluster.node("node2")?];
    wait_for_records(&cluster, &control_plane.client())?;
    wait_for_last_good_state(&cluster, node1)?;
    wait_for_last_good_state(&cluster, node2)?;
    let client = cluster.client("client")?;
    let streams = cluster.vips(0).map(|vip| client.stream(vip, ECHO).start());

    control_plane.kill_api_server();
    for node in cluster.nodes() {
        wait_for_words(node, AWAY)?;
    }
    must_reach_all(&cluster)?;
    node1.agent()?.kill9()?;
    must_reach_all(&cluster)?;
    node1.agent()?.start()?;
    wait_for_words(node1, LAST_SEEN)?;
    must_reach_all(&cluster)?;
    for stream in streams {
        for report in stream?.stop()? {
            ensure!(report.error.is_none() && report.rounds > 0, "{report:?}");
        }
    }

    // A reboot leaves nothing in the kernel: what is served after it comes from the files alone.
    node2.agent()?.kill9()?;
    node2.forget_data_plane()?;
    let traffic = cluster.client(EVERYWHERE)?.http(cluster.vips(0)[0], HTTP);
    let traffic = traffic.requests(30).parallel(10);
    let report = traffic.timeout(Duration::from_millis(300)).run()?;
    ensure!(report.failed > 0, "node2 has forgotten: {report:?}");
    node2.agent()?.start()?;
    ensure!(!node2.agent()?.status()?.is_adopted(), "it began anew");
    wait_for_words(node2, LAST_SEEN)?;
    must_reach_all(&cluster)?;

    control_plane.start_api_server()?;
    move_to(&cluster, &control_plane, "node3")?;
    wait_for_content(&cluster)?;
    wait_for_records(&cluster, &control_plane.client())
}

/// Waits until no node has anything to complain about.
pub fn wait_for_content(cluster: &Cluster) -> Result<()> {
    cluster.nodes().iter().try_for_each(|node| {
        wait::until(&format!("{} to be content", node.name()), BACK, || {
            let problems = node.agent()?.status()?.problems();
            ensure!(problems.is_empty(), "{problems:?}");
            Ok(())
        })
    })
}

/// Waits until the agent has written all kinds to its files, with the backends of `web`.
fn wait_for_last_good_state(cluster: &Cluster, node: &Node) -> Result<()> {
    let folder = node.agent()?.directory().join("state/kubernetes");
    let what = format!("the last good state of {}", node.name());
    wait::until(&what, SOON, || {
        let read = |kind: &str| {
            let path = folder.join(format!("{kind}.jsonl"));
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        for kind in ["Namespace", "Node", "Pod"] {
            read(kind)?;
        }
        let (services, slices) = (read("Service")?, read("EndpointSlice")?);
        for ip in cluster.web_pods().flat_map(|pod| pod.address().both()) {
            ensure!(slices.contains(&format!("\"{ip}\"")), "{ip}: {slices}");
        }
        for ip in cluster.vips(0) {
            ensure!(services.contains(&format!("\"{ip}\"")), "{ip}: {services}");
        }
        Ok(())
    })
}

/// Agents that serve the API server's own ClusterIP reach it by the address that they are given: also
/// when nothing of Weir is left in the kernel, so that nobody serves that ClusterIP.
#[test]
fn the_api_server_is_not_reached_by_the_cluster_ip_that_agents_serve() -> Result<()> {
    const CLUSTER_IP: &str = "10.96.0.1";
    const PORT: u16 = 443;
    if !control_plane::is_available() {
        return Ok(());
    }
    let told_to_pods = AgentConfig::default().following_api_server();
    let cluster = ordinary("apiownip").agents(told_to_pods.clone());
    let cluster = cluster.agents_later().start()?;
    cluster.serve()?;
    let control_plane = ControlPlane::builder().in_cluster(&cluster).start()?;
    control_plane.admit_at(&cluster, CLUSTER_IP, PORT)?;
    control_plane.describe(&cluster)?;
    let [node1, node2] = [
        cluster.node("node1")?.agent()?,
        cluster.node("node2")?.agent()?,
    ];
    let pod = cluster.pod("asker")?;
    // The way back to pods, for which a CNI plugin would masquerade.
    for (node, plan) in cluster.nodes().iter().zip(&cluster.plan().nodes) {
        let via = node.address().v4.to_string();
        for range in plan.pod_ranges.iter().filter(|range| range.contains('.')) {
            let route = ["route", "add", range, "via", &via];
            cluster.underlay().output("ip", &route)?;
        }
    }
    // An API server that is spoken to in plain HTTP says that this is no way.
    let reaches = || -> Result<()> {
        let traffic = pod.http(CLUSTER_IP.parse()?, PORT).requests(1);
        let report = traffic.timeout(Duration::from_millis(500)).run()?;
        let mut said = report.failures.0.keys();
        let answered = said.any(|it| it.contains("400 Bad Request"));
        ensure!(answered, "{:?}", report.failures.0);
        Ok(())
    };

    node1.launch()?;
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        ensure!(
            !node1.status().is_ok_and(|it| it.is_synced()),
            "by which way?"
        );
        thread::sleep(Duration::from_millis(200));
    }
    ensure!(reaches().is_err(), "nobody serves {CLUSTER_IP}");
    node1.stop()?;

    let mut with_address = told_to_pods;
    let (host, port) = (control_plane.host(), control_plane.port());
    with_address.source["kubernetes"]["apiServer"] = json!({ "host": host, "port": port });
    for agent in [node1, node2] {
        agent.configure(&with_address)?;
    }
    cluster.start_agents()?;
    wait::until("a pod to reach the API server", SOON, reaches)?;

    // As after a reboot, with no file of an earlier agent either.
    for node in cluster.nodes() {
        node.agent()?.kill9()?;
        node.forget_data_plane()?;
        fs::remove_dir_all(node.agent()?.directory().join("state")).context("forget the state")?;
    }
    ensure!(reaches().is_err(), "nobody serves {CLUSTER_IP} again");
    cluster.start_agents()?;
    wait::until("a pod to reach the API server again", SOON, reaches)
}
