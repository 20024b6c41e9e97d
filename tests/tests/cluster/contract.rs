//! The contract of restart and upgrade, under load: nothing that happens to an agent costs a
//! connection, a stream or a datagram.

#[path = "contract/features.rs"]
mod features;
#[path = "contract/load.rs"]
mod load;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_tests::agent::{Agent, AgentConfig};
use weir_tests::binary::Binary;
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::{Losses, control_plane, wait};

use self::load::{UnderLoad, a_moment};
use crate::api_server;
use crate::encryption::encrypting;
use crate::privileges;
use crate::setting::{SOON, backends, ordinary, start_with_web};

/// How often an agent is killed.
const KILLS: u32 = 20;

#[test]
fn twenty_kills_cost_nothing() -> Result<()> {
    let cluster = start_with_web(&ordinary("kills"))?;
    let load = UnderLoad::start(&cluster)?;
    for _ in 0..KILLS / 2 {
        for node in cluster.nodes() {
            let agent = node.agent()?;
            agent.kill9()?;
            agent.start()?;
            assert!(agent.status()?.is_adopted());
        }
    }
    let outcome = load.stop()?;
    outcome.assert_nothing_lost()?;
    // Not even a packet that TCP would make good.
    assert_eq!(outcome.losses, Losses::default());
    Ok(())
}

/// Nodes that begin anew are not needed for what goes through others.
#[test]
fn a_reboot_costs_the_other_node_nothing() -> Result<()> {
    let cluster = start_with_web(&ordinary("reboot"))?;
    let load = UnderLoad::start(&cluster)?;
    let node2 = cluster.node("node2")?;
    let agent = node2.agent()?;
    agent.kill9()?;
    node2.forget_data_plane()?;
    a_moment()?;
    agent.start()?;
    ensure!(!agent.status()?.is_adopted(), "it began anew");
    a_moment()?;
    load.stop()?.assert_nothing_lost()
}

#[test]
fn a_restart_without_the_api_server_costs_nothing() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let (cluster, mut control_plane) = api_server::start("apiload", AgentConfig::default())?;
    let load = UnderLoad::start(&cluster)?;
    control_plane.kill_api_server();
    for node in cluster.nodes() {
        let agent = node.agent()?;
        agent.kill9()?;
        agent.start()?;
        assert!(agent.status()?.is_adopted());
    }
    a_moment()?;
    control_plane.start_api_server()?;
    api_server::wait_for_content(&cluster)?;
    load.stop()?.assert_nothing_lost()
}

/// To a build with other programs and the same maps, and back again: the programs say what they decide.
#[test]
fn other_programs_and_back_cost_nothing() -> Result<()> {
    if skips(Binary::OtherPrograms) {
        return Ok(());
    }
    let cluster = start_with_web(&ordinary("programs"))?;
    let load = UnderLoad::start(&cluster)?;
    for program in [Binary::OtherPrograms, Binary::Agent] {
        for node in cluster.nodes() {
            let agent = node.agent()?;
            let before = balancer(agent)?;
            replace(agent, program)?;
            ensure!(agent.status()?.is_adopted(), "{}", agent.log_tail(30));
            ensure!(balancer(agent)? != before, "it is another program");
        }
        a_moment()?;
    }
    let outcome = load.stop()?;
    outcome.assert_nothing_lost()?;
    assert_eq!(outcome.losses, Losses::default());
    Ok(())
}

/// Up to a build whose programs and maps are others, and down again.
#[test]
fn another_layout_and_back_costs_no_connection() -> Result<()> {
    to_another_layout_and_back("upgrade", AgentConfig::default())
}

/// Likewise with no more rights than the container has.
#[test]
fn the_capabilities_of_the_daemon_set_are_enough_for_another_layout() -> Result<()> {
    let capabilities = privileges::of_the_daemon_set()?;
    let config = AgentConfig {
        capabilities,
        ..AgentConfig::default()
    };
    to_another_layout_and_back("lessupgrade", config)
}

fn to_another_layout_and_back(name: &str, config: AgentConfig) -> Result<()> {
    if skips(Binary::OtherAgent) {
        return Ok(());
    }
    let cluster = start_with_web(&ordinary(name).agents(config))?;
    let load = UnderLoad::start(&cluster)?;
    for program in [Binary::OtherAgent, Binary::Agent] {
        for node in cluster.nodes() {
            let agent = node.agent()?;
            replace(agent, program)?;
            assert_carried_over(agent)?;
        }
        a_moment()?;
    }
    load.stop()?.assert_nothing_lost()
}

/// With all that can be on: encryption in strict mode, and objects from an API server.
#[test]
fn an_upgrade_of_encrypting_nodes_costs_nothing() -> Result<()> {
    let is_skipped = skips(Binary::OtherAgent) || skips(Binary::OtherPrograms);
    if is_skipped || !control_plane::is_available() {
        return Ok(());
    }
    let (cluster, _control_plane) = api_server::start("encupgrade", encrypting(Value::Null))?;
    for vip in cluster.vips(0) {
        let all = backends(&cluster, vip, HTTP_PORT);
        wait::until("all nodes to be peers", SOON, || {
            api_server::must_reach(&cluster, vip, &all)
        })?;
    }
    let load = UnderLoad::start_gently(&cluster)?;
    for program in [Binary::OtherAgent, Binary::OtherPrograms, Binary::Agent] {
        for node in cluster.nodes() {
            replace(node.agent()?, program)?;
        }
        a_moment()?;
    }
    load.stop()?.assert_nothing_lost()?;
    for node in cluster.nodes() {
        let report = ["encrypt", "report", "--fail-on-clear"];
        let text = node.agent()?.weir(&report)?;
        ensure!(text.contains("encrypted"), "{text}");
    }
    Ok(())
}

/// Wherever an upgrade is caught, the next agent goes on from there, of whichever build it is.
#[test]
fn an_upgrade_that_is_killed_is_ended_by_the_next_agent() -> Result<()> {
    if skips(Binary::OtherAgent) {
        return Ok(());
    }
    let cluster = start_with_web(&ordinary("caught"))?;
    let load = UnderLoad::start(&cluster)?;
    let agent = cluster.node("node1")?.agent()?;
    let mut builds = [Binary::OtherAgent, Binary::Agent].into_iter().cycle();
    agent.kill9()?;
    for milliseconds in (100..1_500).step_by(100) {
        agent.install(builds.next().context("a cycle has no end")?);
        agent.launch()?;
        wait::let_pass(Duration::from_millis(milliseconds));
        agent.kill9()?;
    }
    agent.install(Binary::Agent);
    agent.start()?;
    assert_eq!(agent.pinned_versions()?.len(), 1);
    a_moment()?;
    load.stop()?.assert_nothing_lost()
}

/// Kills a node's agent and starts another build in its place.
fn replace(agent: &Agent, build: Binary) -> Result<()> {
    agent.kill9()?;
    agent.install(build);
    agent.start()
}

/// The kernel's hash over the program at the uplink.
fn balancer(agent: &Agent) -> Result<u64> {
    let attached = agent.attached_programs()?.into_iter();
    let mut found = attached.filter(|(pin, _)| pin.starts_with("tc_uplink_in-"));
    Ok(found.next().context("a program at the uplink")?.1)
}

/// Says why a test cannot run, if it cannot.
fn skips(other: Binary) -> bool {
    let missing = other.path().err();
    if let Some(error) = &missing {
        println!("SKIPPED: `cargo xtask test` builds an agent that differs: {error}");
    }
    missing.is_some()
}

/// The connections of the other version are in the maps of this one, and nothing is left of that.
fn assert_carried_over(agent: &Agent) -> Result<()> {
    let log = agent.log_tail(30);
    for line in log.lines().filter(|line| line.contains("another ")) {
        println!("{line}");
    }
    ensure!(agent.status()?.is_adopted(), "{log}");
    ensure!(log.contains("carried over to another layout"), "{log}");
    let versions = agent.pinned_versions()?;
    ensure!(versions.len() == 1, "{versions:?}");
    Ok(())
}
