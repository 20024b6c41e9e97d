//! `weir connectivity test` in a cluster that works, and in ones where something does not.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_connectivity::Check;
use weir_tests::agent::AgentConfig;
use weir_tests::binary::{self, Binary};
use weir_tests::cluster::Node;
use weir_tests::connectivity::{Checked, PORT, command};
use weir_tests::manifest::Service;
use weir_tests::{Cluster, plan, wait};

use crate::setting::{SOON, ordinary};

/// Exit codes of the command.
const FAILED: i32 = 1;
const COULD_NOT_RUN: i32 = 2;

/// Checks that a cluster without a DNS cannot run; see `names.rs` for one with it.
const SKIPPED: [&str; 1] = ["dns"];

/// Two nodes with two servers and a pod that asks on each, and a client outside.
pub fn start(name: &str, config: AgentConfig) -> Result<Cluster> {
    binary::announce(Binary::Cluster, env!("CARGO_BIN_EXE_weir-cluster"));
    let cluster = ordinary(name).pod_on(2, "asker-2").agents(config).start()?;
    cluster.apply(&echo().over(cluster.web_pods()))?;
    await_service(&cluster, "echo", "4/4")?;
    Ok(cluster)
}

fn encrypting() -> AgentConfig {
    AgentConfig {
        encryption: true,
        ..AgentConfig::default()
    }
}

/// A service at all kinds of addresses.
pub fn echo() -> Service {
    Service::new("echo")
        .cluster_ip(plan::cluster_ip(0))
        .external(plan::vip(0).both())
        .tcp("tcp", 80, PORT)
        .node_port(30080)
        .udp("udp", 80, PORT)
        .node_port(30081)
}

/// Waits until all agents balance a service over so many of its backends.
pub fn await_service(cluster: &Cluster, name: &str, backends: &str) -> Result<()> {
    for node in cluster.nodes() {
        wait::until(&format!("{name} on {}", node.name()), SOON, || {
            let text = node.agent()?.weir(&["service", "list"])?;
            let mut rows = text
                .lines()
                .filter(|row| row.contains(&format!(" {name} ")));
            ensure!(rows.any(|row| row.contains(backends)), "{text}");
            Ok(())
        })?;
    }
    Ok(())
}

fn check(cluster: &Cluster, arguments: &[&str]) -> Result<Checked> {
    let services = vec![echo().described(cluster.web_pods())];
    cluster.check_connectivity(services, arguments)
}

/// Results of the kind `passed`, `failed` or `skipped`.
pub fn of_kind<'a>(results: &'a [Value], kind: &str) -> Vec<&'a Value> {
    results
        .iter()
        .filter(|result| result["result"] == kind)
        .collect()
}

fn checks(results: &[&Value]) -> BTreeSet<String> {
    let names = results.iter().filter_map(|result| result["check"].as_str());
    names.map(str::to_owned).collect()
}

/// Nothing has failed, just `skipped` was skipped, and the others of so many `checks` have passed.
fn assert_all_pass(checked: &Checked, skipped: &[&str], checks_run: usize) -> Result<()> {
    let results = checked.results()?;
    let failed = of_kind(&results, "failed");
    ensure!(failed.is_empty(), "{failed:#?}");
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let expected: BTreeSet<_> = skipped.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(
        checks(&of_kind(&results, "skipped")),
        expected,
        "{results:#?}"
    );
    let passed = checks(&of_kind(&results, "passed"));
    assert_eq!(passed.len(), checks_run - skipped.len(), "{passed:?}");
    for how in ["TCP IPv4", "TCP IPv6", "UDP IPv4", "UDP IPv6"] {
        ensure!(
            results.iter().any(|result| result["how"] == how),
            "nothing was tried over {how}"
        );
    }
    Ok(())
}

#[test]
fn all_of_it_works_in_a_cluster_that_works() -> Result<()> {
    let cluster = start("conn", AgentConfig::default())?;
    let started = Instant::now();
    let checked = check(&cluster, &["-o", "json"])?;
    println!(
        "{} results in {:?}",
        checked.results()?.len(),
        started.elapsed()
    );
    assert_all_pass(&checked, &["dns", "encryption"], Check::all().count())?;
    // Servers that the suite started have ended with it.
    let answers = cluster
        .pod("asker")?
        .http(cluster.vips(0)[0], 80)
        .requests(1);
    assert_eq!(answers.timeout(Duration::from_millis(300)).run()?.failed, 1);
    cluster.remove()
}

#[test]
fn all_of_it_works_encrypted_and_nothing_is_seen_on_the_wire() -> Result<()> {
    let cluster = start("conn-enc", encrypting())?;
    cluster.distribute_keys()?;
    cluster.nodes().iter().try_for_each(await_peer)?;
    let capture = cluster.underlay().capture("node2")?;
    let checked = check(
        &cluster,
        &["-o", "json", "--test", "pod-to-pod,encryption,flows"],
    )?;
    let captured = capture.finish()?;
    ensure!(captured.left_out == 0, "the capture overflowed");
    let between = captured.between(&cluster.nodes_on_wire()?, 51_871);
    ensure!(
        between.readable.is_empty(),
        "{} readable packets",
        between.readable.len()
    );
    ensure!(between.wireguard.len() > 100, "{}", between.wireguard.len());
    let results = checked.results()?;
    assert_eq!(of_kind(&results, "failed"), Vec::<&Value>::new());
    let encryption = of_kind(&results, "passed").into_iter();
    let encryption: Vec<_> = encryption
        .filter(|it| it["check"] == "encryption")
        .collect();
    assert_eq!(encryption.len(), 2, "of both nodes: {results:#?}");
    // Everything, with what nodes themselves say to pods, which may be in clear text.
    let checked = check(&cluster, &["-o", "json"])?;
    assert_all_pass(&checked, &SKIPPED, Check::all().count())?;
    cluster.remove()
}

/// Waits until a node knows the key of the other one.
fn await_peer(node: &Node) -> Result<()> {
    wait::until("the other node to be a peer", SOON, || {
        let status = node.agent()?.weir(&["encrypt", "status"])?;
        ensure!(!status.contains("no key"), "{status}");
        Ok(())
    })
}

#[test]
fn a_service_that_leads_to_nobody_is_the_one_that_fails() -> Result<()> {
    let cluster = start("conn-broken", AgentConfig::default())?;
    let broken = Service::new("broken")
        .cluster_ip(plan::cluster_ip(1))
        .tcp("tcp", 80, PORT + 1);
    cluster.apply(&broken.over(cluster.web_pods()))?;
    await_service(&cluster, "broken", "4/4")?;
    let services = || {
        let echo = echo().described(cluster.web_pods());
        vec![echo, broken.described(cluster.web_pods())]
    };
    let tests = [
        "--test",
        "pod-to-pod,pod-to-service,node-port-from-outside,flows",
    ];

    let checked =
        cluster.check_connectivity(services(), &[&tests[..], &["-o", "json"]].concat())?;
    assert_eq!(checked.code, Some(FAILED), "{}", checked.stderr);
    let results = checked.results()?;
    let failed = of_kind(&results, "failed");
    // Two pods, two families.
    assert_eq!(failed.len(), 4, "{failed:#?}");
    for result in &failed {
        assert_eq!(result["check"], "pod-to-service", "{result:#}");
        assert_eq!(result["to"], "default/broken", "{result:#}");
        ensure!(result["why"].to_string().contains("refused"), "{result:#}");
        // Where the questions went, and that they were let through: it is the pod that refuses.
        let flows = result["flows"].as_array().context("flows")?;
        let is_question = |flow: &Value| {
            flow["source"]["pod_name"] == result["from"]
                && flow["l4"]["TCP"]["destination_port"] == PORT + 1
                && flow["verdict"] == "FORWARDED"
        };
        ensure!(flows.iter().any(is_question), "{result:#}");
    }
    let passed = checks(&of_kind(&results, "passed"));
    assert_eq!(passed.len(), 4, "the others pass: {passed:?}");

    let checked = cluster.check_connectivity(services(), &tests)?;
    assert_eq!(checked.code, Some(FAILED), "{}", checked.stderr);
    println!("{}", checked.stdout);
    for words in [
        "default/broken",
        "FAILED, 2 of 2",
        "Connection refused",
        "default/asker:",
        &format!(":{}", PORT + 1),
        "4 failed",
    ] {
        ensure!(
            checked.stdout.contains(words),
            "{words:?} is not in\n{}",
            checked.stdout
        );
    }
    ensure!(
        checked.stderr.ends_with("weir: 4 checks failed\n"),
        "{}",
        checked.stderr
    );
    cluster.remove()
}

#[test]
fn what_is_dropped_is_shown_with_its_reason() -> Result<()> {
    // Keys are not exchanged: what would leave for pods of the other node in clear text is dropped.
    let cluster = start("conn-drop", encrypting())?;
    let arguments = [
        "-o",
        "json",
        "--test",
        "pod-to-pod,flows",
        "--timeout",
        "300ms",
    ];
    let checked = check(&cluster, &arguments)?;
    assert_eq!(checked.code, Some(FAILED), "{}", checked.stderr);
    let results = checked.results()?;
    let failed = of_kind(&results, "failed");
    // Two pods, two servers of the other node, four ways.
    assert_eq!(failed.len(), 2 * 2 * 4, "{failed:#?}");
    for result in failed {
        assert_eq!(result["check"], "pod-to-pod", "{result:#}");
        ensure!(
            result["to"].to_string().contains("(other node)"),
            "{result:#}"
        );
        let flows = result["flows"].as_array().context("flows")?;
        let is_drop = |flow: &Value| {
            flow["verdict"] == "DROPPED" && flow["drop_reason_desc"] == "UNENCRYPTED_TRAFFIC"
        };
        ensure!(flows.iter().any(is_drop), "{result:#}");
    }
    let passed = of_kind(&results, "passed");
    ensure!(
        !passed.is_empty(),
        "servers of the same node are reached: {results:#?}"
    );
    cluster.remove()
}

#[test]
fn what_cannot_be_run_is_told_from_what_fails() -> Result<()> {
    let cluster = start("conn-cannot", AgentConfig::default())?;
    let services = || vec![echo().described(cluster.web_pods())];
    let mut inventory = cluster.inventory(services())?;
    inventory.clients[0].command = vec!["/nowhere/weir".into()];
    let file = cluster.record().directory().join("missing.yaml");
    std::fs::write(&file, json!(inventory).to_string())?;
    let path = file.display().to_string();
    let checked = Checked::from(command(&["--inventory", &path])?.output()?);
    assert_eq!(checked.code, Some(COULD_NOT_RUN), "{checked:?}");
    ensure!(
        checked.stderr.contains("node1: /nowhere/weir"),
        "{checked:?}"
    );

    inventory.services[0].servers.push("web-9".into());
    std::fs::write(&file, json!(inventory).to_string())?;
    let checked = Checked::from(command(&["--inventory", &path])?.output()?);
    assert_eq!(checked.code, Some(COULD_NOT_RUN), "{checked:?}");
    ensure!(
        checked.stderr.contains("there is no server web-9"),
        "{checked:?}"
    );

    // An agent that is gone cannot show flows, and what it balances goes on.
    cluster.node("node2")?.agent()?.kill9()?;
    let checked = check(&cluster, &["-o", "json", "--test", "pod-to-service,flows"])?;
    assert_eq!(checked.code, Some(FAILED), "{checked:?}");
    let results = checked.results()?;
    let failed = of_kind(&results, "failed");
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert_eq!(
        (&failed[0]["check"], &failed[0]["from"]),
        (&json!("flows"), &json!("node2"))
    );
    ensure!(
        failed[0]["why"].to_string().contains("no agent answers"),
        "{failed:#?}"
    );
    cluster.remove()
}
