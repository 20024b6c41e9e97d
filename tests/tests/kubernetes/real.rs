//! What the source makes of a real API server.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use weir_agent::source::kubernetes::Timing;
use weir_agent::source::kubernetes::record::{CONDITION, VERSION_ANNOTATION};
use weir_agent::state::ClusterState;
use weir_tests::control_plane::{self, AGENT_TOKEN, Client, ControlPlane};
use weir_tests::wait;

use crate::differential::{tables, through_manifests};
use crate::following::{self, DEADLINE, Following, NODE, ips, settings};

/// Name of the Service of [`web`].
const WEB: &str = "web";

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .unwrap()
}

/// Times as they are, but for pauses: a busy machine's API server is slow.
fn timing() -> Timing {
    Timing {
        pauses: following::timing().pauses,
        patience: Duration::from_secs(3),
        ..Timing::default()
    }
}

fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": { "zone": "a" }, "annotations": { "other": "x" } },
        "spec": {
            "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"],
            "taints": [
                { "key": "node.weir.dev/agent-not-ready", "effect": "NoSchedule" },
                { "key": "other", "value": "x", "effect": "NoExecute" },
            ],
        },
        "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] },
    })
}

/// A Service with a slice, a pod behind it, the node of that and a namespace.
fn web() -> Vec<Value> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web-1", "namespace": "default", "labels": { "app": "web" } },
        "spec": {
            "nodeName": NODE,
            "containers": [{ "name": "c", "image": "example.invalid/web" }],
        },
        "status": {
            "phase": "Running", "podIP": "10.244.1.2",
            "podIPs": [{ "ip": "10.244.1.2" }, { "ip": "fd00:10:244:1::2" }],
        },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": WEB, "namespace": "default" },
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.80",
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080 }],
        },
        "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.1" }] } },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "web-v4", "namespace": "default",
            "labels": { "kubernetes.io/service-name": WEB },
        },
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": ["10.244.1.2"], "nodeName": NODE,
            "conditions": { "ready": true, "serving": true, "terminating": false },
        }],
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
    });
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "shop", "labels": { "team": "shop" } },
    });
    vec![namespace, node(NODE), pod, service, slice]
}

fn apply(client: &Client, objects: &[Value]) -> Result<()> {
    objects.iter().try_for_each(|object| client.apply(object))
}

fn start(control_plane: &ControlPlane, token: &str) -> Result<(TempDir, Following)> {
    let folder = tempfile::tempdir()?;
    let kubeconfig = control_plane.kubeconfig_for("127.0.0.1", control_plane.port(), token)?;
    let settings = settings(folder.path(), &kubeconfig);
    let following = Following::start(settings, folder.path(), timing());
    Ok((folder, following))
}

fn cluster_ip(cluster: &ClusterState, name: &str) -> Option<String> {
    let mut services = cluster
        .services()
        .filter(|service| &*service.name.name == name);
    Some(services.next()?.cluster_ips.first()?.to_string())
}

#[test]
fn a_cluster_is_followed_and_its_tables_are_those_of_the_same_manifests() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let control_plane = ControlPlane::builder().start()?;
    let client = control_plane.client();
    apply(&client, &web())?;
    runtime().block_on(async {
        let (_folder, mut source) = start(&control_plane, "test-admin-token")?;
        source.synced().await;

        // What the API server has made of the objects, as manifests.
        let mut objects = Vec::new();
        for (path, kind, version) in [
            ("/api/v1/services", "Service", "v1"),
            (
                "/apis/discovery.k8s.io/v1/endpointslices",
                "EndpointSlice",
                "discovery.k8s.io/v1",
            ),
            ("/api/v1/pods", "Pod", "v1"),
            ("/api/v1/nodes", "Node", "v1"),
            ("/api/v1/namespaces", "Namespace", "v1"),
        ] {
            for mut object in client.object(path)?["items"].as_array().unwrap().clone() {
                object["kind"] = json!(kind);
                object["apiVersion"] = json!(version);
                objects.push(object);
            }
        }
        // The record of the node is written meanwhile, and goes into its annotations.
        let strip = |mut all: crate::differential::Tables| {
            all.3.iter_mut().for_each(|node| node.annotations.clear());
            all
        };
        let expected = strip(through_manifests(&objects).await);
        let actual = strip(tables(&source.state.read()));
        assert_eq!(actual, expected);
        ensure!(
            actual.0.len() == 2 && actual.1.len() >= 2 && actual.2.len() == 1,
            "{actual:?}"
        );

        // Changes and deletions come by the watch.
        client.patch(
            "/api/v1/namespaces/default/services/web",
            &json!({ "status": null, "spec": { "externalIPs": ["198.51.100.7"] } }),
        )?;
        let has_external = |cluster: &ClusterState| {
            cluster
                .services()
                .any(|service| !service.external_ips.is_empty())
        };
        source.until("the external address", has_external).await;
        client.delete("/api/v1/namespaces/default/pods/web-1")?;
        source
            .until("no pod", |cluster| cluster.pods().next().is_none())
            .await;
        source.stop().await;
        Ok(())
    })
}

#[test]
fn an_api_server_that_is_away_takes_nothing_and_what_changed_is_found_when_it_is_back() -> Result<()>
{
    if !control_plane::is_available() {
        return Ok(());
    }
    let mut control_plane = ControlPlane::builder().start()?;
    let client = control_plane.client();
    apply(&client, &web())?;
    runtime().block_on(async {
        let (_folder, mut source) = start(&control_plane, "test-admin-token")?;
        source.synced().await;
        control_plane.kill_api_server();
        let told = |cluster: &ClusterState| {
            let told = |text: String| text.contains("cannot be followed since");
            cluster.problems().any(|problem| told(problem.to_string()))
        };
        source.until("the problem", told).await;
        assert_eq!(
            cluster_ip(&source.state.read(), WEB).as_deref(),
            Some("10.96.0.80")
        );

        control_plane.start_api_server()?;
        client.delete("/api/v1/namespaces/default/services/web")?;
        let mut other = web().remove(3);
        other["metadata"]["name"] = json!("other");
        other["spec"]["clusterIP"] = json!("10.96.0.81");
        other["spec"]["ports"][0]["nodePort"] = json!(30081);
        client.apply(&other)?;
        source
            .until("what changed", |cluster| {
                cluster_ip(cluster, WEB).is_none() && cluster_ip(cluster, "other").is_some()
            })
            .await;
        source.until_well().await;
        source.stop().await;
        Ok(())
    })
}

fn own_node(client: &Client) -> Result<Value> {
    client.object(&format!("/api/v1/nodes/{NODE}"))
}

fn condition(node: &Value) -> Option<&Value> {
    let conditions = node["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == CONDITION)
}

#[test]
fn with_the_role_of_the_manifests_the_record_and_events_are_written_and_no_more() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let control_plane = ControlPlane::builder().start()?;
    let client = control_plane.client();
    apply(&client, &web())?;
    let mut named = web().remove(4);
    named["metadata"]["name"] = json!("named");
    named["metadata"]["labels"]["kubernetes.io/service-name"] = json!("Web.Shop");
    client.apply(&named)?;
    runtime().block_on(async {
        // Without the role everything is refused, and said so.
        let (_folder, mut source) = start(&control_plane, AGENT_TOKEN)?;
        let refused = |cluster: &ClusterState| {
            let refused = |text: &str| text.contains("403") && text.contains("rbac.yaml");
            cluster.problems().any(|problem| refused(&problem.message))
        };
        source.until("the refusal", refused).await;
        control_plane.grant_agent_role()?;
        let guard = source.readiness.guard("a part");
        source.synced().await;

        let says = |what: &str, holds: &dyn Fn(&Value) -> bool| {
            wait::until(what, DEADLINE, || {
                let node = own_node(&client)?;
                ensure!(holds(&node), "{node:#}");
                Ok(())
            })
        };
        says("the condition while starting", &|node| {
            condition(node).is_some_and(|it| it["status"] == "False")
        })?;
        assert_eq!(
            own_node(&client)?["spec"]["taints"]
                .as_array()
                .map(Vec::len),
            Some(3)
        );
        source
            .annotations
            .send_replace([("weir.dev/wireguard-public-key", Some("key".to_owned()))].into());
        guard.done();
        says("condition, version, key and no taint when ready", &|node| {
            let annotations = &node["metadata"]["annotations"];
            let taints = node["spec"]["taints"].as_array();
            let ours = |taint: &Value| taint["key"] == "node.weir.dev/agent-not-ready";
            condition(node).is_some_and(|it| it["status"] == "True")
                && annotations[VERSION_ANNOTATION].is_string()
                && annotations["weir.dev/wireguard-public-key"] == "key"
                && annotations["other"] == "x"
                && taints.is_some_and(|taints| taints.len() == 2 && !taints.iter().any(ours))
        })?;
        // Somebody removes it: it comes back. It is not wanted any more: it goes.
        let path = format!("/api/v1/nodes/{NODE}");
        let nothing = json!({ "metadata": { "annotations": { VERSION_ANNOTATION: null } } });
        client.patch(&path, &nothing)?;
        says("the version to be back", &|node| {
            node["metadata"]["annotations"][VERSION_ANNOTATION].is_string()
        })?;
        source
            .annotations
            .send_replace([("weir.dev/wireguard-public-key", None)].into());
        says("the key to go", &|node| {
            node["metadata"]["annotations"]
                .get("weir.dev/wireguard-public-key")
                .is_none()
        })?;

        wait::until("an event about the slice", DEADLINE * 2, || {
            let events = client.object("/api/v1/namespaces/default/events")?;
            let events = events["items"].as_array().cloned().unwrap_or_default();
            let about = |event: &&Value| {
                event["involvedObject"]["name"] == "named" && event["reason"] == "Misconfigured"
            };
            let event = events.iter().find(about);
            let message = event.and_then(|event| event["message"].as_str());
            ensure!(
                message.is_some_and(|it| it.contains("Web.Shop")),
                "{events:?}"
            );
            Ok(())
        })?;
        assert!(
            !source.problems().iter().any(|it| it.contains("403")),
            "{:?}",
            source.problems()
        );
        source.stop().await;
        Ok(())
    })
}

#[test]
fn the_api_server_is_reached_at_the_configured_address_alone() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let control_plane = ControlPlane::builder().start()?;
    apply(&control_plane.client(), &web())?;
    // Where the file says it is there is somebody who must not be asked: as the ClusterIP would be
    // while nobody serves it.
    let trap = TcpListener::bind("127.0.0.1:0")?;
    trap.set_nonblocking(true)?;
    runtime().block_on(async {
        let folder = tempfile::tempdir()?;
        let port = trap.local_addr()?.port();
        let kubeconfig = control_plane.kubeconfig_for("127.0.0.1", port, "test-admin-token")?;
        let mut settings = settings(folder.path(), &kubeconfig);
        settings.api_server.host = Some("localhost".to_owned());
        settings.api_server.port = weir_agent::config::Count::new(control_plane.port().into());
        let mut source = Following::start(settings, folder.path(), timing());
        source.synced().await;
        assert_eq!(ips(&source.state.read()).len(), 2);
        let asked = trap.accept();
        assert!(asked.is_err(), "the address of the file was asked");
        source.stop().await;
        Ok(())
    })
}
