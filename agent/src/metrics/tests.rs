//! Everything that is declared is exposed and nothing else; alerts are about what is exposed.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::Path;

use ebpf_abi::{Counter, NodeId, TrafficPath, TrafficValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::api::admin::{
    AgentStatus, BalancerStatus, DatapathStatus, EndpointInterface, Interface, InterfaceRole,
    MapLevel, Service, TcMode, XdpMode,
};
use crate::encryption::snapshot::sample::{Counted, snapshot};

struct Told;

impl StatusSource for Told {
    fn counter(&self, counter: Counter) -> anyhow::Result<u64> {
        Ok(counter as u64)
    }

    fn status(&self) -> anyhow::Result<AgentStatus> {
        let interface = Interface {
            name: "eth0".into(),
            index: 2,
            role: InterfaceRole::Uplink,
            xdp_mode: Some(XdpMode::Native),
            tc_mode: Some(TcMode::Tcx),
        };
        let counters = Counter::ALL.iter().zip(1..);
        Ok(AgentStatus {
            datapath: DatapathStatus {
                interfaces: vec![interface.clone(), interface],
                ..DatapathStatus::default()
            },
            counters: counters
                .map(|((_, name), value)| ((*name).to_owned(), value))
                .collect(),
            maps: vec![MapLevel {
                name: "MAGLEV".into(),
                entries: 3,
                capacity: 10,
            }],
            balancer: BalancerStatus {
                services: 4,
                frontends: 5,
                backends: 6,
            },
            failures: vec!["one".into()],
            ..AgentStatus::default()
        })
    }

    fn services(&self) -> anyhow::Result<Vec<Service>> {
        unreachable!("too dear for a scrape")
    }

    fn endpoint_interfaces(&self) -> anyhow::Result<Vec<EndpointInterface>> {
        unreachable!("too dear for a scrape")
    }
}

fn sources(others: u32) -> Sources {
    let value = TrafficValue {
        packets: 2,
        bytes: 100,
    };
    let account = (2..others + 2).map(|number| ((NodeId(number), TrafficPath::ENCRYPTED), value));
    let account = account.chain([((NodeId(0), TrafficPath::DROPPED), value)]);
    let account = Counted(account.collect());
    let (handle, _) = EncryptionHandle::new(snapshot(others), Arc::new(account));
    Sources {
        node_name: "node-1".into(),
        readiness: Readiness::new(),
        status: Arc::new(Told),
        hub: Arc::new(FlowHub::new(NonZeroUsize::new(16).unwrap())),
        state: SharedState::new(),
        encryption: Some(handle),
    }
}

/// Samples by name and labels, as they stand there.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name, value.parse().unwrap())
        })
        .collect()
}

fn names(text: &str) -> BTreeSet<String> {
    let name = |sample: &&str| sample.split('{').next().unwrap().to_owned();
    samples(text).keys().map(name).collect()
}

#[test]
fn what_is_declared_is_exposed_and_nothing_else() {
    let text = sources(1).exposition().unwrap();
    let declared: BTreeSet<_> = table::all().map(|(_, metric)| metric.full_name()).collect();
    assert_eq!(names(&text), declared);
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn names_follow_the_rules_of_prometheus() {
    let mut seen = BTreeSet::new();
    for (_, metric) in table::all() {
        let name = metric.full_name();
        assert!(name.starts_with("weir_"), "{name}");
        assert!(seen.insert(name.clone()), "{name} is there twice");
        assert!(!metric.help.ends_with('.'), "{name}");
        assert!(!metric.name.ends_with("_total"), "{name}");
    }
}

#[test]
fn samples_have_the_values_of_what_they_tell() {
    let text = sources(1).exposition().unwrap();
    let samples = samples(&text);
    let drop = Counter::DropUnencrypted as u32 + 1;
    for (name, value) in [
        (
            r#"weir_datapath_dropped_packets_total{reason="unencrypted"}"#,
            f64::from(drop),
        ),
        (
            r#"weir_datapath_events_total{event="connections_new"}"#,
            1.0,
        ),
        (
            r#"weir_datapath_interfaces{role="uplink",xdp="native"}"#,
            2.0,
        ),
        (r#"weir_datapath_map_capacity{map="MAGLEV"}"#, 10.0),
        ("weir_balancer_backends", 6.0),
        ("weir_agent_ready", 1.0),
        ("weir_agent_failures", 1.0),
        (r#"weir_encryption_nodes{standing="peer"}"#, 1.0),
        (r#"weir_encryption_nodes{standing="no_key"}"#, 0.0),
        (r#"weir_encryption_peers{handshake="fresh"}"#, 1.0),
        (
            r#"weir_encryption_traffic_bytes_total{node="node-2",path="encrypted"}"#,
            100.0,
        ),
        (
            r#"weir_encryption_traffic_packets_total{node="(unknown)",path="dropped"}"#,
            2.0,
        ),
        (
            r#"weir_encryption_traffic_packets_total{node="(unknown)",path="clear_tunnel"}"#,
            0.0,
        ),
        ("weir_encryption_failed_steps_total", 2.0),
        ("weir_encryption_strict", 1.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}\n{text}");
    }
    for (name, at_least) in [
        ("weir_encryption_key_age_seconds", 1_000.0),
        ("weir_encryption_key_rotation_age_seconds", 100.0),
        ("weir_encryption_key_rotation_overdue_seconds", 70.0),
        (
            r#"weir_encryption_last_handshake_age_seconds{node="node-2"}"#,
            30.0,
        ),
    ] {
        let value = samples[name];
        assert!(
            (at_least..at_least + 60.0).contains(&value),
            "{name} {value}"
        );
    }
}

#[test]
fn a_cluster_of_thousands_of_nodes_does_not_make_as_many_samples() {
    let text = sources(5_000).exposition().unwrap();
    let lines = text.lines().count();
    assert!(lines < 1_500, "{lines}");
    let others = r#"weir_encryption_traffic_bytes_total{node="(others)",path="encrypted"}"#;
    // The first 256 places are this node's and those of 255 peers.
    let expected = f64::from(5_000 - 255) * 100.0;
    assert_eq!(samples(&text).get(others), Some(&expected));
}

#[test]
fn an_agent_without_encryption_says_so() {
    let mut sources = sources(1);
    sources.encryption = None;
    let text = sources.exposition().unwrap();
    let encryption: Vec<_> = samples(&text)
        .into_iter()
        .filter(|(name, _)| name.contains("encryption"))
        .collect();
    assert_eq!(encryption, [("weir_encryption_enabled", 0.0)]);
}

fn rules() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus/rules.yaml")
}

#[test]
fn alerts_are_about_metrics_that_are_exposed() {
    let exposed = names(&sources(1).exposition().unwrap());
    let text = std::fs::read_to_string(rules()).unwrap();
    let rules: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).unwrap();
    let metric = regex::Regex::new(r"\bweir_\w+").unwrap();
    let mut alerts = 0;
    for group in rules["groups"].as_sequence().unwrap() {
        for rule in group["rules"].as_sequence().unwrap() {
            alerts += 1;
            let alert = rule["alert"].as_str().unwrap();
            let expression = rule["expr"].as_str().unwrap();
            let named: Vec<_> = metric.find_iter(expression).collect();
            assert!(!named.is_empty(), "{alert} names no metric");
            for name in named {
                assert!(
                    exposed.contains(name.as_str()),
                    "{alert}: {}",
                    name.as_str()
                );
            }
            assert!(rule["labels"]["severity"].is_string(), "{alert}");
            assert!(rule["annotations"]["summary"].is_string(), "{alert}");
        }
    }
    assert!(alerts >= 7, "{alerts} alerts");
}

/// One request; the status line, and the body.
async fn get(address: std::net::SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.lines().next().unwrap().to_owned();
    (status, body.to_owned())
}

#[tokio::test]
async fn health_readiness_and_metrics_are_served_over_http() {
    let sources = sources(1);
    let guard = sources.readiness.guard("encrypt");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let server = Arc::new(server::Server::new(sources));
    let task = tokio::spawn(async move { server::serve(listener, server, &stopped).await });

    let ask = |method: &str, path: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: weir\r\n\r\n");
        async move { get(address, &request).await }
    };
    assert_eq!(ask("GET", "/healthz").await.0, "HTTP/1.1 200 OK");
    let (status, body) = ask("GET", "/readyz").await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(body, "the agent has yet to encrypt\n");
    drop(guard);
    assert_eq!(ask("GET", "/readyz").await.1, "ready\n");
    let (status, body) = ask("GET", "/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.contains("weir_build_info{"), "{body}");
    assert_eq!(ask("GET", "/").await.0, "HTTP/1.1 404 Not Found");
    let refused = ask("POST", "/metrics").await.0;
    assert_eq!(refused, "HTTP/1.1 405 Method Not Allowed");

    // Those who connect and say nothing leave room for others.
    let silent: Vec<_> =
        futures::future::join_all((0..8).map(|_| TcpStream::connect(address))).await;
    assert_eq!(ask("GET", "/healthz").await.1, "ok\n");
    drop(silent);
    stop.cancel();
    task.await.unwrap();
}
