//! A real API server takes what is rendered: asked by `kubectl`, as a user's is, with strict
//! validation of fields and without keeping anything; then for good, one overlay after the other.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_tests::ControlPlane;
use weir_tests::control_plane;

use crate::render::{self, NAMESPACE, OVERLAYS, Tool, deploy, everything, kustomize, text_of};

fn is_available() -> bool {
    render::is_available() && control_plane::is_available()
}

fn kubectl(control_plane: &ControlPlane, arguments: &[&str]) -> Result<Command> {
    let mut command = Tool::Kubectl.command()?;
    let cache = control_plane.kubeconfig().with_file_name("kubectl-cache");
    command
        .env("KUBECONFIG", control_plane.kubeconfig())
        .arg("--cache-dir")
        .arg(cache)
        .args(arguments);
    Ok(command)
}

/// Hands objects to `kubectl apply` with more arguments; the error is what it says.
fn apply(control_plane: &ControlPlane, objects: &[Value], more: &[&str]) -> Result<String> {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    let arguments = [&["apply", "--validate=strict", "--filename=-"], more].concat();
    let mut command = kubectl(control_plane, &arguments)?;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("start kubectl")?;
    let mut stdin = child.stdin.take().context("stdin")?;
    stdin.write_all(list.to_string().as_bytes())?;
    drop(stdin);
    text_of(&child.wait_with_output().context("await kubectl")?)
}

/// What the Prometheus operator brings, as far as Weir uses it.
fn pod_monitor_definition() -> Value {
    let text = json!({ "type": "string" });
    let texts = json!({ "type": "array", "items": text });
    let labels = json!({ "type": "object", "additionalProperties": text });
    let relabeling = json!({
        "type": "object",
        "properties": { "sourceLabels": texts, "targetLabel": text },
    });
    let endpoint = json!({
        "type": "object",
        "properties": {
            "port": text, "path": text, "interval": text,
            "relabelings": { "type": "array", "items": relabeling },
        },
    });
    let spec = json!({
        "type": "object",
        "required": ["selector"],
        "properties": {
            "selector": { "type": "object", "properties": { "matchLabels": labels } },
            "podMetricsEndpoints": { "type": "array", "items": endpoint },
        },
    });
    let schema = json!({ "type": "object", "properties": { "spec": spec } });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "podmonitors.monitoring.coreos.com" },
        "spec": {
            "group": "monitoring.coreos.com",
            "names": { "kind": "PodMonitor", "plural": "podmonitors", "singular": "podmonitor" },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": schema },
            }],
        },
    })
}

/// One with the namespace and the definition of a `PodMonitor`.
fn start() -> Result<ControlPlane> {
    let control_plane = ControlPlane::builder().start()?;
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
    });
    apply(&control_plane, &[namespace, pod_monitor_definition()], &[])?;
    let name = "customresourcedefinition/podmonitors.monitoring.coreos.com";
    let wait = ["wait", "--for=condition=established", "--timeout=60s", name];
    text_of(&kubectl(&control_plane, &wait)?.output()?)?;
    Ok(control_plane)
}

#[test]
fn every_object_is_taken() -> Result<()> {
    if !is_available() {
        return Ok(());
    }
    let control_plane = start()?;
    let dry = "--dry-run=server";
    for (what, objects) in everything()? {
        let taken = apply(&control_plane, &objects, &[dry]).with_context(|| what.clone())?;
        let lines = taken
            .lines()
            .filter(|line| line.ends_with("(server dry run)"));
        assert_eq!(lines.count(), objects.len(), "{what}: {taken}");
    }
    Ok(())
}

/// The judges above would say so.
#[test]
fn mistakes_are_refused_and_said() -> Result<()> {
    if !is_available() {
        return Ok(());
    }
    let control_plane = start()?;
    let mut base = kustomize("daemonset/base")?;
    let is_set = |object: &&mut Value| object["kind"] == "DaemonSet";
    let set = base.iter_mut().find(is_set).context("a DaemonSet")?;
    let container = "/spec/template/spec/containers/0";
    let labels = "/spec/template/metadata/labels";
    for (at, key, value, said) in [
        (container, "imagePulPolicy", "Always", "unknown field"),
        (
            container,
            "imagePullPolicy",
            "Sometimes",
            "Unsupported value",
        ),
        (container, "ports", "9965", "invalid type"),
        (
            labels,
            "app.kubernetes.io/component",
            "other",
            "does not match template",
        ),
    ] {
        let mut bad = set.clone();
        bad.pointer_mut(at).context("there is one")?[key] = json!(value);
        let refusal = apply(&control_plane, &[bad], &["--dry-run=server"]).unwrap_err();
        let refusal = format!("{refusal:#}");
        ensure!(refusal.contains(said), "{key}: {refusal}");
    }
    Ok(())
}

/// What there is of Weir, as `KIND/NAME`.
fn installed(control_plane: &ControlPlane) -> Result<Vec<String>> {
    let kinds =
        "daemonsets,configmaps,serviceaccounts,podmonitors,clusterroles,clusterrolebindings";
    let arguments = [
        "get",
        kinds,
        "-n",
        NAMESPACE,
        "-l",
        "app.kubernetes.io/name=weir",
        "-o",
        "name",
    ];
    let text = text_of(&kubectl(control_plane, &arguments)?.output()?)?;
    Ok(text.lines().map(str::to_owned).collect())
}

#[test]
fn one_overlay_can_follow_another_and_all_of_it_can_go() -> Result<()> {
    if !is_available() {
        return Ok(());
    }
    let control_plane = start()?;
    let run = |verb: &str, path: &str| -> Result<String> {
        let path = deploy(path);
        let path = path.to_str().context("UTF-8")?;
        let output = kubectl(&control_plane, &[verb, "-k", path])?.output()?;
        text_of(&output).with_context(|| format!("{verb} {path}"))
    };
    run("apply", "daemonset")?;
    let first = installed(&control_plane)?;
    ensure!(first.len() == 5, "{first:?}");
    for (overlay, _) in OVERLAYS {
        run("apply", &format!("daemonset/overlays/{overlay}"))?;
    }
    run("apply", "daemonset")?;
    let all = installed(&control_plane)?;
    ensure!(all.len() > first.len(), "{all:?}");

    // As deploy/README.md has it.
    let agents = ["daemonset/weir-agent", "daemonset/weir-wireguard"];
    let delete = [
        &["-n", NAMESPACE, "delete", "--ignore-not-found"],
        &agents[..],
    ]
    .concat();
    text_of(&kubectl(&control_plane, &delete)?.output()?)?;
    run("apply", "daemonset/uninstall")?;
    run("delete", "daemonset/uninstall")?;
    let delete = ["delete", "--ignore-not-found", "--wait=false", "-k"];
    let everything = deploy("daemonset/overlays/everything");
    let everything = everything.to_str().context("UTF-8")?;
    let delete = [&delete[..], &[everything]].concat();
    text_of(&kubectl(&control_plane, &delete)?.output()?)?;
    let left = installed(&control_plane)?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
