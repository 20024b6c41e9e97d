//! What healthy servers never do.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use weir_agent::state::{ClusterState, ObjectName};
use weir_tests::api_server::{Ask, Fault, Server};
use weir_tests::bench::source::RESOURCES;

use crate::following::{DEADLINE, Following, ips, timing};

pub fn service(name: &str, ip: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "clusterIP": ip, "ports": [{ "port": 80 }] },
    })
}

/// Waits until all faults have been met.
pub async fn until_met(server: &Server) {
    let start = Instant::now();
    while server.faults_left() > 0 {
        assert!(start.elapsed() < DEADLINE, "nobody came to meet the fault");
        sleep(Duration::from_millis(5)).await;
    }
}

pub async fn start(services: &[(&str, &str)]) -> (Server, TempDir, Following) {
    let server = Server::start().await.unwrap();
    for (name, ip) in services {
        server.put("services", service(name, ip));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut source = Following::url(&server.url, folder.path(), timing());
    source.synced().await;
    (server, folder, source)
}

#[tokio::test]
async fn a_list_comes_in_pages_and_a_watch_goes_on_from_there() {
    let server = Server::start().await.unwrap();
    for number in 0..1_234 {
        let name = format!("s{number:04}");
        let ip = format!("10.{}.{}.1", number / 250, number % 250);
        server.put("services", service(&name, &ip));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut source = Following::url(&server.url, folder.path(), timing());
    source.synced().await;
    assert_eq!(source.state.read().services().count(), 1_234);
    assert_eq!(server.requests("services", Ask::List), 3);
    server.delete("services", "s0007");
    server.put("services", service("s0008", "10.99.0.1"));
    let eighth = ObjectName::new("shop", "s0008");
    source
        .until("the watch", |cluster| {
            let changed = cluster.service(&eighth).unwrap().cluster_ips[0];
            cluster.services().count() == 1_233 && changed.to_string() == "10.99.0.1"
        })
        .await;
    let watches = server.queries("services", Ask::Watch);
    assert_eq!(watches.len(), 1, "{watches:?}");
    assert!(watches[0].contains("resourceVersion=1334"), "{watches:?}");
    assert!(
        watches[0].contains("allowWatchBookmarks=true"),
        "{watches:?}"
    );
    source.stop().await;
}

#[tokio::test]
async fn a_list_that_expires_between_pages_is_asked_for_in_one_and_loses_nothing() {
    let server = Server::start().await.unwrap();
    for number in 0..600 {
        server.put("services", service(&format!("s{number:03}"), "10.0.0.1"));
    }
    let folder = tempfile::tempdir().unwrap();
    server.fail("services", Ask::List, [Fault::Compact]);
    let mut source = Following::url(&server.url, folder.path(), timing());
    source.synced().await;
    assert_eq!(source.state.read().services().count(), 600);
    let lists = server.requests("services", Ask::List);
    assert_eq!(lists, 3, "first page, refusal, all at once");
    let last = server.queries("services", Ask::List).pop().unwrap();
    assert!(!last.contains("limit="), "{last}");
    source.stop().await;
}

#[tokio::test]
async fn what_was_deleted_while_nobody_watched_is_found_by_the_next_list() {
    let (server, _folder, source) = start(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]).await;
    server.fail("services", Ask::Watch, [Fault::Hangup, Fault::Status(410)]);
    server.cut_watches();
    until_met(&server).await;
    server.delete("services", "a");
    server.put("services", service("c", "10.0.0.3"));
    source.until_ips(&["10.0.0.2", "10.0.0.3"]).await;
    assert_eq!(server.requests("services", Ask::List), 2);
    source.stop().await;
}

#[tokio::test]
async fn a_watch_that_is_too_old_becomes_a_list() {
    let server = Server::start().await.unwrap();
    for (name, ip) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        server.put("services", service(name, ip));
    }
    // The first watch breaks at its first event; when it comes back, history is gone.
    server.fail("services", Ask::Watch, [Fault::Cut]);
    let folder = tempfile::tempdir().unwrap();
    let mut source = Following::url(&server.url, folder.path(), timing());
    source.synced().await;
    server.delete("services", "a");
    server.put("services", service("b", "10.0.0.9"));
    server.compact();
    source.until_ips(&["10.0.0.9"]).await;
    assert_eq!(server.requests("services", Ask::List), 2);
    source.stop().await;
}

#[tokio::test]
async fn every_fault_of_a_list_is_survived_and_changes_nothing() {
    let server = Server::start().await.unwrap();
    server.put("services", service("a", "10.0.0.1"));
    server.fail(
        "services",
        Ask::List,
        [
            Fault::Status(500),
            Fault::Status(503),
            Fault::Hangup,
            Fault::Garbage,
            Fault::Drip(Duration::from_millis(400)),
            Fault::Drip(Duration::from_secs(5)),
            Fault::Status(429),
            Fault::Status(403),
        ],
    );
    let folder = tempfile::tempdir().unwrap();
    let mut source = Following::url(&server.url, folder.path(), timing());
    source.synced().await;
    assert_eq!(server.faults_left(), 0);
    source.until_ips(&["10.0.0.1"]).await;
    source.until_well().await;
    source.stop().await;
}

#[tokio::test]
async fn every_fault_of_a_watch_is_survived_and_nothing_is_missed() {
    let (server, _folder, source) = start(&[("a", "10.0.0.1")]).await;
    let bookmark = |version: &str| {
        let metadata = json!({ "name": null, "resourceVersion": version });
        json!({ "type": "BOOKMARK", "object": { "metadata": metadata } }).to_string()
    };
    let faults = [
        Fault::Cut,
        Fault::EndAtOnce,
        Fault::Status(500),
        Fault::Hangup,
        Fault::Garbage,
        Fault::Line("{\"type\":\"ADDED\",\"object\":{".to_owned()),
        Fault::Line("no JSON at all".to_owned()),
        Fault::Line("{\"type\":\"ERROR\",\"object\":{\"code\":500}}".to_owned()),
        Fault::Line("{\"type\":\"ERROR\",\"object\":{\"code\":410}}".to_owned()),
        Fault::Line("{\"type\":\"ADDED\",\"object\":{\"metadata\":{}}}".to_owned()),
        Fault::Line("{\"type\":\"LATER\",\"object\":{}}".to_owned()),
        // Back in history, and far ahead of it.
        Fault::Line(bookmark("1")),
        Fault::Line(bookmark("1000000")),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let shown = format!("{fault:?}");
        server.fail("services", Ask::Watch, [fault]);
        server.cut_watches();
        until_met(&server).await;
        let ip = format!("10.0.1.{number}");
        server.put("services", service("a", &ip));
        let what = format!("{ip} after {shown}");
        source.until(&what, |cluster| ips(cluster) == [&*ip]).await;
    }
    source.stop().await;
}

#[tokio::test]
async fn a_bad_object_keeps_its_last_good_state_and_disturbs_no_other() {
    let server = Server::start().await.unwrap();
    let broken = json!({
        "metadata": { "name": "broken", "namespace": "shop" },
        "spec": { "clusterIP": 17 },
    });
    server.put("services", broken.clone());
    server.put("services", service("good", "10.0.0.1"));
    server.put("services", service("turns", "10.0.0.2"));
    let folder = tempfile::tempdir().unwrap();
    let mut source = Following::url(&server.url, folder.path(), timing());
    source.synced().await;
    source.until_ips(&["10.0.0.1", "10.0.0.2"]).await;
    let told = source.problems();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("Service shop/broken: spec.clusterIP: "),
        "{told:?}"
    );

    let mut turned = service("turns", "127.0.0.1");
    turned["spec"]["ports"][0]["port"] = json!(80);
    server.put("services", turned);
    server.put("services", service("good", "10.0.0.3"));
    source.until_ips(&["10.0.0.3", "10.0.0.2"]).await;
    let kept = "Service shop/turns: its last good state is served";
    source
        .until("the last good state to be told", move |cluster| {
            cluster
                .problems()
                .any(|problem| problem.to_string().contains(kept))
        })
        .await;
    // A new list must not take it away either, and gone is gone.
    server.fail("services", Ask::Watch, [Fault::Line("{}".to_owned())]);
    server.cut_watches();
    until_met(&server).await;
    server.put("services", service("new", "10.0.0.4"));
    source
        .until_ips(&["10.0.0.3", "10.0.0.4", "10.0.0.2"])
        .await;
    server.delete("services", "turns");
    server.delete("services", "broken");
    source.until_ips(&["10.0.0.3", "10.0.0.4"]).await;
    source.until_well().await;
    source.stop().await;
}

#[tokio::test]
async fn without_an_api_server_the_last_good_state_is_served_and_said_so() {
    let (server, folder, source) = start(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]).await;
    server.put("services", service("c", "10.0.0.3"));
    source
        .until_ips(&["10.0.0.1", "10.0.0.2", "10.0.0.3"])
        .await;
    source.stop().await;

    for resource in RESOURCES {
        server.fail(resource, Ask::List, vec![Fault::Hangup; 10]);
    }
    let mut source = Following::url(&server.url, folder.path(), timing());
    let start = Instant::now();
    source.synced().await;
    assert!(
        start.elapsed() >= timing().patience,
        "only after some patience"
    );
    assert_eq!(
        ips(&source.state.read()),
        ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    );
    let told = source.problems().join("\n");
    assert!(told.contains("as it was when last seen"), "{told}");
    assert!(told.contains("cannot be followed since"), "{told}");
    // It is back, and somebody deleted one meanwhile.
    server.delete("services", "b");
    source.until_ips(&["10.0.0.1", "10.0.0.3"]).await;
    source.until_well().await;
    source.stop().await;
}

/// As many attempts as an hour has, whose longest pause is half a minute.
#[tokio::test]
async fn an_hour_without_the_api_server_changes_nothing_and_ends_with_one_list() {
    const ATTEMPTS: usize = 120;
    let (server, _folder, source) = start(&[("a", "10.0.0.1"), ("b", "10.0.0.2")]).await;
    for kind in RESOURCES {
        // Services come back last.
        let attempts = if kind == "services" {
            ATTEMPTS
        } else {
            ATTEMPTS - 20
        };
        server.fail(kind, Ask::Watch, vec![Fault::Hangup; attempts]);
    }
    server.cut_watches();
    let is_told = |cluster: &ClusterState| {
        let mut problems = cluster.problems().map(ToString::to_string);
        problems.any(|problem| problem.contains("cannot be followed since"))
    };
    source.until("the outage to be told", is_told).await;
    server.delete("services", "b");
    server.put("services", service("c", "10.0.0.3"));
    // What happened meanwhile is not in its log any more.
    server.compact();
    let begun = Instant::now();
    while server.faults_left() > 0 {
        assert!(
            begun.elapsed() < DEADLINE * 2,
            "{} left",
            server.faults_left()
        );
        if server.faults_left() > 1 {
            assert_eq!(ips(&source.state.read()), ["10.0.0.1", "10.0.0.2"]);
            let problems = source.problems();
            assert!(problems.len() <= RESOURCES.len(), "{problems:?}");
        }
        sleep(Duration::from_millis(100)).await;
    }
    source.until_ips(&["10.0.0.1", "10.0.0.3"]).await;
    source.until_well().await;
    assert_eq!(server.requests("services", Ask::List), 2);
    source.stop().await;
}

#[tokio::test]
async fn without_an_api_server_and_a_last_good_state_nothing_is_touched() {
    let server = Server::start().await.unwrap();
    server.fail("nodes", Ask::List, vec![Fault::Hangup; 10_000]);
    let folder = tempfile::tempdir().unwrap();
    let source = Following::url(&server.url, folder.path(), timing());
    source
        .until("the problem", |cluster| cluster.problems().next().is_some())
        .await;
    sleep(timing().patience * 2).await;
    assert!(
        !*source.synced.borrow(),
        "a part of the cluster is nothing to act on"
    );
    source.stop().await;
}

#[tokio::test]
async fn a_cluster_that_flaps_is_followed_with_one_watch_per_kind() {
    let (server, _folder, source) = start(&[("a", "10.0.0.1")]).await;
    let node = |ready: bool| {
        json!({
            "metadata": { "name": "flapper" },
            "status": {
                "addresses": [{ "type": "InternalIP", "address": "192.0.2.7" }],
                "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
            },
        })
    };
    server.put("nodes", node(true));
    source
        .until("the node", |cluster| cluster.node("flapper").is_some())
        .await;
    let revision = *source.state.subscribe().borrow();
    for round in 0..2_000 {
        server.put("nodes", node(round % 2 == 0));
    }
    server.put("services", service("a", "10.0.0.9"));
    source.until_ips(&["10.0.0.9"]).await;
    server.delete("nodes", "flapper");
    source
        .until("the node to go", |cluster| {
            cluster.node("flapper").is_none()
        })
        .await;
    let more = *source.state.subscribe().borrow() - revision;
    assert_eq!(more, 2, "what is not used of a node wakes nobody");
    assert_eq!(server.requests("nodes", Ask::Watch), 1);
    source.stop().await;
}
