//! Bad input that a real API server takes, and the proof that it refuses the rest.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weir_agent::lb::desired::{ThisNode, desired};
use weir_agent::source::kubernetes::Timing;
use weir_tests::control_plane::{self, ControlPlane};
use weir_tests::wait;

use crate::following::{self, DEADLINE, Following, NODE, settings};

fn service(name: &str, spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "ports": [{ "port": 80 }] },
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

fn slice(family: &str, addresses: &[String]) -> Value {
    let endpoint = |address: &String| json!({ "addresses": [address], "nodeName": NODE, "conditions": { "ready": true } });
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "one-1", "namespace": "default",
            "labels": { "kubernetes.io/service-name": "one" },
        },
        "addressType": family,
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
    })
}

fn node(annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": NODE, "annotations": annotations },
        "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] },
    })
}

#[test]
fn what_a_real_server_refuses_is_not_waited_for_from_it() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let control_plane = ControlPlane::builder().start()?;
    let client = control_plane.client();
    let port = json!([{ "port": 80, "nodePort": 30_080 }]);
    let with_port = json!({ "type": "NodePort", "ports": port });
    client.apply(&service("one", &with_port))?;
    let mut labelled = service("labelled", &json!({}));
    labelled["metadata"]["labels"] = json!({ "app": "значение" });
    let mut long = service("long", &json!({}));
    long["metadata"]["labels"] = json!({ "app": "x".repeat(64) });
    let many: Vec<_> = (0..1_001)
        .map(|at| format!("10.1.{}.1", at % 250))
        .collect();
    for (what, object) in [
        ("the node port of another", service("two", &with_port)),
        (
            "a ClusterIP out of range",
            service("far", &json!({ "clusterIP": "10.1.0.1" })),
        ),
        (
            "a ClusterIP that is none",
            service("odd", &json!({ "clusterIP": "10.96.0.999" })),
        ),
        ("a label with other letters", labelled),
        ("a label that is too long", long),
        (
            "endpoints of the wrong family",
            slice("IPv4", &["fd00::1".to_owned()]),
        ),
        ("more than a thousand endpoints", slice("IPv4", &many)),
        (
            "more annotations than 256 KiB",
            node(&json!({ "other": "y".repeat(256 << 10) })),
        ),
    ] {
        let answer = client.apply(&object);
        assert!(answer.is_err(), "{what} was taken");
    }
    Ok(())
}

#[test]
fn what_a_real_server_takes_is_told_and_all_else_served() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let control_plane = ControlPlane::builder().start()?;
    let client = control_plane.client();
    let annotations = json!({
        "other": "y".repeat(200 << 10), "weir.dev/wireguard-public-key": "z".repeat(50 << 10),
    });
    client.apply(&node(&annotations))?;
    let contested = json!({ "externalIPs": ["203.0.113.9"] });
    client.apply(&service("one", &contested))?;
    client.apply(&service("two", &contested))?;
    let addresses: Vec<_> = (0..1_000)
        .map(|at| format!("10.1.0.{}", 1 + at % 10))
        .collect();
    client.apply(&slice("IPv4", &addresses))?;

    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let kubeconfig = std::fs::read_to_string(control_plane.kubeconfig())?;
        let settings = settings(folder.path(), &kubeconfig);
        let timing = Timing {
            pauses: following::timing().pauses,
            mistakes: Duration::from_millis(200),
            ..Timing::default()
        };
        let mut source = Following::start(settings, folder.path(), timing);
        source.synced().await;
        let this_node = ThisNode {
            name: NODE.to_owned(),
            ..ThisNode::default()
        };
        let desired = desired(&source.state.read(), &this_node);
        let one = desired
            .services
            .iter()
            .find(|(key, _)| &*key.name.name == "one");
        let backends = one.map(|(_, service)| service.backends.len());
        assert_eq!(
            backends,
            Some(10),
            "an address that is repeated is one backend"
        );
        let [problem] = &desired.problems[..] else {
            panic!("{:?}", desired.problems);
        };
        assert_eq!(problem.object, "Service default/two");
        // As the load balancer's task does.
        let problems = desired.problems.clone();
        source
            .state
            .update(|state| state.set_problems("load balancer", problems));
        let annotation = "metadata.annotations[weir.dev/wireguard-public-key]: has 51200 bytes";
        for (name, words) in [
            ("two", "203.0.113.9 port 80/TCP belongs to"),
            (NODE, annotation),
        ] {
            wait::until(&format!("an event about {name}"), DEADLINE, || {
                let events = client.object("/api/v1/namespaces/default/events")?;
                let events = events["items"].as_array().cloned().unwrap_or_default();
                let told = events.iter().any(|event| {
                    let message = event["message"].as_str().unwrap_or_default();
                    event["involvedObject"]["name"] == name && message.contains(words)
                });
                ensure!(told, "{events:?}");
                Ok(())
            })?;
        }
        let told = source.problems().join("\n");
        assert!(told.contains(annotation), "{told}");
        source.stop().await;
        Ok(())
    })
}
