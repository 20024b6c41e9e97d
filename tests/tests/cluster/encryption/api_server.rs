//! Keys that travel by the Node objects of a real API server.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use weir_tests::agent::{Agent, AgentConfig};
use weir_tests::cluster::{Node, Pod};
use weir_tests::control_plane;
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::wait;

use super::{KEY, ask_from, assert_unreadable, encrypting, look, remote, wait_for_answers};
use crate::api_server::{BACK, condition, must_reach, object_of, start};
use crate::setting::{SOON, backends};

#[test]
fn nodes_become_peers_by_their_objects_and_leave_nothing_there() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let (cluster, mut control_plane) = start("apikeys", encrypting(Value::Null))?;
    let client = control_plane.client();
    let asker = cluster.pod("asker")?;
    let remote = cluster
        .web_pods()
        .filter(|pod| pod.node_name() != asker.node_name());
    let remote: Vec<_> = remote.flat_map(|pod: &Pod| pod.address().both()).collect();
    let capture = look(&cluster)?;
    wait_for_answers(asker, remote.clone())?;
    for address in &remote {
        let report = asker.http(*address, HTTP_PORT).requests(50).run()?;
        ensure!(report.failed == 0, "{address}: {report:?}");
    }
    for vip in cluster.vips(0) {
        must_reach(&cluster, vip, &backends(&cluster, vip, HTTP_PORT))?;
    }
    assert_unreadable(&cluster, &capture.finish()?, 500)?;

    // While the API server can be asked, a node that Weir leaves says so; otherwise it is left
    // clean all the same, and the user is told what stays.
    let [node1, node2, node3] = ["node1", "node2", "node3"].map(|name| cluster.node(name));
    let (node1, node2, node3) = (node1?, node2?, node3?);
    wait::until("all of node3's record", SOON, || {
        let object = object_of(&client, node3)?;
        let annotations = &object["metadata"]["annotations"];
        let is_whole = annotations[KEY].is_string() && condition(&object).is_some();
        ensure!(is_whole, "{object:#}");
        Ok(())
    })?;
    uninstall(node3)?;
    let object = object_of(&client, node3)?;
    let has = |annotation: &str| !object["metadata"]["annotations"][annotation].is_null();
    ensure!(
        !has(KEY) && !has("weir.dev/version") && condition(&object).is_none(),
        "{object:#}"
    );
    let other = object_of(&client, node1)?;
    ensure!(
        condition(&other).is_some() && other["metadata"]["annotations"][KEY].is_string(),
        "{other:#}"
    );
    control_plane.kill_api_server();
    let said = uninstall(node2)?;
    ensure!(said.contains("were not removed"), "{said}");
    Ok(())
}

/// A key is announced and nobody can hear of it: it is not used until they have.
#[test]
fn a_key_changes_only_when_the_others_can_have_heard_of_it() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let grace = Duration::from_secs(1);
    let settings = json!({ "wireguard": { "rotationGrace": format!("{}s", grace.as_secs()) } });
    let config = AgentConfig {
        log_level: "debug".to_owned(),
        ..encrypting(settings)
    };
    let (cluster, mut control_plane) = start("apirotate", config)?;
    let asker = cluster.pod("asker")?;
    let addresses = remote(&cluster)?.address().both();
    wait_for_answers(asker, addresses)?;
    let capture = look(&cluster)?;
    let agent = cluster.node(asker.node_name())?.agent()?;

    control_plane.kill_api_server();
    let before = key_in_use(agent)?;
    agent.weir(&["encrypt", "rotate-key"])?;
    for killed in [false, true] {
        if killed {
            agent.kill9()?;
            agent.start()?;
        }
        wait::let_pass(grace * 3);
        assert_eq!(key_in_use(agent)?, before);
        wait_for_answers(asker, addresses)?;
    }

    let private_keys = private_keys(agent)?;
    control_plane.start_api_server()?;
    wait::until("the new key to be in use", BACK, || {
        let now = key_in_use(agent)?;
        ensure!(now != before, "{now} is");
        Ok(())
    })?;
    // The other nodes' pauses after the outage are longer than the grace of this test.
    for address in addresses {
        wait::until(&format!("{address} to answer again"), BACK, || {
            ask_from(asker, address)
        })?;
    }
    let object = object_of(&control_plane.client(), cluster.node(asker.node_name())?)?;
    let status = agent.weir(&["status", "-o", "json"])?;
    let told = fs::read_to_string(agent.log())? + &object.to_string() + &status;
    for key in &private_keys {
        ensure!(!told.contains(key), "a private key was told");
    }
    assert_unreadable(&cluster, &capture.finish()?, 20)
}

/// The private keys of a node while one is being replaced, in the two forms that WireGuard's tools use.
fn private_keys(agent: &Agent) -> Result<Vec<String>> {
    let folder = agent.directory().join("state/encryption");
    let mut forms = Vec::new();
    for name in ["private-key", "private-key.previous"] {
        let text = fs::read_to_string(folder.join(name)).context(name)?;
        let key = text.lines().find_map(|line| line.strip_prefix("key: "));
        let key = key.context("the line of the key")?.trim();
        let mut hexadecimal = String::new();
        for byte in BASE64_STANDARD.decode(key)? {
            write!(hexadecimal, "{byte:02x}")?;
        }
        forms.extend([key.to_owned(), hexadecimal]);
    }
    Ok(forms)
}

/// The public key of a node's device.
fn key_in_use(agent: &Agent) -> Result<String> {
    let output = agent.weir_output(&["encrypt", "status", "-o", "json"])?;
    let status: Value = serde_json::from_slice(&output.stdout)?;
    let key = status["public_key"].as_str();
    Ok(key
        .with_context(|| format!("no key in {status}"))?
        .to_owned())
}

/// Ends the agent and removes all of Weir; returns what is said about it.
fn uninstall(node: &Node) -> Result<String> {
    let agent = node.agent()?;
    agent.stop()?;
    let mut command = agent.command()?;
    command.args(["uninstall", "--config", "/run/weir/agent.yaml"]);
    let output = command.output()?;
    let words = node.text_of("weir-agent uninstall", &output)?;
    Ok(words + &String::from_utf8_lossy(&output.stderr))
}
