//! Objects that break rules, and that no healthy API server would take: a clear line of status or an
//! Event, bounded work, and all else is served.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use weir_agent::lb::desired::{ThisNode, desired};
use weir_tests::api_server::{Ask, Server};
use weir_tests::bench::source::follower::Follower;
use weir_tests::wait;

use crate::following::{DEADLINE, Following, NODE, timing};

fn service(name: &str, ip: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop", "uid": name },
        "spec": { "clusterIP": ip, "ports": [{ "port": 80 }] },
    })
}

fn node_port(name: &str, ip: &str) -> Value {
    let mut object = service(name, ip);
    object["spec"]["type"] = json!("NodePort");
    object["spec"]["ports"][0]["nodePort"] = json!(30_080);
    object
}

fn slice(name: &str, service: &str, addresses: &[String]) -> Value {
    let endpoint = |address: &String| json!({ "addresses": [address], "nodeName": "other" });
    json!({
        "metadata": {
            "name": name, "namespace": "shop",
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{ "port": 8080 }],
    })
}

#[tokio::test]
async fn node_ports_that_overlap_are_told_once_whatever_addresses_a_node_has() -> Result<()> {
    let server = Server::start().await?;
    server.put("services", node_port("one", "10.96.0.1"));
    server.put("services", node_port("two", "10.96.0.2"));
    server.put("services", service("other", "10.96.0.3"));
    let folder = tempfile::tempdir()?;
    let mut source = Following::url(&server.url, folder.path(), timing());
    source.synced().await;
    let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"];
    let node = ThisNode {
        name: NODE.to_owned(),
        addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
        ..ThisNode::default()
    };
    let desired = desired(&source.state.read(), &node);
    let told: Vec<_> = desired.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "Service shop/two: spec.ports[0]: node port 30080/TCP belongs to Service shop/one already, \
             which keeps it; give one of them another address or port"
        ]
    );
    let frontends = desired.services.values().map(|it| it.frontends.len());
    assert_eq!(frontends.sum::<usize>(), 3 + addresses.len());
    source.stop().await;
    Ok(())
}

#[tokio::test]
async fn labels_and_annotations_beyond_all_rules_are_left_out() -> Result<()> {
    let server = Server::start().await?;
    let (long, huge) = ("x".repeat(100_000), "y".repeat(256 << 10));
    let labels = json!({ "app": "web", "ключ": "значение", "big": long, (long.clone()): "x" });
    let annotations = json!({
        "other": huge, "weir.dev/wireguard-public-key": huge, "weir.dev/good": "x",
    });
    let metadata = |name: &str, namespace: Option<&str>| {
        json!({
            "name": name, "namespace": namespace, "labels": labels, "annotations": annotations,
        })
    };
    let status = json!({ "podIP": "10.1.0.1", "podIPs": [{ "ip": "10.1.0.1" }] });
    let pod = json!({ "metadata": metadata("web", Some("shop")), "status": status });
    server.put("pods", pod);
    server.put("nodes", json!({ "metadata": metadata("node", None) }));
    let mut odd = service("web", "10.96.0.1");
    odd["metadata"] = metadata("web", Some("shop"));
    server.put("services", odd);
    let folder = tempfile::tempdir()?;
    let mut source = Following::url(&server.url, folder.path(), timing());
    source.synced().await;
    {
        let cluster = source.state.read();
        let ip = "10.1.0.1".parse()?;
        let pod = cluster.pod_by_ip(ip).expect("its address is served");
        assert_eq!(pod.labels.iter().collect::<Vec<_>>(), [("app", "web")]);
        let node = cluster.node("node").expect("it is there");
        let kept: Vec<_> = node.annotations.keys().collect();
        assert_eq!(kept, ["weir.dev/good"]);
        assert_eq!(cluster.services().count(), 1);
    }
    let problems = source.problems();
    let words =
        ["Node node: metadata.annotations[weir.dev/wireguard-public-key]: has 262144 bytes"];
    for word in words {
        assert!(problems.iter().any(|it| it.contains(word)), "{problems:#?}");
    }
    assert!(problems.len() < 20 && problems.iter().all(|it| it.len() < 2_000));
    source.stop().await;
    Ok(())
}

/// Its annotations are rows of the tables, unlike what kubelets report.
#[tokio::test]
async fn a_node_whose_annotations_flap_is_followed_and_answered_ever_less() -> Result<()> {
    let server = Server::start().await?;
    let node = |round: usize| {
        let count = json!({ "weir.dev/count": round.to_string() });
        json!({ "metadata": { "name": NODE, "annotations": count } })
    };
    server.put("nodes", node(0));
    server.put("services", service("a", "10.0.0.1"));
    let folder = tempfile::tempdir()?;
    let mut source = Following::talking(&server.url, folder.path(), timing());
    source.synced().await;
    // Whoever changes it has no annotation of this node in it, so each look at it is a write.
    let begun = Instant::now();
    let mut round = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        round += 1;
        server.put("nodes", node(round));
        sleep(Duration::from_millis(5)).await;
    }
    let last = round.to_string();
    source
        .until("the last change", |cluster| {
            let node = cluster.node(NODE);
            node.is_some_and(|it| it.annotations["weir.dev/count"] == last)
        })
        .await;
    let written = server.requests("nodes", Ask::Write);
    assert!(round > 200, "{round} changes");
    assert!(
        (1..=24).contains(&written),
        "{written} writes for {round} changes"
    );
    assert_eq!(server.requests("nodes", Ask::Watch), 1);
    source.stop().await;
    Ok(())
}

#[tokio::test]
async fn mistakes_that_come_and_go_make_few_events() -> Result<()> {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let mut source = Following::talking(&server.url, folder.path(), timing());
    source.synced().await;
    let begun = Instant::now();
    let mut round = 0_u32;
    while begun.elapsed() < Duration::from_secs(3) {
        round += 1;
        for number in 0..20 {
            // Another mistake each time.
            let ip = format!("nowhere-{round}");
            server.put("services", service(&format!("s{number:02}"), &ip));
        }
        sleep(Duration::from_millis(150)).await;
    }
    server.put("services", service("good", "10.0.0.1"));
    source.until_ips(&["10.0.0.1"]).await;
    wait_for("an event", || server.requests("events", Ask::Write) > 0).await;
    let looks = begun.elapsed().as_millis() / timing().mistakes.as_millis() + 1;
    let events = server.requests("events", Ask::Write);
    assert!(
        events as u128 <= looks * 5,
        "{events} events in {looks} looks"
    );
    source.stop().await;
    Ok(())
}

async fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(
            begun.elapsed() < wait::patiently(DEADLINE),
            "waited for {what}"
        );
        sleep(Duration::from_millis(10)).await;
    }
}

/// A hundred thousand endpoints, and more than the maps hold.
#[test]
fn services_with_more_endpoints_than_the_maps_hold_leave_the_others_theirs() -> Result<()> {
    let program = Path::new(env!("CARGO_BIN_EXE_weir-bench"));
    let runtime = tokio::runtime::Runtime::new()?;
    let server = runtime.block_on(Server::start())?;
    for (number, (name, slices)) in [("huge", 100), ("larger", 120), ("small", 1)]
        .into_iter()
        .enumerate()
    {
        server.put(
            "services",
            service(name, &format!("10.96.0.{}", number + 1)),
        );
        for slice_number in 0..slices {
            let address = |at: usize| {
                let at = slice_number * 1_000 + at;
                format!(
                    "{}.{}.{}.{}",
                    20 + number,
                    at >> 16,
                    at >> 8 & 255,
                    at & 255
                )
            };
            let addresses: Vec<_> = (0..1_000).map(address).collect();
            let slice = slice(&format!("{name}-{slice_number}"), name, &addresses);
            server.put("endpointslices", slice);
        }
    }
    let follower = Follower::start(program, &server.url, NODE)?;
    follower.first_plan(DEADLINE * 4)?;
    let counts = follower.figures()?.counts;
    assert_eq!((counts.endpoints, counts.services), (221_000, 3));
    assert_eq!((counts.frontends, counts.filled_tables), (3, 3));
    // 1,000 for the small one, and half of the rest for each of the others.
    assert_eq!(counts.backends, 1_000 + 2 * 65_036);
    wait::until("the problems", DEADLINE, || {
        let problems = follower.problems()?;
        for name in ["huge", "larger"] {
            let told = |line: &String| {
                line.contains(&format!("Service shop/{name}")) && line.contains("65036 of them")
            };
            ensure!(problems.iter().any(told), "{name}: {problems:?}");
        }
        ensure!(problems.len() == 2, "{problems:?}");
        Ok(())
    })
}
