//! `weir connectivity test` against a real API server.
//!
//! There is no kubelet, so no command runs in a pod. What is shown here: that the API server takes
//! the objects as they are meant, what is said when pods do not become ready, that nothing is left,
//! and how far the command goes once pods say that they are ready.

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use weir_connectivity::kubernetes::objects::Plan;
use weir_tests::connectivity::{Checked, command};
use weir_tests::control_plane::{self, Client, ControlPlane};
use weir_tests::wait;

/// Exit code of what could not be run.
const COULD_NOT_RUN: i32 = 2;
const NAMESPACE: &str = "check";
/// How long the API server and its controllers may take, on a busy machine.
const SOON: Duration = Duration::from_mins(1);

/// With the controllers that make slices and remove namespaces, and nodes that say they are ready.
fn start(nodes: &[&str]) -> Result<(ControlPlane, Client)> {
    let control_plane = ControlPlane::builder().with_controllers().start()?;
    let client = control_plane.client();
    for (index, name) in nodes.iter().enumerate() {
        let address = json!({ "type": "InternalIP", "address": format!("192.0.2.{}", index + 1) });
        let ready = json!({ "type": "Ready", "status": "True" });
        client.apply(&json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name },
            "status": { "addresses": [address], "conditions": [ready] },
        }))?;
        // New nodes have a taint until a controller has seen that they are ready.
        client.patch(
            &format!("/api/v1/nodes/{name}"),
            &json!({ "spec": { "taints": null } }),
        )?;
    }
    Ok((control_plane, client))
}

fn spawn(control_plane: &ControlPlane, arguments: &[&str]) -> Result<Child> {
    let kubeconfig = control_plane.kubeconfig().display().to_string();
    let common = [
        "--kubeconfig",
        &kubeconfig,
        "--namespace",
        NAMESPACE,
        "--image",
        "weir:test",
    ];
    let mut command = command(&[&common[..], arguments].concat())?;
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("start weir connectivity test")
}

fn run(control_plane: &ControlPlane, arguments: &[&str]) -> Result<Checked> {
    Ok(spawn(control_plane, arguments)?.wait_with_output()?.into())
}

fn path(kind: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{kind}/{name}")
}

/// Fails if the namespace, and so anything in it, is there.
fn must_be_gone(client: &Client) -> Result<()> {
    let status = client
        .get(&format!("/api/v1/namespaces/{NAMESPACE}"))?
        .status;
    ensure!(status == 404, "the namespace answers {status}");
    Ok(())
}

/// A slice of a service with the first server in it, ready.
fn slice(service: &str, family: &str, address: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-test-{}", family.to_lowercase()), "namespace": NAMESPACE,
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": family,
        "endpoints": [{ "addresses": [address], "conditions": { "ready": true } }],
        "ports": [],
    })
}

/// Fails where `made` has not all that was `asked` for: what an API server does not know it drops.
fn must_hold(made: &Value, asked: &Value, place: &str) -> Result<()> {
    match (made, asked) {
        (Value::Object(made), Value::Object(asked)) => {
            for (key, asked) in asked {
                let place = format!("{place}.{key}");
                let made = made
                    .get(key)
                    .with_context(|| format!("{place} was dropped"))?;
                must_hold(made, asked, &place)?;
            }
        }
        (Value::Array(made), Value::Array(asked)) => {
            ensure!(made.len() >= asked.len(), "{place} lost elements");
            for (index, asked) in asked.iter().enumerate() {
                must_hold(&made[index], asked, &format!("{place}[{index}]"))?;
            }
        }
        (made, asked) if made == asked => {}
        _ => bail!("{place} is {made} instead of {asked}"),
    }
    Ok(())
}

#[test]
fn objects_are_taken_as_they_are_meant_and_nothing_is_left() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let (control_plane, client) = start(&["a", "b"])?;
    let child = spawn(&control_plane, &["--ready-timeout", "10s"])?;
    let plan = Plan {
        namespace: NAMESPACE.into(),
        image: "weir:test".into(),
        pull_policy: None,
        nodes: vec!["a".into(), "b".into()],
    };
    let pods = plan.pods();
    let mut wanted = vec![(
        format!("/api/v1/namespaces/{NAMESPACE}"),
        json!(plan.namespace()),
    )];
    for pod in &pods {
        let name = pod.metadata.name.as_deref().context("it has a name")?;
        wanted.push((path("pods", name), json!(pod)));
    }
    for service in plan.services() {
        let name = service.metadata.name.as_deref().context("it has a name")?;
        wanted.push((path("services", name), json!(service)));
    }
    assert_eq!(wanted.len(), 1 + 6 + 2);
    for (path, asked) in wanted.iter().rev() {
        let made = wait::until(path, SOON, || client.object(path))?;
        must_hold(&made, asked, path)?;
    }

    let checked = Checked::from(child.wait_with_output()?);
    assert_eq!(checked.code, Some(COULD_NOT_RUN), "{checked:?}");
    for words in [
        "not ready after 10s",
        "pod server-1 on a: Pending, neither a scheduler nor a kubelet",
        "pod host-2 on b: Pending",
        "service echo: 0 of 2 endpoints are ready",
        "--keep",
    ] {
        ensure!(
            checked.stderr.contains(words),
            "{words:?} is not in\n{}",
            checked.stderr
        );
    }
    must_be_gone(&client)
}

#[test]
fn a_signal_ends_it_and_nothing_is_left() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let (control_plane, client) = start(&["a"])?;
    let child = spawn(&control_plane, &[])?;
    wait::until("a pod", SOON, || client.object(&path("pods", "host-1")))?;
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT)?;
    let checked = Checked::from(child.wait_with_output()?);
    assert_eq!(checked.code, Some(COULD_NOT_RUN), "{checked:?}");
    ensure!(
        checked.stderr.ends_with("weir: interrupted\n"),
        "{}",
        checked.stderr
    );
    must_be_gone(&client)
}

#[test]
fn what_is_not_its_own_is_left_alone() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let (control_plane, client) = start(&["a"])?;
    client.apply(&json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
    }))?;
    let checked = run(&control_plane, &[])?;
    assert_eq!(checked.code, Some(COULD_NOT_RUN), "{checked:?}");
    ensure!(
        checked
            .stderr
            .contains("is there already, and is left alone"),
        "{checked:?}"
    );
    let namespace = client.object(&format!("/api/v1/namespaces/{NAMESPACE}"))?;
    assert_eq!(namespace["status"]["phase"], "Active");

    // With no node that takes pods, nothing is made at all.
    client.patch(
        "/api/v1/nodes/a",
        &json!({ "spec": { "unschedulable": true } }),
    )?;
    let checked = run(&control_plane, &[])?;
    assert_eq!(checked.code, Some(COULD_NOT_RUN), "{checked:?}");
    ensure!(checked.stderr.contains("a: it is cordoned"), "{checked:?}");
    Ok(())
}

#[test]
fn pods_that_are_ready_are_asked_by_exec() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let (control_plane, client) = start(&["a"])?;
    let child = spawn(&control_plane, &["--ready-timeout", "1m"])?;
    for (index, name) in ["server-1", "client-1", "host-1"].into_iter().enumerate() {
        let path = path("pods", name);
        wait::until(name, SOON, || client.object(&path))?;
        let ips = [
            format!("10.244.1.{}", index + 1),
            format!("fd00:10:244:1::{}", index + 1),
        ];
        let status = json!({
            "phase": "Running", "podIP": ips[0], "podIPs": ips.map(|ip| json!({ "ip": ip })),
            "conditions": [{ "type": "Ready", "status": "True" }],
        });
        client.patch(&format!("{path}/status"), &json!({ "status": status }))?;
    }
    // The controller leaves pods out that no scheduler gave to a node.
    for service in ["echo", "echo-nodes"] {
        client.apply(&slice(service, "IPv4", "10.244.1.1"))?;
        client.apply(&slice(service, "IPv6", "fd00:10:244:1::1"))?;
    }
    let checked = Checked::from(child.wait_with_output()?);
    assert_eq!(checked.code, Some(COULD_NOT_RUN), "{checked:?}");
    // It got as far as the first command in a pod, which no kubelet runs.
    for words in [
        "weir cannot be run everywhere",
        "client-1: ",
        "`weir --version` in the pod check/",
    ] {
        ensure!(
            checked.stderr.contains(words),
            "{words:?} is not in\n{}",
            checked.stderr
        );
    }
    must_be_gone(&client)
}
