//! Containers have the rights that they need, and no more.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::render::{everything, is_available};
use crate::settings::containers;

/// Capabilities of each container, as an operator is told them in `deploy/README.md`.
const CAPABILITIES: [(&str, &[&str]); 4] = [
    ("agent", &["BPF", "PERFMON", "NET_ADMIN", "SYS_RESOURCE"]),
    ("wireguard", &["NET_ADMIN"]),
    ("uninstall", &["NET_ADMIN"]),
    ("done", &[]),
];

fn capabilities(container: &Value) -> Option<BTreeSet<&str>> {
    let name = container["name"].as_str()?;
    let known = CAPABILITIES.iter().find(|(it, _)| *it == name)?;
    Some(known.1.iter().copied().collect())
}

#[test]
fn no_container_has_more_than_it_needs() -> Result<()> {
    if !is_available() {
        return Ok(());
    }
    for (what, objects) in everything()? {
        for container in containers(&objects) {
            let name = &container["name"];
            let context = &container["securityContext"];
            let says = |key: &str, value: Value| {
                assert_eq!(context[key], value, "{what}: {name}: {key}");
            };
            says("privileged", json!(false));
            says("allowPrivilegeEscalation", json!(false));
            says("readOnlyRootFilesystem", json!(true));
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
            let added = context["capabilities"]["add"]
                .as_array()
                .into_iter()
                .flatten();
            let added: BTreeSet<_> = added.filter_map(Value::as_str).collect();
            assert_eq!(Some(added), capabilities(container), "{what}: {name}");
            let profile = &context["seccompProfile"]["type"];
            let asked_for = what.contains("seccompProfile");
            assert!(
                asked_for || *profile == "RuntimeDefault",
                "{what}: {profile}"
            );
        }
    }
    Ok(())
}

#[test]
fn only_those_who_ask_the_api_server_have_a_token() -> Result<()> {
    if !is_available() {
        return Ok(());
    }
    for (what, objects) in everything()? {
        for object in &objects {
            let automount = match object["kind"].as_str().context("a kind")? {
                "DaemonSet" => &object["spec"]["template"]["spec"]["automountServiceAccountToken"],
                "ServiceAccount" => &object["automountServiceAccountToken"],
                _ => continue,
            };
            let name = object["metadata"]["name"].as_str().context("a name")?;
            let asks = object["kind"] == "DaemonSet" && name != "weir-wireguard";
            assert_eq!(*automount, json!(asks), "{what}: {name}");
        }
    }
    Ok(())
}

#[test]
fn what_is_mounted_is_there_and_what_is_there_is_mounted() -> Result<()> {
    if !is_available() {
        return Ok(());
    }
    for (what, objects) in everything()? {
        for object in objects.iter().filter(|it| it["kind"] == "DaemonSet") {
            let spec = &object["spec"]["template"]["spec"];
            let names = |list: &Value| -> BTreeSet<String> {
                let list = list.as_array().into_iter().flatten();
                list.map(|it| it["name"].as_str().unwrap_or_default().to_owned())
                    .collect()
            };
            let one = std::slice::from_ref(object);
            let mounted = containers(one).flat_map(|it| names(&it["volumeMounts"]));
            assert_eq!(
                mounted.collect::<BTreeSet<_>>(),
                names(&spec["volumes"]),
                "{what}"
            );
        }
    }
    Ok(())
}
