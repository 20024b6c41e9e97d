//! Each rendered object against the current Kubernetes API: `k8s-openapi` is made of its `OpenAPI`
//! schema. A field that does not exist or has another type is a mistake.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::render::{everything, is_available};

/// Reads an object as its kind; fails for fields that the kind does not have.
fn check_as<T: DeserializeOwned + Resource>(object: &Value) -> Result<()> {
    ensure!(
        object["apiVersion"] == T::API_VERSION,
        "{}",
        object["apiVersion"]
    );
    let mut unknown = Vec::new();
    let reader = object.clone();
    let read: Result<T, _> =
        serde_ignored::deserialize(reader, |path| unknown.push(path.to_string()));
    read.context("a field is missing or has another type")?;
    ensure!(unknown.is_empty(), "unknown fields: {unknown:?}");
    Ok(())
}

fn check(object: &Value) -> Result<()> {
    match object["kind"].as_str().context("a kind")? {
        "DaemonSet" => check_as::<DaemonSet>(object),
        "ConfigMap" => check_as::<ConfigMap>(object),
        "Namespace" => check_as::<Namespace>(object),
        "ServiceAccount" => check_as::<ServiceAccount>(object),
        "ClusterRole" => check_as::<ClusterRole>(object),
        "ClusterRoleBinding" => check_as::<ClusterRoleBinding>(object),
        // Of the Prometheus operator: the API server of the tests has a definition of it.
        "PodMonitor" => Ok(()),
        other => bail!("{other} has to be added to this test"),
    }
}

#[test]
fn every_field_exists_in_the_current_api() -> Result<()> {
    if !is_available() {
        return Ok(());
    }
    for (what, objects) in everything()? {
        for object in &objects {
            let name = &object["metadata"]["name"];
            check(object).with_context(|| format!("{what}: {} {name}", object["kind"]))?;
        }
    }
    Ok(())
}

#[test]
fn mistakes_are_found() {
    let good = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "spec": {
            "selector": {},
            "template": { "spec": { "containers": [{ "name": "a", "securityContext": {} }] } },
        },
    });
    check(&good).unwrap();
    let container = "/spec/template/spec/containers/0";
    for (at, key, value) in [
        (container, "imagePulPolicy", json!("Always")),
        (container, "image", json!(5)),
        ("/spec", "updateStrategie", json!({})),
        (
            "/spec/template/spec/containers/0/securityContext",
            "readOnlyRootFilesystem",
            json!("yes"),
        ),
    ] {
        let mut bad = good.clone();
        bad.pointer_mut(at).unwrap()[key] = value;
        check(&bad).unwrap_err();
    }
}
