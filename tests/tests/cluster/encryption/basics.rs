//! Encryption from the first packet on, without an agent, and gone without a trace.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weir_tests::plan::UPLINK;
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::wait;

use super::{
    DEVICE, DROPPED, assert_unreadable, connect, look, must_not_answer, remote, start,
    wait_for_answers,
};
use crate::setting::{HTTP, SOON, ordinary, wait_for_web};

/// Of the agents' own routes.
const TABLE: &str = "51871";

#[test]
fn nothing_between_pods_of_two_nodes_can_be_read_on_the_wire() -> Result<()> {
    let cluster = start("encrypted", Value::Null)?;
    let capture = look(&cluster)?;
    let remote = remote(&cluster)?;

    // Before the nodes know each other's keys nothing passes, encrypted or not.
    for address in remote.address().both() {
        must_not_answer(cluster.pod("asker")?, address)?;
    }
    connect(&cluster)?;
    for address in remote.address().both() {
        let requests = cluster.pod("asker")?.http(address, HTTP_PORT).requests(200);
        let report = requests.run()?;
        ensure!(report.failed == 0, "{:?}", report.failures.0);
    }

    // From outside by way of node1 to pods of node2, and back.
    wait_for_web(&cluster)?;
    for vip in cluster.vips(0) {
        let requests = cluster.client("client")?.http(vip, HTTP).requests(200);
        let report = requests.run()?;
        assert_eq!((report.failed, report.backends.len()), (0, 4), "{report:?}");
    }

    assert_unreadable(&cluster, &capture.finish()?, 1_000)?;
    let status = cluster.node("node1")?.agent()?.status()?;
    let dropped = status.counter(DROPPED);
    ensure!(
        dropped > 0,
        "what was tried before keys were known is counted: {}",
        status.0
    );
    Ok(())
}

#[test]
fn encryption_goes_on_without_an_agent_and_over_its_restart() -> Result<()> {
    let cluster = start("enc-restart", Value::Null)?;
    connect(&cluster)?;
    let remote = remote(&cluster)?.address().both();
    let capture = look(&cluster)?;
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
    assert_unreadable(&cluster, &capture.finish()?, 400)
}

/// While encryption is switched on, one of two nodes is the first to lead packets to the other's pods into
/// its device. The other one has no route back into its own yet.
#[test]
fn what_a_peer_encrypts_arrives_where_no_route_leads_back_to_it() -> Result<()> {
    let cluster = start("enc-oneway", json!({ "strictMode": { "enabled": false } }))?;
    let loose = format!("net.ipv4.conf.{UPLINK}.rp_filter=2");
    for node in cluster.nodes() {
        node.output("sysctl", &["-w", &loose])?;
    }
    connect(&cluster)?;
    let asker = cluster.pod("asker")?;
    let remote = remote(&cluster)?;
    let other = cluster.node(remote.node_name())?;
    for node in cluster.nodes() {
        wait::until("routes into the device", SOON, || {
            let routes = node.output("ip", &["route", "show", "table", TABLE])?;
            ensure!(routes.contains(DEVICE), "{routes}");
            Ok(())
        })?;
    }
    other.agent()?.kill9()?;
    for family in ["-4", "-6"] {
        other.output("ip", &[family, "route", "flush", "table", TABLE])?;
    }
    for address in remote.address().both() {
        let report = asker.http(address, HTTP_PORT).requests(20).run()?;
        assert_eq!(report.failed, 0, "{report:?}");
    }
    Ok(())
}

/// Someone removes the device, or its process is killed with all others of the agent's container.
#[test]
fn a_device_that_is_lost_is_made_again() -> Result<()> {
    let cluster = start("enc-lost", Value::Null)?;
    connect(&cluster)?;
    let node1 = cluster.node("node1")?;
    let capture = look(&cluster)?;
    let device = || node1.output("ip", &["link", "show", DEVICE]);
    let before = device()?;
    node1.output("ip", &["link", "delete", DEVICE])?;
    let asker = cluster.pod("asker")?;
    let addresses = remote(&cluster)?.address().both();
    wait_for_answers(asker, addresses)?;
    ensure!(device()? != before, "it is another one");
    for address in addresses {
        let report = asker.http(address, HTTP_PORT).requests(50).run()?;
        ensure!(report.failed == 0, "{report:?}");
    }
    assert_unreadable(&cluster, &capture.finish()?, 200)
}

/// As systemd-networkd does when it starts or a link changes.
#[test]
fn rules_that_others_remove_come_back_at_once() -> Result<()> {
    /// A fifth of what it takes to look at them from time to time.
    const SOON_ENOUGH: Duration = Duration::from_millis(400);
    const TIMES: u32 = 5;
    let cluster = start("enc-rules", Value::Null)?;
    connect(&cluster)?;
    let node1 = cluster.node("node1")?;
    let of_family = |family| node1.output("ip", &[family, "rule", "show"]);
    let rules = || anyhow::Ok([of_family("-4")?, of_family("-6")?]);
    let before = rules()?;
    ensure!(before.iter().all(|it| it.contains(TABLE)), "{before:?}");
    let mut took = Duration::ZERO;
    for _ in 0..TIMES {
        for family in ["-4", "-6"] {
            node1.ip(&format!("{family} rule flush protocol 119"))?;
        }
        let removed = Instant::now();
        wait::until("the rules to be back", SOON, || {
            let now = rules()?;
            ensure!(now == before, "{now:?}");
            Ok(())
        })?;
        took += removed.elapsed();
    }
    ensure!(took < wait::patiently(SOON_ENOUGH * TIMES), "{took:?}");
    wait_for_answers(cluster.pod("asker")?, remote(&cluster)?.address().both())
}

/// Two nodes with different secrets have no session; with the same one they have.
#[test]
fn nodes_with_different_secrets_do_not_talk() -> Result<()> {
    let path = "/run/weir/secret";
    let settings = json!({ "wireguard": { "presharedSecretFile": path } });
    let builder = ordinary("enc-secret").agents(super::encrypting(settings));
    let cluster = builder.agents_later().start()?;
    cluster.serve()?;
    let secret = |node: &str, text: &str| -> Result<()> {
        let agent = cluster.node(node)?.agent()?;
        Ok(std::fs::write(agent.directory().join("secret"), text)?)
    };
    secret("node1", "the secret of a cluster, thirty-two bytes")?;
    secret("node2", "the secret of another, thirty-two bytes.")?;
    let capture = look(&cluster)?;
    cluster.start_agents()?;
    cluster.distribute_keys()?;
    let asker = cluster.pod("asker")?;
    let addresses = remote(&cluster)?.address().both();
    let node1 = cluster.node("node1")?;
    // Once packets are encrypted for it; nothing is due from a peer that nobody sends to.
    wait::until("node2 to be missed", SOON * 2, || {
        must_not_answer(asker, addresses[0])?;
        let problems = node1.agent()?.status()?.problems();
        let missed = |it: &String| it.contains("Node node2") && it.contains("does not answer");
        ensure!(problems.iter().any(missed), "{problems:?}");
        Ok(())
    })?;
    for address in addresses {
        must_not_answer(asker, address)?;
    }

    let agent = cluster.node("node2")?.agent()?;
    agent.stop()?;
    secret("node2", "the secret of a cluster, thirty-two bytes")?;
    agent.start()?;
    wait_for_answers(asker, addresses)?;
    assert_unreadable(&cluster, &capture.finish()?, 20)
}
