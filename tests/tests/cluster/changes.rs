//! A file changes, and the data path follows.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weir_agent::datapath::remove;
use weir_tests::agent::AgentConfig;
use weir_tests::cluster::{Node, Pod};
use weir_tests::manifest::{Manifest, Service};
use weir_tests::plan::UPLINK;
use weir_tests::traffic::StreamReport;
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::{Cluster, plan, wait};

use crate::setting::{
    ECHO, HTTP, NODE_PORT, SOON, ordinary, start_with_web, try_once, wait_for_web, web,
};

/// Names of the servers that answered `requests` requests, all of which must succeed.
fn answering(cluster: &Cluster, address: IpAddr, requests: u32) -> Result<BTreeSet<String>> {
    let report = cluster
        .client("client")?
        .http(address, HTTP)
        .requests(requests)
        .run()?;
    ensure!(report.failed == 0, "{report:?}");
    Ok(report.names.into_keys().collect())
}

#[test]
fn a_new_service_is_balanced_within_a_tenth_of_a_second() -> Result<()> {
    let cluster = start_with_web(&ordinary("reload"))?;
    let mut times = Vec::new();
    for index in 1..6 {
        let name = format!("extra-{index}");
        let service = Service::new(&name)
            .external(plan::vip(index).both())
            .tcp("http", 80, 8080);
        let manifest = service.over(cluster.web_pods());
        let to = std::net::SocketAddr::new(plan::vip(index).v4.into(), 80);
        let client = cluster.client("client")?;
        let took = client.run(|| -> Result<Duration> {
            let start = Instant::now();
            cluster.apply(&manifest)?;
            wait::until("the new Service", SOON, || {
                let deadline = Duration::from_millis(20);
                Ok(std::net::TcpStream::connect_timeout(&to, deadline).map(drop)?)
            })?;
            Ok(start.elapsed())
        })??;
        times.push(took);
    }
    // The machine is shared: the best of five shows what the agent does.
    let best = times.iter().min().expect("five were taken");
    assert!(*best < Duration::from_millis(100), "{times:?}");
    Ok(())
}

#[test]
fn a_backend_that_left_gets_no_new_connections() -> Result<()> {
    let cluster = start_with_web(&ordinary("leave"))?;
    let left = "web-3";
    let rest = || cluster.web_pods().filter(|pod| pod.name() != left);
    cluster.apply(&web().over(rest()))?;
    let expected: BTreeSet<_> = rest().map(|pod| pod.name().to_owned()).collect();
    for vip in cluster.vips(0) {
        wait::until("the backend to leave", SOON, || {
            let names = answering(&cluster, vip, 60)?;
            ensure!(names == expected, "{names:?} answer");
            Ok(())
        })?;
    }
    cluster.pod(left)?.stop_serving();
    for vip in cluster.vips(0) {
        assert_eq!(answering(&cluster, vip, 100)?, expected);
    }
    cluster.pod(left)?.serve()?;
    cluster.apply(&web().over(cluster.web_pods()))?;
    wait::until("the backend to come back", SOON, || {
        let names = answering(&cluster, cluster.vips(0)[0], 60)?;
        ensure!(names.contains(left), "{names:?} answer");
        Ok(())
    })
}

#[test]
fn connections_to_other_backends_do_not_notice_one_that_leaves() -> Result<()> {
    let cluster = start_with_web(&ordinary("steady"))?;
    let client = cluster.client("client")?;
    let streams = client
        .stream(cluster.vips(0)[0], ECHO)
        .streams(16)
        .start()?;
    let left = "web-1";
    cluster.apply(&web().over(cluster.web_pods().filter(|pod| pod.name() != left)))?;
    wait::until("the backend to leave", SOON, || {
        let names = answering(&cluster, cluster.vips(0)[0], 60)?;
        ensure!(!names.contains(left), "{names:?} answer");
        Ok(())
    })?;
    for report in streams.stop()? {
        let server = report.server.as_ref().map(|answer| answer.name.as_str());
        assert!(server == Some(left) || report.error.is_none(), "{report:?}");
    }
    Ok(())
}

/// As in a rolling update: the old pod terminates, and has connections left.
#[test]
fn connections_outlive_the_readiness_of_their_backend() -> Result<()> {
    let cluster = start_with_web(&ordinary("drain"))?;
    let client = cluster.client("client")?;
    let start = |vip| client.stream(vip, ECHO).streams(24).start();
    let streams = cluster.vips(0).into_iter().map(start);
    let streams: Vec<_> = streams.collect::<Result<_>>()?;
    let pod = cluster.pod("web-1")?;
    cluster.apply(&draining(web().over(cluster.web_pods()), pod))?;
    let takes_nothing_new = || {
        for vip in cluster.vips(0) {
            wait::until("the backend to take no new connections", SOON, || {
                let names = answering(&cluster, vip, 60)?;
                ensure!(!names.contains(pod.name()), "{names:?} answer");
                Ok(())
            })?;
        }
        anyhow::Ok(())
    };
    takes_nothing_new()?;
    for node in cluster.nodes() {
        node.agent()?.kill9()?;
        node.agent()?.start()?;
    }
    takes_nothing_new()?;
    for streams in streams {
        let reports = streams.stop()?;
        let name = |it: &StreamReport| it.server.as_ref().map(|it| it.name.clone());
        let to_it = |it: &&StreamReport| name(it).as_deref() == Some(pod.name());
        ensure!(reports.iter().any(|it| to_it(&it)), "{reports:?}");
        ensure!(reports.iter().all(|it| it.error.is_none()), "{reports:?}");
    }
    Ok(())
}

/// Has the endpoints of `pod` terminate: they stay listed.
fn draining(mut manifest: Manifest, pod: &Pod) -> Manifest {
    let addresses = pod.address().both().map(|address| address.to_string());
    for document in &mut manifest.documents {
        let endpoints = document.get_mut("endpoints").and_then(Value::as_array_mut);
        for endpoint in endpoints.into_iter().flatten() {
            if addresses.iter().any(|it| endpoint["addresses"][0] == **it) {
                endpoint["conditions"] =
                    json!({ "ready": false, "serving": true, "terminating": true });
            }
        }
    }
    manifest
}

#[test]
fn a_deleted_service_is_gone_at_all_its_addresses() -> Result<()> {
    let cluster = start_with_web(&ordinary("delete"))?;
    cluster.delete("service-web")?;
    let gone = |address: IpAddr, port: u16| {
        let what = format!("{address}:{port} to be gone");
        wait::until_true(&what, SOON, || try_once(&cluster, address, port).is_err())
    };
    for vip in cluster.vips(0) {
        gone(vip, HTTP)?;
    }
    for node in cluster.nodes() {
        gone(node.address().v4.into(), NODE_PORT)?;
    }
    let asker = cluster.pod("asker")?;
    let address = plan::cluster_ip(0).v4.into();
    let report = asker
        .http(address, HTTP)
        .requests(1)
        .timeout(Duration::from_secs(1))
        .run()?;
    assert_eq!(report.failed, 1);
    let list = cluster.node("node1")?.agent()?.weir(&["service", "list"])?;
    assert!(!list.contains("web"), "{list}");
    cluster.apply(&web().over(cluster.web_pods()))?;
    wait_for_web(&cluster)
}

#[test]
fn a_bad_manifest_is_reported_and_disturbs_nothing() -> Result<()> {
    let cluster = start_with_web(&ordinary("bad"))?;
    let client = cluster.client("client")?;
    let load = client.load(cluster.vips(0)[0], HTTP, 100).start()?;
    let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: broken\n  namespace: default\n\
                spec:\n  clusterIP: 10.96.0.99\n  ports:\n    - port: eighty\n---\n: not yaml [";
    cluster.apply_text("broken", text)?;
    for node in cluster.nodes() {
        wait::until("the problem to be shown", SOON, || {
            let problems = node.agent()?.status()?.problems();
            ensure!(
                problems.iter().any(|p| p.contains("broken.yaml")),
                "{problems:?}"
            );
            Ok(())
        })?;
        let output = node.agent()?.weir_output(&["status"])?;
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("broken.yaml"), "{text}");
    }
    // The text of a good Service made bad: its last good state stays.
    let good = web().over(cluster.web_pods()).to_yaml()?;
    cluster.apply_text(
        "service-web",
        &good.replacen("port: 80\n", "port: eighty\n", 1),
    )?;
    wait::until("the second problem to be shown", SOON, || {
        let problems = cluster.node("node1")?.agent()?.status()?.problems();
        ensure!(
            problems.iter().any(|p| p.contains("service-web.yaml")),
            "{problems:?}"
        );
        Ok(())
    })?;
    assert_eq!(answering(&cluster, cluster.vips(0)[0], 60)?.len(), 4);
    cluster.delete("broken")?;
    cluster.apply_text("service-web", &good)?;
    wait::until("the problems to go", SOON, || {
        let problems = cluster.node("node1")?.agent()?.status()?.problems();
        ensure!(problems.is_empty(), "{problems:?}");
        Ok(())
    })?;
    // Well again, and says so to scripts too.
    cluster.node("node1")?.agent()?.weir(&["status"])?;
    let report = load.stop()?;
    assert_eq!(report.failed, 0, "{report:?}");
    Ok(())
}

#[test]
fn the_last_good_state_outlives_an_agent_that_is_killed() -> Result<()> {
    let cluster = start_with_web(&ordinary("lastgood"))?;
    let agents = || cluster.nodes().iter().map(weir_tests::cluster::Node::agent);
    let vip = cluster.vips(0)[0];
    cluster.apply_text("service-web", "kind: [")?;
    for agent in agents() {
        let agent = agent?;
        agent.kill9()?;
        agent.start()?;
        let problems = agent.status()?.problems();
        let told = "serving the last good state of Service default/web";
        ensure!(problems.iter().any(|p| p.contains(told)), "{problems:?}");
        let list = agent.weir(&["service", "list"])?;
        ensure!(list.contains(&format!("{vip}:{HTTP}")), "{list}");
    }
    assert_eq!(answering(&cluster, vip, 60)?.len(), 4);

    let left = "web-3";
    cluster.apply(&web().over(cluster.web_pods().filter(|pod| pod.name() != left)))?;
    wait::until("the new state", SOON, || {
        let names = answering(&cluster, vip, 60)?;
        ensure!(
            names.len() == 3 && !names.contains(left),
            "{names:?} answer"
        );
        Ok(())
    })?;

    for agent in agents() {
        agent?.kill9()?;
    }
    cluster.delete("service-web")?;
    cluster.start_agents()?;
    wait::until_true("the Service to be gone", SOON, || {
        try_once(&cluster, vip, HTTP).is_err()
    })?;
    for agent in agents() {
        assert_eq!(agent?.status()?.problems(), [""; 0]);
    }
    Ok(())
}

#[test]
fn an_interface_that_appears_later_is_followed() -> Result<()> {
    let cluster = start_with_web(&ordinary("later"))?;
    let (node, pod) = (cluster.node("node1")?, cluster.pod("asker")?);
    // The node's end of the veth goes away and comes back under another name, as a CNI might do.
    let interface = pod.host_interface();
    node.output("ip", &["link", "set", interface, "down"])?;
    node.output("ip", &["link", "set", interface, "name", "pod-new"])?;
    node.output("ip", &["link", "set", "pod-new", "up"])?;
    let v4 = format!("{}/32", pod.address().v4);
    node.output("ip", &["route", "replace", &v4, "dev", "pod-new"])?;
    let address = plan::cluster_ip(0).v4.into();
    wait::until("the pod to reach the Service again", SOON, || {
        let report = pod
            .http(address, HTTP)
            .requests(4)
            .timeout(Duration::from_secs(1))
            .run()?;
        ensure!(report.failed == 0, "{report:?}");
        Ok(())
    })?;
    let report = cluster
        .client("client")?
        .http(pod.address().v4.into(), HTTP_PORT);
    assert_eq!(report.requests(2).run()?.failed, 0);
    Ok(())
}

#[test]
fn an_interface_that_is_no_longer_an_uplink_loses_its_programs() -> Result<()> {
    const OTHER: &str = "other0";
    let uplinks = |names: &[&str]| AgentConfig {
        more: json!({ "devices": { "uplinks": names } }),
        ..AgentConfig::default()
    };
    let cluster = Cluster::builder("narrowed")
        .nodes(1)
        .agents(uplinks(&[UPLINK, OTHER]))
        .start()?;
    let node = cluster.node("node1")?;
    let agent = node.agent()?;
    node.output(
        "ip",
        &[
            "link", "add", OTHER, "type", "veth", "peer", "name", "other1",
        ],
    )?;
    let is_attached = || -> Result<bool> {
        let status = agent.status()?;
        let interfaces = status.0["datapath"]["interfaces"].as_array();
        let mut interfaces = interfaces.into_iter().flatten();
        Ok(interfaces.any(|it| it["name"] == OTHER))
    };
    wait::until("the interface to be attached to", SOON, || {
        ensure!(is_attached()?);
        Ok(())
    })?;

    agent.stop()?;
    agent.configure(&uplinks(&[UPLINK]))?;
    agent.start()?;
    ensure!(!is_attached()?);
    // Nothing tells when it has looked at what it did not attach to itself.
    wait::let_pass(Duration::from_secs(2));
    let left = node.output("sh", &["-c", &links_to(node, OTHER)?])?;
    ensure!(left.trim() == "0", "{left} links");
    // Where the kernel has no links for TC: removing is the way to count.
    let left = node.run(|| remove::tc_filters(OTHER))?;
    ensure!(left == 0, "{left} filters");
    Ok(())
}

/// Counts the pinned links to an interface.
fn links_to(node: &Node, interface: &str) -> Result<String> {
    let shown = node.output("ip", &["-o", "link", "show", interface])?;
    let number = shown.split(':').next().unwrap_or_default();
    Ok(format!(
        "ls /sys/fs/bpf/weir/v*/links | grep -c -e -{number}$ || true"
    ))
}
