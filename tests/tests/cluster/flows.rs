//! Who talked to whom, as the operator sees it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_tests::agent::AgentConfig;
use weir_tests::cluster::Node;
use weir_tests::wait;

use crate::setting::{HTTP, SOON, ordinary, start_with_web};

/// Flows that `weir observe` prints as JSON.
fn observe(node: &Node, arguments: &[&str]) -> Result<Vec<Value>> {
    let arguments = [&["observe", "-o", "json", "--last", "200"], arguments].concat();
    let text = node.agent()?.weir(&arguments)?;
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).context("decode a flow"));
    let flows = lines.collect::<Result<Vec<Value>>>()?;
    Ok(flows
        .into_iter()
        .map(|mut response| response["flow"].take())
        .collect())
}

#[test]
fn flows_name_pods_and_the_client() -> Result<()> {
    let cluster = start_with_web(&ordinary("observe"))?;
    let client = cluster.client("client")?;
    for vip in cluster.vips(0) {
        assert_eq!(client.http(vip, HTTP).requests(40).run()?.failed, 0);
    }
    for node in cluster.nodes() {
        let pods = cluster
            .web_pods()
            .filter(|pod| pod.node_name() == node.name());
        for pod in pods {
            wait::until(&format!("flows to {}", pod.name()), SOON, || {
                let flows = observe(node, &["--protocol", "tcp"])?;
                let ours = |flow: &&Value| flow["destination"]["pod_name"] == pod.name();
                let flow = flows
                    .iter()
                    .find(ours)
                    .with_context(|| format!("{flows:?}"))?;
                ensure!(flow["destination"]["namespace"] == "default", "{flow}");
                ensure!(flow["verdict"] == "FORWARDED", "{flow}");
                ensure!(flow["node_name"] == node.name(), "{flow}");
                Ok(())
            })?;
        }
        let text = node.agent()?.weir(&["observe", "--last", "50"])?;
        assert!(text.contains("default/web-"), "{text}");
        assert!(text.contains("FORWARDED"), "{text}");
    }
    Ok(())
}

#[test]
fn answers_of_backends_elsewhere_are_shown_as_the_client_gets_them() -> Result<()> {
    let cluster = start_with_web(&ordinary("answers"))?;
    let (client, node) = (cluster.client("client")?, cluster.node("node1")?);
    for vip in cluster.vips(0) {
        let report = client.http(vip, HTTP).requests(40).run()?;
        assert_eq!(report.failed, 0, "{report:?}");
        let vip_text = vip.to_string();
        let asker = report.clients.first().copied();
        wait::until("an answer from elsewhere", SOON, || {
            let flows = observe(node, &["--from-ip", &vip_text])?;
            let answer = flows
                .iter()
                .find(|flow| flow["is_reply"] == true)
                .with_context(|| format!("{asker:?}: {flows:?}"))?;
            let to: IpAddr = answer["IP"]["destination"]
                .as_str()
                .context("text")?
                .parse()?;
            ensure!(client.address().contains(to), "{answer}");
            ensure!(answer["l4"]["TCP"]["source_port"] == HTTP, "{answer}");
            ensure!(
                answer["IP"]["source_xlated"] == vip_text.as_str(),
                "{answer}"
            );
            ensure!(answer["source_service"]["name"] == "web", "{answer}");
            let pod = answer["source"]["pod_name"].as_str().unwrap_or_default();
            ensure!(cluster.pod(pod)?.node_name() != node.name(), "{answer}");
            Ok(())
        })?;
        // One conversation, both ways, in the words of the client.
        let from = SocketAddr::new(vip, HTTP);
        let text =
            node.agent()?
                .weir(&["observe", "--numeric", "--last", "200", "--ip", &vip_text])?;
        for arrow in ["->", "<-"] {
            let part = format!(" {arrow} {from} ");
            ensure!(text.contains(&part), "{part:?} is not in\n{text}");
        }
    }
    Ok(())
}

#[test]
fn filters_select_flows() -> Result<()> {
    let cluster = start_with_web(&ordinary("filter"))?;
    let (node, asker) = (cluster.node("node1")?, cluster.pod("asker")?);
    let target = cluster.pod("web-3")?;
    let address = target.address().v4;
    assert_eq!(
        asker.http(address.into(), 8080).requests(5).run()?.failed,
        0
    );
    let ip = address.to_string();
    wait::until("flows of the pod", SOON, || {
        let flows = observe(node, &["--from-pod", "default/asker", "--to-ip", &ip])?;
        ensure!(!flows.is_empty(), "none");
        Ok(())
    })?;
    let is_about = |flow: &Value, key: &str, value: &str| {
        [&flow["source"], &flow["destination"]]
            .iter()
            .any(|end| end[key] == value)
    };
    for flow in observe(node, &["--pod", "default/asker"])? {
        assert!(is_about(&flow, "pod_name", "asker"), "{flow}");
    }
    assert!(observe(node, &["--pod", "default/nobody"])?.is_empty());
    for flow in observe(node, &["--protocol", "udp"])? {
        assert!(flow["l4"]["UDP"].is_object(), "{flow}");
    }
    Ok(())
}

/// The kernel keeps what happens while no agent runs, as far as there is room, and the next agent shows
/// it and tells how much there was no room for.
#[test]
fn what_happens_while_no_agent_runs_is_shown_or_counted() -> Result<()> {
    let agents = AgentConfig {
        more: json!({ "flows": { "ringBufferBytes": "64KiB" } }),
        ..AgentConfig::default()
    };
    let cluster = start_with_web(&ordinary("meanwhile").agents(agents))?;
    let client = cluster.client("client")?;
    let ask_without_agents = |requests| -> Result<()> {
        for node in cluster.nodes() {
            node.agent()?.kill9()?;
        }
        if requests > 0 {
            let traffic = client.http(cluster.vips(0)[0], HTTP);
            let report = traffic.requests(requests).run()?;
            ensure!(report.failed == 0, "{report:?}");
        }
        for node in cluster.nodes() {
            node.agent()?.start()?;
        }
        Ok(())
    };
    let lost = || -> Result<u64> {
        let mut lost = 0;
        for node in cluster.nodes() {
            lost += node.agent()?.status()?.flows_lost();
        }
        Ok(lost)
    };
    ask_without_agents(10)?;
    wait::until("ten connections to the pods", SOON, || {
        let mut clients = BTreeSet::new();
        for node in cluster.nodes() {
            let flows = observe(node, &["--protocol", "tcp"])?;
            let into_pods = flows.iter().filter(|flow| {
                let pod = flow["destination"]["pod_name"].as_str();
                flow["trace_observation_point"] == "TO_ENDPOINT"
                    && pod.is_some_and(|pod| pod.starts_with("web-"))
            });
            clients.extend(into_pods.map(|flow| {
                let (ip, tcp) = (&flow["IP"]["source"], &flow["l4"]["TCP"]["source_port"]);
                (ip.to_string(), tcp.to_string())
            }));
        }
        ensure!(clients.len() == 10, "{clients:?}");
        Ok(())
    })?;
    ensure!(lost()? == 0, "there was room for all of it");
    ask_without_agents(500)?;
    wait::until("losses to be told", SOON, || {
        let lost = lost()?;
        ensure!(lost > 100, "{lost}");
        Ok(())
    })?;
    // As long as all agents take to look for losses.
    let moment = Duration::from_secs(2);
    thread::sleep(moment);
    ask_without_agents(0)?;
    thread::sleep(moment);
    ensure!(lost()? == 0, "they were told of before");
    Ok(())
}

#[test]
fn nothing_is_lost_at_a_modest_rate_and_losses_would_be_counted() -> Result<()> {
    let cluster = start_with_web(&ordinary("counted"))?;
    let client = cluster.client("client")?;
    assert_eq!(
        client
            .http(cluster.vips(0)[0], HTTP)
            .requests(200)
            .run()?
            .failed,
        0
    );
    for node in cluster.nodes() {
        wait::until("flows to be counted", SOON, || {
            let status = node.agent()?.status()?;
            ensure!(status.flows_seen() > 0, "{}", status.0);
            ensure!(status.flows_lost() == 0, "{}", status.0);
            Ok(())
        })?;
    }
    Ok(())
}
