//! The same objects through both sources make the same tables.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_agent::source::manifests;
use weir_agent::state::{ClusterState, EndpointSlice, Namespace, Node, Pod, Service, SharedState};
use weir_tests::api_server::Server;

use crate::following::{Following, timing};

/// Everything that the tables hold.
pub type Tables = (
    Vec<Service>,
    Vec<EndpointSlice>,
    Vec<Pod>,
    Vec<Node>,
    Vec<Namespace>,
);

/// A copy of all tables.
pub fn tables(cluster: &ClusterState) -> Tables {
    (
        cluster.services().cloned().collect(),
        cluster.endpoint_slices().cloned().collect(),
        cluster.pods().cloned().collect(),
        cluster.nodes().cloned().collect(),
        cluster.namespaces().cloned().collect(),
    )
}

/// The tables that these objects make as manifests.
pub async fn through_manifests(objects: &[Value]) -> Tables {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("manifests");
    std::fs::create_dir(&directory).unwrap();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    std::fs::write(directory.join("all.json"), list.to_string()).unwrap();
    let (state, stop) = (SharedState::new(), CancellationToken::new());
    let (sender, mut synced) = watch::channel(false);
    let files = folder.path().join("state");
    let source = manifests::run(directory, files, state.clone(), sender, stop.clone());
    let task = tokio::spawn(source);
    synced.wait_for(|synced| *synced).await.unwrap();
    let tables = tables(&state.read());
    stop.cancel();
    task.await.unwrap().unwrap();
    tables
}

/// The tables that these objects make when an API server lists them.
async fn through_a_list(objects: &[Value]) -> Tables {
    let server = Server::start().await.unwrap();
    for object in objects {
        let kind = object["kind"].as_str().unwrap();
        server.put(&format!("{}s", kind.to_lowercase()), object.clone());
    }
    let folder = tempfile::tempdir().unwrap();
    let mut source = Following::url(&server.url, folder.path(), timing());
    source.synced().await;
    let tables = tables(&source.state.read());
    source.stop().await;
    tables
}

/// The tables that these objects make when a watch tells of them one by one, over others before.
async fn through_a_watch(objects: &[Value]) -> Tables {
    let server = Server::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut source = Following::url(&server.url, folder.path(), timing());
    source.synced().await;
    for object in objects {
        let kind = object["kind"].as_str().unwrap();
        server.put(&format!("{}s", kind.to_lowercase()), object.clone());
    }
    // The last one of each kind, which is good: when it is there, all before it are.
    for kind in ["Service", "EndpointSlice", "Pod", "Node", "Namespace"] {
        server.put(&format!("{}s", kind.to_lowercase()), last_of(kind));
    }
    let is_last = |name: &str| name == "zz-last";
    source
        .until("the last objects", |cluster| {
            cluster.services().any(|it| is_last(&it.name.name))
                && cluster.endpoint_slices().any(|it| is_last(&it.name.name))
                && cluster.pods().any(|it| is_last(&it.name.name))
                && cluster.nodes().any(|it| is_last(&it.name))
                && cluster.namespaces().any(|it| is_last(&it.name))
        })
        .await;
    let mut tables = tables(&source.state.read());
    tables.0.retain(|it| !is_last(&it.name.name));
    tables.1.retain(|it| !is_last(&it.name.name));
    tables.2.retain(|it| !is_last(&it.name.name));
    tables.3.retain(|it| !is_last(&it.name));
    tables.4.retain(|it| !is_last(&it.name));
    source.stop().await;
    tables
}

fn last_of(kind: &str) -> Value {
    let mut object = json!({ "kind": kind, "metadata": { "name": "zz-last" } });
    match kind {
        "Service" => object["spec"] = json!({ "clusterIP": "None" }),
        "EndpointSlice" => {
            object["metadata"]["labels"] = json!({ "kubernetes.io/service-name": "zz" });
            object["addressType"] = json!("IPv4");
            object["endpoints"] = json!([]);
            object["ports"] = json!([{ "port": 1 }]);
        }
        "Pod" => object["spec"] = json!({ "containers": [] }),
        _ => {}
    }
    object
}

/// An address, mostly good.
fn ip() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (1..250_u8, 1..250_u8).prop_map(|(a, b)| format!("10.1.{a}.{b}")),
        3 => (1..999_u16).prop_map(|a| format!("fd00::{a}")),
        1 => prop_oneof![Just("127.0.0.1"), Just("0.0.0.0"), Just("224.0.0.1"), Just("010.1.1.1"),
            Just("host"), Just(""), Just("::ffff:10.0.0.1")].prop_map(str::to_owned),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![12 => "[a-e]{1,2}", 1 => Just("Bad_Name".to_owned())]
}

fn namespace() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!("shop")),
        Just(json!("default")),
        Just(Value::Null)
    ]
}

fn labels() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({ "app": "web" })),
        Just(json!({ "app": "naïve", "x": "y" })),
        Just(json!({ "app": "x".repeat(300), "pod-template-hash": "abc" })),
    ]
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        10 => (1..65_535_i64).prop_map(|port| json!(port)),
        1 => prop_oneof![Just(json!(0)), Just(json!(70_000)), Just(json!("http")), Just(json!(-1))],
    ]
}

fn service() -> impl Strategy<Value = Value> {
    let port = (
        number(),
        "[a-c]",
        prop_oneof![Just("TCP"), Just("UDP"), Just("SCTP"), Just("X")],
    );
    let kind = prop_oneof![Just("ClusterIP"), Just("NodePort"), Just("LoadBalancer")];
    let ports = prop::collection::vec(port, 0..4);
    let externals = prop::collection::vec(ip(), 0..3);
    (name(), namespace(), kind, ip(), ports, externals, labels()).prop_map(
        |(name, namespace, kind, ip, ports, externals, labels)| {
            let ports: Vec<_> = ports
                .into_iter()
                .map(|(port, name, protocol)| {
                    json!({ "port": port, "name": name, "protocol": protocol })
                })
                .collect();
            let ingress: Vec<_> = externals.iter().map(|ip| json!({ "ip": ip })).collect();
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": { "name": name, "namespace": namespace, "labels": labels },
                "spec": {
                    "type": kind, "clusterIP": ip, "ports": ports, "externalIPs": externals,
                    "sessionAffinity": "ClientIP",
                },
                "status": { "loadBalancer": { "ingress": ingress } },
            })
        },
    )
}

fn slice() -> impl Strategy<Value = Value> {
    let condition = prop_oneof![Just(Value::Null), Just(json!(true)), Just(json!(false))];
    let endpoint = (ip(), condition.clone(), condition, prop::option::of("[ab]"));
    let family = prop_oneof![4 => Just("IPv4"), 2 => Just("IPv6"), 1 => Just("FQDN")];
    let endpoints = prop::collection::vec(endpoint, 0..6);
    (name(), namespace(), family, endpoints, number()).prop_map(
        |(name, namespace, family, endpoints, port)| {
            let endpoints: Vec<_> = endpoints
                .into_iter()
                .map(|(ip, ready, terminating, node)| {
                    json!({
                        "addresses": [ip], "nodeName": node,
                        "conditions": { "ready": ready, "terminating": terminating },
                    })
                })
                .collect();
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": name, "namespace": namespace,
                    "labels": { "kubernetes.io/service-name": "web" },
                },
                "addressType": family, "endpoints": endpoints, "ports": [{ "port": port }],
            })
        },
    )
}

fn pod() -> impl Strategy<Value = Value> {
    let phase = prop_oneof![Just("Running"), Just("Failed"), Just("Pending")];
    let ips = prop::collection::vec(ip(), 0..3);
    (name(), namespace(), labels(), phase, ips, any::<bool>()).prop_map(
        |(name, namespace, labels, phase, ips, host)| {
            let ips: Vec<_> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": name, "namespace": namespace, "labels": labels,
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-abc",
                        "uid": "u", "controller": true,
                    }],
                },
                "spec": {
                    "nodeName": "a", "hostNetwork": host,
                    "containers": [{ "name": "c", "image": "i" }],
                },
                "status": { "phase": phase, "podIPs": ips },
            })
        },
    )
}

fn node() -> impl Strategy<Value = Value> {
    let annotation = prop_oneof![Just("key".to_owned()), Just("x".repeat(256 << 10))];
    (name(), ip(), labels(), annotation).prop_map(|(name, ip, labels, annotation)| {
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": name, "labels": labels,
                "annotations": { "weir.dev/wireguard-public-key": annotation, "other": "x" },
            },
            "spec": { "podCIDRs": ["10.1.0.0/24"] },
            "status": { "addresses": [{ "type": "InternalIP", "address": ip }] },
        })
    })
}

/// Objects of all kinds, no two with one name.
fn objects() -> impl Strategy<Value = Vec<Value>> {
    let namespace = (name(), labels()).prop_map(|(name, labels)| {
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "labels": labels },
        })
    });
    let any = prop_oneof![3 => service(), 3 => slice(), 3 => pod(), 1 => node(), 1 => namespace];
    prop::collection::vec(any, 0..40).prop_map(|objects| {
        let key = |object: &Value| {
            let metadata = &object["metadata"];
            format!(
                "{}{}{}",
                object["kind"], metadata["namespace"], metadata["name"]
            )
        };
        let unique: BTreeMap<_, _> = objects.into_iter().map(|it| (key(&it), it)).collect();
        // Without a namespace it is that of `default`: only one of the two.
        let without = |object: &Value| object["metadata"]["namespace"].is_null();
        let twins: Vec<_> = unique.values().filter(|it| without(it)).cloned().collect();
        let has_twin = |object: &Value| {
            let mut twin = object.clone();
            twin["metadata"]["namespace"] = Value::Null;
            object["metadata"]["namespace"] == "default"
                && twins.iter().any(|it| key(it) == key(&twin))
        };
        unique
            .values()
            .filter(|it| !has_twin(it))
            .cloned()
            .collect()
    })
}

#[test]
fn lists_watches_and_manifests_of_the_same_objects_make_the_same_tables() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .unwrap();
    let config = Config {
        cases: 24,
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let served = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&objects(), |objects| {
            let compare = async {
                let manifests = through_manifests(&objects).await;
                assert_eq!(through_a_list(&objects).await, manifests, "listed");
                assert_eq!(through_a_watch(&objects).await, manifests, "watched");
                manifests.0.len() + manifests.1.len() + manifests.2.len()
            };
            let deadline = Duration::from_mins(2);
            let compared =
                runtime.block_on(async { tokio::time::timeout(deadline, compare).await });
            served.set(served.get() + compared.expect("in time"));
            Ok(())
        })
        .unwrap();
    let served = served.get();
    assert!(
        served > 50,
        "{served} objects were good: the comparison was one of something"
    );
}
