//! What operators are told of encryption: who is encrypted, what left in clear text, a new key.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use weir_tests::agent::{Agent, AgentConfig};
use weir_tests::cluster::Pod;
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::{Cluster, wait};

use crate::setting::{SOON, ordinary, scrape};

/// Until a node is known not to answer: ten seconds after something was sent, on a busy machine.
const LONG: Duration = Duration::from_mins(1);

/// Exit codes of `weir`.
const DEGRADED: i32 = 5;
const CLEAR_TEXT: i32 = 6;

fn start(name: &str, settings: Value) -> Result<Cluster> {
    let config = AgentConfig {
        encryption: true,
        encryption_settings: settings,
        ..AgentConfig::default()
    };
    let cluster = ordinary(name).agents(config).start()?;
    cluster.serve()?;
    Ok(cluster)
}

/// A serving pod of node2.
fn remote(cluster: &Cluster) -> Result<&Pod> {
    let mut pods = cluster.web_pods();
    pods.find(|pod| pod.node_name() == "node2")
        .context("no pod on node2")
}

/// One request from the pod `asker` of node1.
fn ask(cluster: &Cluster, address: IpAddr) -> Result<()> {
    let traffic = cluster.pod("asker")?.http(address, HTTP_PORT).requests(1);
    let report = traffic.timeout(Duration::from_millis(500)).run()?;
    ensure!(report.failed == 0, "{:?}", report.failures.0);
    Ok(())
}

/// Exit code of `weir encrypt` with these arguments, and what it prints.
fn encrypt(agent: &Agent, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let arguments: Vec<_> = [&["encrypt"], arguments].concat();
    let output = agent.weir_output(&arguments)?;
    let text = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
    Ok((output.status.code(), text))
}

/// The same, as JSON, whatever the exit code.
fn encrypt_json(agent: &Agent, command: &str) -> Result<Value> {
    let output = agent.weir_output(&["encrypt", command, "-o", "json"])?;
    serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))
}

/// The element of a list that is about node2.
fn of_node2<'a>(list: &'a Value, field: &str) -> Result<&'a Value> {
    let mut all = list.as_array().into_iter().flatten();
    all.find(|one| one[field] == "node2")
        .with_context(|| format!("node2 is not in {list}"))
}

/// What went from here to node2 by a path, in bytes.
fn bytes(agent: &Agent, path: &str) -> Result<u64> {
    let report = encrypt_json(agent, "report")?;
    let rows = report["rows"].as_array().into_iter().flatten();
    let row = rows
        .filter(|row| row["node"] == "node2" && row["path"] == path)
        .map(|row| row["bytes"].as_str().unwrap_or_default().parse::<u64>());
    Ok(row.sum::<Result<u64, _>>()?)
}

#[test]
fn operators_see_who_is_encrypted_and_that_nothing_left_in_clear_text() -> Result<()> {
    let cluster = start("enc-visible", Value::Null)?;
    let agent = cluster.node("node1")?.agent()?;
    let addresses = remote(&cluster)?.address().both();

    // Without keys the node is named, and what was tried is accounted for.
    for address in addresses {
        ensure!(ask(&cluster, address).is_err(), "{address} answered");
    }
    let (code, text) = encrypt(agent, &["status"])?;
    assert_eq!(code, Some(DEGRADED), "{text}");
    ensure!(text.contains("1 nodes have no key"), "{text}");
    ensure!(text.contains("node2   no key"), "{text}");
    ensure!(bytes(agent, "dropped")? > 0);

    cluster.distribute_keys()?;
    for address in addresses {
        wait::until("node2 to be a peer", SOON, || ask(&cluster, address))?;
    }
    let status = encrypt_json(agent, "status")?;
    let node = of_node2(&status["nodes"], "name")?;
    assert_eq!(node["standing"], "NODE_STANDING_PEER", "{status}");
    wait::until("the handshake to be told", SOON, || {
        let (code, text) = encrypt(agent, &["status"])?;
        ensure!(code == Some(0), "{text}");
        ensure!(text.contains("peer        handshake "), "{text}");
        ensure!(!text.contains("none yet"), "{text}");
        Ok(())
    })?;
    let backend = &status["device"]["backend"];
    ensure!(backend != "ENCRYPTION_BACKEND_UNSPECIFIED", "{status}");

    let peers = encrypt_json(agent, "peers")?;
    let peer = of_node2(&peers["peers"], "node")?;
    ensure!(
        peer["endpoint"]
            .as_str()
            .is_some_and(|it| it.ends_with(":51871")),
        "{peers}"
    );
    ensure!(
        peer["allowed_ips"]
            .as_array()
            .is_some_and(|it| it.len() >= 2),
        "{peers}"
    );

    let (code, text) = encrypt(agent, &["report", "--fail-on-clear"])?;
    assert_eq!(code, Some(0), "{text}");
    ensure!(
        text.starts_with("Nothing left in clear text.")
            || text.starts_with("Nothing of pods left in clear text."),
        "{text}"
    );
    ensure!(bytes(agent, "encrypted")? > 0, "{text}");
    let screen = agent.weir(&["status"])?;
    ensure!(
        screen.contains("device weir_wg0, 1 of 1 nodes are peers, strict"),
        "{screen}"
    );

    let metrics = wait::until("the handshake to be in the metrics", SOON, || {
        let metrics = scrape(&cluster, "node1", "/metrics")?;
        let fresh = "weir_encryption_peers{handshake=\"fresh\"} 1.0";
        ensure!(metrics.contains(fresh), "{metrics}");
        Ok(metrics)
    })?;
    for sample in [
        "weir_encryption_nodes{standing=\"peer\"} 1.0",
        "weir_encryption_in_step 1.0",
        "weir_agent_ready 1.0",
        "weir_encryption_traffic_bytes_total{node=\"node2\",path=\"encrypted\"}",
    ] {
        ensure!(metrics.contains(sample), "{sample}: {metrics}");
    }
    ensure!(scrape(&cluster, "node1", "/readyz")?.ends_with("ready\n"));
    Ok(())
}

#[test]
fn clear_text_is_reported_with_its_reason_when_strict_mode_is_off() -> Result<()> {
    let cluster = start("enc-clear", json!({ "strictMode": { "enabled": false } }))?;
    let agent = cluster.node("node1")?.agent()?;
    for address in remote(&cluster)?.address().both() {
        wait::until("a pod without a key to answer", SOON, || {
            ask(&cluster, address)
        })?;
    }
    let (code, text) = encrypt(agent, &["report", "--fail-on-clear"])?;
    assert_eq!(code, Some(CLEAR_TEXT), "{text}");
    ensure!(text.starts_with("IN CLEAR TEXT: "), "{text}");
    ensure!(
        text.contains("encryption.strictMode.enabled is false"),
        "{text}"
    );
    ensure!(bytes(agent, "clear_not_strict")? > 0, "{text}");
    // In a quiet moment nothing more leaves.
    let (code, text) = encrypt(agent, &["report", "--fail-on-clear", "--during", "1s"])?;
    assert_eq!(code, Some(0), "{text}");
    Ok(())
}

#[test]
fn a_new_key_comes_into_use_without_a_failed_request() -> Result<()> {
    // Long enough for what is asked meanwhile.
    let grace = wait::patiently(Duration::from_secs(8)).as_secs();
    let settings = json!({ "wireguard": { "rotationGrace": format!("{grace}s") } });
    let cluster = start("enc-rotate", settings)?;
    cluster.distribute_keys()?;
    let agent = cluster.node("node1")?.agent()?;
    let address = remote(&cluster)?.address().both()[0];
    wait::until("node2 to be a peer", SOON, || ask(&cluster, address))?;
    let before = encrypt_json(agent, "status")?["public_key"].clone();

    let requests = cluster.pod("asker")?.load(address, HTTP_PORT, 20).start()?;
    let new_key = std::thread::scope(|scope| {
        let rotate = scope.spawn(|| encrypt(agent, &["rotate-key", "--wait"]));
        let rotation = wait::until("the new key to be announced", SOON, || {
            let rotation = encrypt_json(agent, "status")?["rotation"].clone();
            ensure!(rotation.is_object(), "none under way");
            Ok(rotation)
        })?;
        assert_eq!(rotation["old_public_key"], before);
        let (code, text) = encrypt(agent, &["rotate-key"])?;
        assert_eq!(code, Some(1), "{text}");
        ensure!(text.contains("is being replaced already"), "{text}");
        cluster.distribute_keys()?;
        let (code, text) = rotate.join().expect("no panic")?;
        assert_eq!(code, Some(0), "{text}");
        ensure!(text.contains("The new key is in use."), "{text}");
        anyhow::Ok(rotation["new_public_key"].clone())
    })?;
    let status = encrypt_json(agent, "status")?;
    assert_eq!(status["public_key"], new_key);
    cluster.distribute_keys()?;
    wait::until("node2 to forget the old key", SOON, || {
        let peers = encrypt_json(cluster.node("node2")?.agent()?, "peers")?;
        let keys: Vec<_> = peers["peers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|peer| peer["public_key"].clone())
            .collect();
        ensure!(keys == [new_key.clone()], "{peers}");
        Ok(())
    })?;
    let report = requests.stop()?;
    ensure!(report.connections > 60, "{report:?}");
    assert_eq!(report.failed, 0, "{report:?}");
    Ok(())
}

#[test]
fn a_node_that_does_not_answer_is_told() -> Result<()> {
    let cluster = start("enc-silent", Value::Null)?;
    let agent = cluster.node("node1")?.agent()?;
    let address = remote(&cluster)?.address().both()[0];
    // A key that is nobody's.
    let record = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": "node2",
            "annotations": { "weir.dev/wireguard-public-key": "eHh4".repeat(10) + "eHg=" },
        },
    });
    let path = agent.manifests().join("published/node2.yaml");
    std::fs::write(path, record.to_string())?;
    wait::until("node2 to be known not to answer", LONG, || {
        ensure!(ask(&cluster, address).is_err(), "{address} answered");
        let (code, text) = encrypt(agent, &["status"])?;
        ensure!(code == Some(DEGRADED), "{text}");
        ensure!(text.contains("1 nodes do not answer"), "{text}");
        ensure!(text.contains("NEVER, does not answer"), "{text}");
        Ok(())
    })?;
    let screen = agent.weir_output(&["status"])?;
    let screen = String::from_utf8(screen.stdout)?;
    ensure!(screen.contains("1 DO NOT ANSWER"), "{screen}");
    let metrics = scrape(&cluster, "node1", "/metrics")?;
    let sample = "weir_encryption_peers{handshake=\"never\"} 1.0";
    ensure!(metrics.contains(sample), "{metrics}");
    Ok(())
}
