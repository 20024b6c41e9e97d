//! Agents end, come back, and leave; the data path does as the contract says.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_tests::{Cluster, Place, wait};

use crate::setting::{ECHO, HTTP, SOON, ordinary, start_with_web, wait_for_web};

#[test]
fn without_an_agent_everything_goes_on() -> Result<()> {
    let cluster = start_with_web(&ordinary("orphan"))?;
    let client = cluster.client("client")?;
    let streams: Vec<_> = cluster
        .vips(0)
        .map(|vip| client.stream(vip, ECHO).streams(8).start())
        .into_iter()
        .collect::<Result<_>>()?;
    for node in cluster.nodes() {
        node.agent()?.kill9()?;
    }
    for vip in cluster.vips(0) {
        let report = client.http(vip, HTTP).requests(200).parallel(4).run()?;
        assert_eq!((report.failed, report.backends.len()), (0, 4), "{report:?}");
    }
    cluster.start_agents()?;
    for node in cluster.nodes() {
        assert!(node.agent()?.status()?.is_adopted(), "{}", node.name());
    }
    for report in streams.into_iter().map(weir_tests::traffic::Running::stop) {
        for stream in report? {
            assert_eq!(stream.error, None, "{stream:?}");
            assert!(
                stream.rounds > 0 && stream.longest < wait::patiently(Duration::from_secs(5)),
                "{stream:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn an_agent_whose_source_is_missing_says_so_and_keeps_what_there_is() -> Result<()> {
    let cluster = start_with_web(&ordinary("nosource"))?;
    let agent = cluster.node("node1")?.agent()?;
    agent.kill9()?;
    let aside = agent.manifests().with_extension("aside");
    std::fs::rename(agent.manifests(), &aside)?;
    agent.launch()?;
    wait::until("the agent to wait for its source", SOON, || {
        let status = agent.status()?;
        let waits = &status.0["waiting_for"];
        ensure!(*waits == serde_json::json!(["apply services"]), "{waits}");
        ensure!(!status.is_synced(), "nothing can have been read");
        Ok(())
    })?;
    assert_eq!(agent.weir_output(&["status"])?.status.code(), Some(4));
    for vip in cluster.vips(0) {
        let report = cluster.client("client")?.http(vip, HTTP).run()?;
        assert_eq!((report.failed, report.backends.len()), (0, 4), "{report:?}");
    }
    std::fs::rename(&aside, agent.manifests())?;
    agent.wait_ready()?;
    agent.weir(&["status"])?;
    Ok(())
}

#[test]
fn what_changed_while_no_agent_ran_is_made_good() -> Result<()> {
    let cluster = start_with_web(&ordinary("missed"))?;
    let agents = || cluster.nodes().iter().map(weir_tests::cluster::Node::agent);
    for agent in agents() {
        agent?.kill9()?;
    }
    cluster.delete("service-web")?;
    cluster.start_agents()?;
    wait::until_true("the frontends to go", SOON, || {
        crate::setting::try_once(&cluster, cluster.vips(0)[0], HTTP).is_err()
    })?;
    cluster.apply(&crate::setting::web().over(cluster.web_pods()))?;
    wait_for_web(&cluster)
}

#[test]
fn an_agent_that_is_asked_to_end_leaves_the_data_path() -> Result<()> {
    let cluster = start_with_web(&ordinary("term"))?;
    let agent = cluster.node("node1")?.agent()?;
    let status = agent.stop()?;
    ensure!(status.success(), "{status}\n{}", agent.log_tail(20));
    let report = cluster
        .client("client")?
        .http(cluster.vips(0)[0], HTTP)
        .run()?;
    assert_eq!(report.failed, 0, "{report:?}");
    Ok(())
}

#[test]
fn uninstall_leaves_nothing() -> Result<()> {
    let cluster = start_with_web(&ordinary("gone"))?;
    let node = cluster.node("node1")?;
    let before = traces(node)?;
    ensure!(
        before.len() > 3,
        "the search finds an installed agent: {before:?}"
    );
    let agent = node.agent()?;
    ensure!(agent.stop()?.success(), "{}", agent.log_tail(20));
    let arguments = ["uninstall", "--config", "/run/weir/agent.yaml"];
    let output = agent
        .command()?
        .args(arguments)
        .output()
        .context("start weir-agent")?;
    node.text_of("weir-agent uninstall", &output)?;
    wait::until("the last trace to go", SOON, || {
        let left = traces(node)?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    // The node is whole: plain routing through it works, and so does a new installation.
    let pod = cluster.pod("web-1")?;
    let client = cluster.client("client")?;
    let report = client
        .http(pod.address().v4.into(), 8080)
        .requests(5)
        .run()?;
    assert_eq!(report.failed, 0, "{report:?}");
    agent.start()?;
    wait_for_web(&cluster)
}

/// What of Weir can be found on a node by looking at links, qdiscs, pins, rules and sockets.
fn traces(node: &Place) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let links = node.output("ip", &["-details", "link", "show"])?;
    found.extend(
        links
            .lines()
            .filter(|line| line.contains("prog/xdp"))
            .map(str::to_owned),
    );
    let qdiscs = node.output("tc", &["qdisc", "show"])?;
    found.extend(
        qdiscs
            .lines()
            .filter(|line| line.contains("clsact"))
            .map(str::to_owned),
    );
    let script = "find /sys/fs/bpf -mindepth 1 ! -name '*.debug'; ls -d /run/weir/agent.sock \
                  /run/weir/state 2>/dev/null; ip rule | grep -v 'lookup \\(local\\|main\\|default\\)'; true";
    found.extend(
        node.output("sh", &["-c", script])?
            .lines()
            .map(str::to_owned),
    );
    // Only a machine with bpftool can list TCX and cgroup attachments; an image may have none.
    let script = "command -v bpftool >/dev/null || exit 0; bpftool net show | \
                  grep -E 'tcx|tc/|driver|generic' | grep -v ':$'; \
                  bpftool cgroup show /sys/fs/cgroup | tail -n +2; true";
    found.extend(
        node.output("sh", &["-c", script])?
            .lines()
            .map(str::to_owned),
    );
    Ok(found)
}

#[test]
fn a_cluster_with_agents_leaves_nothing_after_a_panic() -> Result<()> {
    let cluster: Cluster = start_with_web(&ordinary("agentpanic"))?;
    let record = cluster.record().clone();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _cluster = cluster;
        panic!("on purpose");
    }));
    assert!(caught.is_err());
    assert!(!record.cgroup.exists() && !record.directory().exists());
    let names = std::fs::read_dir("/run/netns")?
        .flatten()
        .map(|entry| entry.file_name());
    let left: Vec<_> = names
        .filter(|name| name.to_string_lossy().contains(&record.id))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}
