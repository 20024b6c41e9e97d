//! Agents with the rights of their containers and no others.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize as _;
use serde_json::{Value, json};
use weir_tests::agent::{Agent, AgentConfig};
use weir_tests::cluster::Node;
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::{control_plane, wait};

use crate::api_server;
use crate::setting::{HTTP, SOON, ordinary, start_with_web, try_once};

/// Capabilities of the first container of a kind in a manifest of `deploy/`, as `setpriv` names them.
fn capabilities(path: &str, containers: &str) -> Result<Vec<String>> {
    // Not by `..`: a machine of the kernel matrix has the manifests and not this package.
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let path = workspace.context("above it")?.join("deploy").join(path);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let documents = serde_yaml_ng::Deserializer::from_str(&text).map(Value::deserialize);
    for document in documents {
        let spec = &document?["spec"]["template"]["spec"];
        let added = &spec[containers][0]["securityContext"]["capabilities"]["add"];
        if let Some(added) = added.as_array() {
            let names = added
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_lowercase);
            return Ok(names.collect());
        }
    }
    anyhow::bail!("no capabilities of {containers}")
}

/// Those of the agent's container that the kernel of this machine asks for: see the comment in the
/// manifest.
pub fn of_the_daemon_set() -> Result<Vec<String>> {
    let mut given = capabilities("daemonset/base/daemonset.yaml", "containers")?;
    ensure!(given.len() == 4, "{given:?}");
    given.retain(|name| name != "sys_resource");
    Ok(given)
}

#[test]
fn the_capabilities_of_the_daemon_set_are_enough() -> Result<()> {
    let config = AgentConfig {
        capabilities: of_the_daemon_set()?,
        ..AgentConfig::default()
    };
    let cluster = start_with_web(&ordinary("privileges").agents(config))?;
    let (client, asker) = (cluster.client("client")?, cluster.pod("asker")?);
    for address in cluster.vips(0) {
        let report = client.http(address, HTTP).requests(40).run()?;
        assert_eq!((report.failed, report.backends.len()), (0, 4), "{report:?}");
    }
    let cluster_ip = weir_tests::plan::cluster_ip(0).v4.into();
    assert_eq!(asker.http(cluster_ip, HTTP).requests(10).run()?.failed, 0);
    for node in cluster.nodes() {
        let agent = node.agent()?;
        // All of it works, the hooks of sockets and interfaces included.
        agent.weir(&["status"])?;
        agent.kill9()?;
        agent.start()?;
        assert!(agent.status()?.is_adopted(), "{}", node.name());
    }

    for node in cluster.nodes() {
        uninstall(node)?;
    }
    for address in cluster.vips(0) {
        try_once(&cluster, address, HTTP).unwrap_err();
    }
    Ok(())
}

/// Removes all of Weir with the capabilities that the manifest gives for it.
fn uninstall(node: &Node) -> Result<()> {
    let given = capabilities("daemonset/uninstall/uninstall.yaml", "initContainers")?;
    let agent = node.agent()?;
    agent.stop()?;
    let mut uninstall = agent.command_with(&given)?;
    uninstall.args(["uninstall", "--config", "/run/weir/agent.yaml"]);
    let output = uninstall.output().context("start uninstall")?;
    let text = node.text_of("weir-agent uninstall", &output)?;
    ensure!(
        text.contains("removed ") && !text.contains("removed 0 links"),
        "{text}"
    );
    Ok(())
}

#[test]
fn the_capabilities_of_the_daemon_sets_are_enough_to_encrypt() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let device = "daemonset/components/encryption/wireguard.yaml";
    let config = AgentConfig {
        encryption: true,
        encryption_settings: json!({
            "wireguard": { "process": "separate", "implementation": "userspace" },
        }),
        capabilities: of_the_daemon_set()?,
        device_capabilities: capabilities(device, "containers")?,
        ..AgentConfig::default()
    };
    let (cluster, _control_plane) = api_server::start("encprivileges", config)?;
    let asker = cluster.pod("asker")?;
    let remote = cluster
        .web_pods()
        .find(|pod| pod.node_name() != asker.node_name());
    let remote = remote.context("a pod elsewhere")?.address().both();
    let answers = || -> Result<()> {
        for address in remote {
            wait::until(&format!("{address} to answer"), SOON, || {
                let report = asker.http(address, HTTP_PORT).requests(1).run()?;
                ensure!(report.failed == 0, "{report:?}");
                Ok(())
            })?;
        }
        Ok(())
    };
    let is_well = |agent: &Agent| {
        let asks = || agent.weir(&["encrypt", "status"]).map(drop);
        wait::until("all to be encrypted", SOON, asks)
    };
    answers()?;
    for node in cluster.nodes() {
        let agent = node.agent()?;
        is_well(agent)?;
        agent.kill9()?;
        agent.start()?;
        is_well(agent)?;
    }
    answers()?;
    for node in cluster.nodes() {
        uninstall(node)?;
        let links = node.output("ip", &["-o", "link"])?;
        ensure!(!links.contains("weir_wg0"), "{links}");
    }
    Ok(())
}

#[test]
fn with_one_capability_less_the_agent_does_not_start() -> Result<()> {
    let given = of_the_daemon_set()?;
    let cluster = ordinary("lessprivileges").start()?;
    let agent = cluster.node("node1")?.agent()?;
    agent.stop()?;
    for missing in &given {
        let mut kept = given.clone();
        kept.retain(|name| name != missing);
        let mut run = agent.command_with(&kept)?;
        run.args(["run", "--config", "/run/weir/agent.yaml"]);
        // It may hang on to what it cannot do; it is never ready then.
        let mut child = run.stdin(std::process::Stdio::null()).spawn()?;
        let ready =
            weir_tests::wait::until("the agent to end or be ready", crate::setting::SOON, || {
                if let Some(status) = child.try_wait()? {
                    return Ok(status.success());
                }
                let code = agent.weir_output(&["status"])?.status.code();
                ensure!(code == Some(0), "exit code {code:?}");
                Ok(true)
            });
        let _ = child.kill();
        let _ = child.wait();
        assert!(!ready.unwrap_or(false), "{missing} is not needed");
    }
    Ok(())
}
