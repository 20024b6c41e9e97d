//! Encrypted traffic of pods past the nodes' stacks.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_tests::cluster::Node;
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::{Cluster, plan};

use super::{assert_unreadable, connect, encrypting, look, remote, restart_with, start};
use crate::setting::{DATAGRAMS, HTTP, wait_for_web};

/// Requests of each measurement; each is some ten packets.
const REQUESTS: u32 = 200;
/// Packets that a stack may pass on meanwhile, such as errors of what the nodes themselves send.
const STRAYS: u64 = 20;

#[test]
fn with_bpf_the_nodes_stacks_pass_nothing_on() -> Result<()> {
    let cluster = start("enc-past-stack", json!({ "hostRouting": "bpf" }))?;
    connect(&cluster)?;
    wait_for_web(&cluster)?;
    let capture = look(&cluster)?;
    let before = passed_on(&cluster)?;
    let asker = cluster.pod("asker")?;
    for address in remote(&cluster)?.address().both() {
        let report = asker.http(address, HTTP_PORT).requests(REQUESTS).run()?;
        ensure!(report.failed == 0, "{report:?}");
    }
    let during = passed_on(&cluster)? - before;
    ensure!(during <= STRAYS, "the stacks passed {during} packets on");

    // Services by name of their ClusterIP, and from outside by way of the other node.
    for address in plan::cluster_ip(0).both() {
        let report = asker.http(address, HTTP).requests(60).run()?;
        ensure!(
            (report.failed, report.backends.len()) == (0, 4),
            "{report:?}"
        );
    }
    for vip in cluster.vips(0) {
        let report = cluster.client("client")?.udp(vip, DATAGRAMS).requests(60);
        let report = report.run()?;
        ensure!(
            (report.failed, report.backends.len()) == (0, 4),
            "{report:?}"
        );
    }
    // A kill and a restart change nothing.
    let agent = cluster.node("node1")?.agent()?;
    agent.kill9()?;
    for address in remote(&cluster)?.address().both() {
        let report = asker.http(address, HTTP_PORT).requests(50).run()?;
        ensure!(report.failed == 0, "without an agent: {report:?}");
    }
    agent.start()?;
    // Each node by itself, and back by the stack.
    restart_with(cluster.node("node1")?, &encrypting(Value::Null))?;
    for address in remote(&cluster)?.address().both() {
        let report = asker.http(address, HTTP_PORT).requests(50).run()?;
        ensure!(report.failed == 0, "by the stack of one: {report:?}");
    }
    assert_unreadable(&cluster, &capture.finish()?, 2_000)
}

/// What the measurement above is held against.
#[test]
fn with_kernel_the_nodes_stacks_pass_all_on() -> Result<()> {
    let cluster = start("enc-by-stack", Value::Null)?;
    connect(&cluster)?;
    let before = passed_on(&cluster)?;
    for address in remote(&cluster)?.address().both() {
        let asker = cluster.pod("asker")?;
        let report = asker.http(address, HTTP_PORT).requests(REQUESTS).run()?;
        ensure!(report.failed == 0, "{report:?}");
    }
    let during = passed_on(&cluster)? - before;
    let least = u64::from(REQUESTS) * 4;
    ensure!(during > least, "the stacks passed {during} packets on");
    Ok(())
}

/// Packets that the stacks of all nodes have passed on.
fn passed_on(cluster: &Cluster) -> Result<u64> {
    cluster.nodes().iter().map(passed_on_by).sum()
}

fn passed_on_by(node: &Node) -> Result<u64> {
    let shown = node.output("cat", &["/proc/net/snmp", "/proc/net/snmp6"])?;
    Ok(column(&shown, "Ip:", "ForwDatagrams")? + line(&shown, "Ip6OutForwDatagrams")?)
}

/// Of two lines that begin with `group`: names, and their values.
fn column(shown: &str, group: &str, name: &str) -> Result<u64> {
    let mut lines = shown.lines().filter_map(|line| line.strip_prefix(group));
    let names = lines.next().context("a line of names")?;
    let values = lines.next().context("a line of values")?;
    let found = names.split_whitespace().position(|it| it == name);
    let value = values.split_whitespace().nth(found.context("the name")?);
    Ok(value.context("a value")?.parse()?)
}

fn line(shown: &str, name: &str) -> Result<u64> {
    let mut found = shown.lines().filter_map(|line| line.strip_prefix(name));
    Ok(found.next().context("the name")?.trim().parse()?)
}
