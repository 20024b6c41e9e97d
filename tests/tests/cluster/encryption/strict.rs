//! What must not leave in clear text does not, whatever is not known yet.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_tests::cluster::Node;
use weir_tests::manifest;
use weir_tests::wait;

use super::{
    DEVICE, DROPPED, WIREGUARD_PORT, ask_from, assert_pods_unreadable, assert_unreadable, connect,
    encrypting, look, must_not_answer, remote, start, wait_for_answers,
};
use crate::setting::{SOON, ordinary};

/// Pods start before the agent knows anything: no Node, no pod, no peer, only the settings.
#[test]
fn the_first_packet_of_a_pod_is_guarded_before_any_node_is_known() -> Result<()> {
    let ranges = ["10.244.0.0/16", "fd00:10:244::/48"];
    let settings = json!({ "strictMode": { "podCidrs": ranges } });
    let cluster = ordinary("enc-first").agents(encrypting(settings)).start()?;
    cluster.serve()?;
    let node1 = cluster.node("node1")?;
    let agent = node1.agent()?;
    let capture = look(&cluster)?;
    agent.stop()?;
    forget_everything(node1)?;
    let folder = agent.manifests();
    let manifests = HiddenFolder::hide(&folder)?;
    agent.launch()?;
    wait_for_programs(node1)?;
    let asker = cluster.pod("asker")?;
    let addresses = remote(&cluster)?.address().both();
    // Node2 drops its answers as well; here the question is seen to be dropped.
    let before = agent.status()?.counter(DROPPED);
    for address in addresses {
        must_not_answer(asker, address)?;
    }
    let dropped = agent.status()?.counter(DROPPED);
    ensure!(
        dropped > before,
        "{dropped} packets dropped, {before} before"
    );
    ensure!(!agent.status()?.is_synced(), "nothing could be read yet");
    let flows = agent.weir(&[
        "observe",
        "--last",
        "50",
        "-o",
        "json",
        "--verdict",
        "DROPPED",
    ])?;
    ensure!(flows.contains("UNENCRYPTED_TRAFFIC"), "{flows}");

    manifests.show()?;
    agent.wait_ready()?;
    connect(&cluster)?;
    assert_unreadable(&cluster, &capture.finish()?, 10)
}

/// As after a reboot: no pin, device, rule or route is left, and the source cannot be read. The
/// ranges that were known before are guarded all the same.
#[test]
fn ranges_known_before_a_reboot_are_guarded_after_it() -> Result<()> {
    let cluster = start("enc-reboot", Value::Null)?;
    connect(&cluster)?;
    let node1 = cluster.node("node1")?;
    let agent = node1.agent()?;
    let capture = look(&cluster)?;
    agent.kill9()?;
    forget_everything(node1)?;
    let folder = agent.manifests();
    let manifests = HiddenFolder::hide(&folder)?;
    agent.launch()?;
    wait_for_programs(node1)?;
    ensure!(!agent.status()?.is_synced(), "the source cannot be read");
    let asker = cluster.pod("asker")?;
    let addresses = remote(&cluster)?.address().both();
    for address in addresses {
        must_not_answer(asker, address)?;
    }
    let dropped = agent.status()?.counter(DROPPED);
    ensure!(dropped > 0, "its packets are dropped, not just lost");
    // What stays on the node is nobody else's concern.
    let here = cluster.web_pods().find(|pod| pod.node_name() == "node1");
    wait_for_answers(asker, here.context("a pod of node1")?.address().both())?;

    manifests.show()?;
    agent.wait_ready()?;
    connect(&cluster)?;
    assert_pods_unreadable(&cluster, &capture.finish()?, 10)
}

/// One family is allowed to go in clear text while there are no peers, the other is not.
#[test]
fn allowed_ranges_are_the_only_exception() -> Result<()> {
    let settings = json!({ "strictMode": { "allowedCidrs": ["10.244.0.0/16"] } });
    let cluster = start("enc-allowed", settings)?;
    let asker = cluster.pod("asker")?;
    let [v4, v6] = remote(&cluster)?.address().both();
    let capture = look(&cluster)?;
    wait_for_answers(asker, [v4])?;
    must_not_answer(asker, v6)?;
    let captured = capture.finish()?;
    let between = captured.between(&cluster.nodes_on_wire()?, WIREGUARD_PORT);
    ensure!(
        !between.readable_of(&[v4]).is_empty(),
        "it was in clear text"
    );
    assert_eq!(between.readable_of(&[v6]).len(), 0, "this was not");

    // With peers everything is encrypted, allowed or not.
    connect(&cluster)?;
    let capture = look(&cluster)?;
    wait_for_answers(asker, [v4, v6])?;
    assert_unreadable(&cluster, &capture.finish()?, 10)
}

/// The object of a node goes, and those of its pods: they may live on, and the CNI's routes to them.
#[test]
fn the_range_of_a_node_that_is_gone_stays_guarded() -> Result<()> {
    let cluster = start("enc-gone", Value::Null)?;
    connect(&cluster)?;
    let node1 = cluster.node("node1")?;
    let agent = node1.agent()?;
    let asker = cluster.pod("asker")?;
    let addresses = remote(&cluster)?.address().both();
    let plan = cluster.plan();
    let here: Vec<_> = plan
        .pods
        .iter()
        .filter(|pod| pod.node == 0)
        .cloned()
        .collect();
    let capture = look(&cluster)?;
    cluster.apply(&manifest::members(&plan.nodes[..1], &here))?;
    wait::until("node2 to be no peer", SOON, || {
        let peers = node1.output("wg", &["show", DEVICE, "peers"])?;
        ensure!(peers.is_empty(), "{peers}");
        Ok(())
    })?;
    for restarted in [false, true] {
        if restarted {
            agent.kill9()?;
            agent.start()?;
        }
        let before = agent.status()?.counter(DROPPED);
        for address in addresses {
            must_not_answer(asker, address)?;
        }
        ensure!(
            agent.status()?.counter(DROPPED) > before,
            "they are dropped"
        );
    }
    cluster.apply(&manifest::members(&plan.nodes, &plan.pods))?;
    wait_for_answers(asker, addresses)?;
    assert_pods_unreadable(&cluster, &capture.finish()?, 10)
}

/// A pod reaches no node in clear text either.
#[test]
fn a_pod_does_not_reach_another_node_before_it_is_a_peer() -> Result<()> {
    let cluster = start("enc-to-node", Value::Null)?;
    let node2 = cluster.node("node2")?;
    node2.serve()?;
    let asker = cluster.pod("asker")?;
    let capture = look(&cluster)?;
    for address in node2.address().both() {
        must_not_answer(asker, address)?;
    }
    connect(&cluster)?;
    wait_for_answers(asker, node2.address().both())?;
    assert_unreadable(&cluster, &capture.finish()?, 10)?;
    // What the node itself sends is not asked to be encrypted.
    ask_from(cluster.node("node1")?, node2.address().v4.into())
}

/// Without the device nothing leads from pods to another node. At the uplink it would be too late: what
/// the CNI has masqueraded is the node's own there.
#[test]
fn without_the_device_pods_have_no_way_to_another_node() -> Result<()> {
    let cluster = start("enc-no-device", Value::Null)?;
    let [node1, node2] = [cluster.node("node1")?, cluster.node("node2")?];
    node2.serve()?;
    connect(&cluster)?;
    let asker = cluster.pod("asker")?;
    wait_for_answers(asker, node2.address().both())?;
    node1.agent()?.kill9()?;
    let capture = look(&cluster)?;
    let interface = interface_of(node1, asker.address().v4.into())?;
    for (from, to) in asker
        .address()
        .both()
        .into_iter()
        .zip(node2.address().both())
    {
        let lookup = way(node1, from, to, &interface)?;
        ensure!(lookup.contains(DEVICE), "{lookup}");
    }
    node1.output("ip", &["link", "delete", DEVICE])?;
    for (from, to) in asker
        .address()
        .both()
        .into_iter()
        .zip(node2.address().both())
    {
        must_not_answer(asker, to)?;
        let lookup = way(node1, from, to, &interface);
        ensure!(lookup.is_err(), "{to} is still reached: {lookup:?}");
    }
    // The node's own packets are not asked to be encrypted, and go as before.
    ask_from(node1, node2.address().v4.into())?;
    assert_pods_unreadable(&cluster, &capture.finish()?, 0)?;
    node1.agent()?.start()?;
    wait_for_answers(asker, node2.address().both())
}

/// What the node's routes say of packets that come in by an interface.
fn way(node: &Node, from: IpAddr, to: IpAddr, interface: &str) -> Result<String> {
    let [from, to] = [from, to].map(|it| it.to_string());
    node.output(
        "ip",
        &["route", "get", &to, "from", &from, "iif", interface],
    )
}

/// The node's interface that leads to an address.
fn interface_of(node: &Node, address: IpAddr) -> Result<String> {
    let route = node.output("ip", &["route", "get", &address.to_string()])?;
    let mut words = route.split_whitespace().skip_while(|word| *word != "dev");
    let name = words
        .nth(1)
        .with_context(|| format!("no device in {route}"))?;
    Ok(name.to_owned())
}

/// Removes what a reboot removes.
fn forget_everything(node: &Node) -> Result<()> {
    let remove = format!(
        "ip link delete {DEVICE} || true
         for family in -4 -6; do
             ip $family route flush table 51871 || true
             ip $family rule show | sed -n 's/^\\([0-9]*\\):.*proto 119.*/\\1/p' |
                 while read -r priority; do ip $family rule delete priority $priority; done
         done"
    );
    node.forget_data_plane()?;
    node.output("sh", &["-c", &remove]).map(drop)?;
    for family in ["-4", "-6"] {
        let rules = node.output("ip", &[family, "rule", "show"])?;
        ensure!(!rules.contains("51871"), "{rules}");
    }
    wait::until("the device to be gone", SOON, || {
        let links = node.output("ip", &["-br", "link", "show"])?;
        ensure!(!links.contains(DEVICE), "{links}");
        Ok(())
    })?;
    // The agent's copies of the source, which a broken disk may have cost.
    let copies = node.agent()?.directory().join("state/manifests");
    if copies.exists() {
        fs::remove_dir_all(&copies).context("remove the copies")?;
    }
    Ok(())
}

/// Waits until the programs of a starting agent are at work.
fn wait_for_programs(node: &Node) -> Result<()> {
    wait::until("programs at the uplink and the pods", SOON * 3, || {
        let status = node.agent()?.status()?;
        let attached = status.0["datapath"]["interfaces"].as_array();
        let count = attached.map_or(0, Vec::len);
        let pods = 1 + 2;
        ensure!(count > pods, "{count} interfaces");
        Ok(())
    })
}

/// A folder that is not where it is looked for.
struct HiddenFolder<'a> {
    path: &'a Path,
    hidden: std::path::PathBuf,
}

impl<'a> HiddenFolder<'a> {
    fn hide(path: &'a Path) -> Result<Self> {
        let hidden = path.with_extension("hidden");
        fs::rename(path, &hidden).context("hide a folder")?;
        Ok(Self { path, hidden })
    }

    fn show(self) -> Result<()> {
        // The agent publishes its key there in the meantime.
        if self.path.exists() {
            fs::remove_dir_all(self.path).context("remove what took its place")?;
        }
        fs::rename(&self.hidden, self.path).context("show a folder")
    }
}
