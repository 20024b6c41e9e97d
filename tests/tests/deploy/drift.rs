//! The chart and the overlays do not drift apart: each overlay is compared with the chart of the
//! values that say the same.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::render::{OVERLAYS, chart, is_available, kustomize};
use crate::settings::configuration;

/// What Helm needs to know its own, and what restarts pods for a new configuration.
const HELMS_OWN: [&str; 3] = [
    "helm.sh/chart",
    "app.kubernetes.io/managed-by",
    "checksum/config",
];

/// Objects by kind and name, without what differs on purpose. The text of the configuration is
/// judged by what the agent makes of it.
fn comparable(objects: Vec<Value>) -> Result<BTreeMap<String, Value>> {
    let mut comparable = BTreeMap::new();
    for mut object in objects {
        let text = |value: &Value| value.as_str().map(str::to_owned).context("text");
        let kind = text(&object["kind"])?;
        let key = format!("{kind} {}", text(&object["metadata"]["name"])?);
        strip(&mut object);
        if kind == "ConfigMap" {
            object["data"] = Value::Null;
        }
        // `helm install --create-namespace` makes it.
        if kind != "Namespace" {
            comparable.insert(key, object);
        }
    }
    Ok(comparable)
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for key in HELMS_OWN {
                fields.remove(key);
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => {
            items.iter_mut().for_each(strip);
            // Patches put what they add first; no list of named things here has an order.
            items.sort_by_key(|item| item["name"].as_str().map(str::to_owned));
        }
        _ => {}
    }
}

/// Compares object by object, so that a difference can be found in the message.
fn assert_same(what: &str, chart: Vec<Value>, kustomize: Vec<Value>) -> Result<()> {
    let (mut charted, kustomized) = (comparable(chart)?, comparable(kustomize)?);
    for (key, expected) in &kustomized {
        let made = charted.remove(key);
        let made = made.with_context(|| format!("{what}: the chart makes no {key}"))?;
        assert!(
            &made == expected,
            "{what}: {key} differs\nchart: {made:#}\nkustomize: {expected:#}"
        );
    }
    let more: Vec<_> = charted.keys().collect();
    assert!(more.is_empty(), "{what}: only the chart makes {more:?}");
    Ok(())
}

#[test]
fn the_default_chart_makes_what_the_base_makes() -> Result<()> {
    if !is_available() {
        return Ok(());
    }
    let (base, top) = (kustomize("daemonset/base")?, kustomize("daemonset")?);
    assert_eq!(base, top);
    let charted = chart(&[], "")?;
    assert_eq!(configuration(&charted)?, configuration(&base)?);
    assert_same("base", charted, base)
}

#[test]
fn the_chart_makes_what_each_overlay_makes() -> Result<()> {
    if !is_available() {
        return Ok(());
    }
    for (overlay, values) in OVERLAYS {
        let kustomized = kustomize(&format!("daemonset/overlays/{overlay}"))?;
        let charted = chart(values, "")?;
        let (config, expected) = (configuration(&charted)?, configuration(&kustomized)?);
        assert_eq!(config, expected, "{overlay}");
        assert_same(overlay, charted, without_listening(kustomized))?;
    }
    Ok(())
}

#[test]
fn the_chart_removes_as_the_manifests_do() -> Result<()> {
    if !is_available() {
        return Ok(());
    }
    let mut charted = chart(&["uninstall.enabled=true"], "")?;
    let is_set = |object: &Value| object["kind"] == "DaemonSet";
    charted.retain(is_set);
    assert_same("uninstall", charted, kustomize("daemonset/uninstall")?)
}

/// The chart says in the file what the component for Prometheus says in variables.
fn without_listening(mut objects: Vec<Value>) -> Vec<Value> {
    for object in &mut objects {
        let containers = object.pointer_mut("/spec/template/spec/containers");
        for container in containers
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(variables) = container["env"].as_array_mut() {
                let is_about_listening = |it: &Value| {
                    it["name"]
                        .as_str()
                        .is_some_and(|it| it.starts_with("WEIR_METRICS_"))
                };
                variables.retain(|variable| !is_about_listening(variable));
            }
        }
    }
    objects
}
