//! What is written from something else is up to date: the schema of the chart's `config`, the page of
//! its values, and the version in all files.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use weir_agent::config::{self, Config, Section as _, Visitor};

use crate::render::deploy;

const SCHEMA: &str = "helm/weir/values.schema.json";
const PAGE: &str = "../docs/reference/helm-values.md";
/// Set to `1` to write what is compared here anew.
const WRITE: &str = "WEIR_WRITE_CHART";

/// Makes the schema of `config` from what the agent declares.
struct Declared(Value);

impl Declared {
    fn insert(&mut self, path: &str, schema: Value) {
        let mut object = &mut self.0;
        let (parents, key) = path.rsplit_once('.').unwrap_or(("", path));
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            object = &mut object["properties"][parent];
        }
        object["properties"][key] = schema;
    }
}

fn section() -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": {} })
}

/// A schema from how the agent words what it takes.
fn form(form: &str) -> Value {
    if let Some(words) = form.strip_prefix("one of ") {
        return json!({ "enum": words.split(' ').collect::<Vec<_>>() });
    }
    if let Some(bounds) = form.strip_prefix("a whole number from ") {
        let bound = |text: &str| text.parse::<u32>().expect("a number");
        let (least, most) = bounds.split_once(" to ").expect("two bounds");
        return json!({ "type": "integer", "minimum": bound(least), "maximum": bound(most) });
    }
    if form.starts_with("a list") {
        let item = form.rsplit("each item ").next().unwrap_or_default();
        return json!({ "type": "array", "items": self::form(item) });
    }
    match form {
        "true or false" => json!({ "type": "boolean" }),
        _ => json!({ "type": ["string", "integer"] }),
    }
}

impl Visitor for Declared {
    fn section(&mut self, path: &str, _doc: &'static str) {
        self.insert(path, section());
    }

    fn setting(&mut self, path: &str, _doc: &'static str, value: &mut dyn config::Value) {
        self.insert(path, form(&value.form()));
    }
}

fn schema() -> Result<Value> {
    let text = fs::read_to_string(deploy(SCHEMA)).context("read the schema")?;
    serde_json::from_str(&text).context("the schema")
}

fn declared() -> Value {
    let mut declared = Declared(section());
    Config::default().visit("", &mut declared);
    declared.0["description"] = json!(
        "More of the agent's configuration, every key of docs/reference/config.md. It counts before \
         what follows from the other values."
    );
    declared.0
}

#[test]
fn the_schema_knows_every_setting_of_the_agent() -> Result<()> {
    let mut schema = schema()?;
    let expected = declared();
    if std::env::var(WRITE).as_deref() == Ok("1") {
        schema["properties"]["config"] = expected.clone();
        let text = serde_json::to_string_pretty(&schema)?;
        fs::write(deploy(SCHEMA), text + "\n")?;
    }
    ensure!(
        schema["properties"]["config"] == expected,
        "{SCHEMA} is stale: `{WRITE}=1 cargo test -p weir-tests --test deploy written` writes it anew"
    );
    Ok(())
}

/// Every object of the schema is closed, so that a mistake in a name is one everywhere.
#[test]
fn no_value_goes_unnoticed() -> Result<()> {
    fn look(path: &str, schema: &Value, open: &mut Vec<String>) {
        let Some(properties) = schema["properties"].as_object() else {
            if schema["type"] == "object" {
                open.push(path.to_owned());
            }
            return;
        };
        assert_eq!(schema["additionalProperties"], false, "{path}");
        for (name, schema) in properties {
            look(&format!("{path}.{name}"), schema, open);
        }
    }
    let mut open = Vec::new();
    look("", &schema()?, &mut open);
    // What Kubernetes itself judges, and names that are the user's own.
    let expected = [
        ".affinity",
        ".global",
        ".nodeSelector",
        ".podAnnotations",
        ".podLabels",
        ".prometheus.podMonitor.labels",
        ".resources",
        ".securityContext.seLinuxOptions",
        ".serviceAccount.annotations",
        ".updateStrategy",
    ];
    open.sort();
    assert_eq!(open, expected);
    Ok(())
}

const HEAD: &str = "\
# Values of the chart

<!-- Written by `WEIR_WRITE_CHART=1 cargo test -p weir-tests --test deploy written` from
     deploy/helm/weir/values.yaml and values.schema.json; a test compares. -->

The chart is in [deploy/helm/weir](../../deploy/helm/weir). Names are those of Cilium's chart where
Cilium has the same thing; a value that does not exist, or asks for what Weir cannot do yet, is refused
before anything is installed. What differs from Cilium:

| value | here | in Cilium |
| --- | --- | --- |
| `kubeProxyReplacement` | `false` balances beside kube-proxy; needs `k8sServiceHost` for `true` | `false` leaves services to kube-proxy |
| `loadBalancer.enabled` | `false` only observes (and encrypts) | does not exist |
| `loadBalancer.algorithm`, `mode` | `maglev`, `snat` alone; tables have the size that they need | more; `random` and `snat` by default |
| `loadBalancer.acceleration` | `best-effort` by default | `disabled` by default |
| `encryption.strictMode` | on by default, for IPv4 and IPv6; `cidr` may be a list | off by default |
| `hubble.metrics.enabled` | null or an empty list | a list of metrics |
| `prometheus.podMonitor` | the agents' network is the node's, so there is no Service | `serviceMonitor` |
| `config` | every setting of the agent | `extraConfig`, unchecked |

| value | default | what it is |
| --- | --- | --- |
";

/// One row for each value, in the order of the file.
fn rows(path: &str, defaults: &Value, schema: &Value, page: &mut String) -> Result<()> {
    let empty = Map::new();
    let properties = schema["properties"].as_object();
    match (properties, defaults.as_object()) {
        (Some(properties), Some(defaults)) if path != "config" => {
            for (name, default) in defaults {
                let schema = properties
                    .get(name)
                    .with_context(|| format!("{path}.{name}"))?;
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                rows(&path, default, schema, page)?;
            }
            let listed = |name: &&String| !defaults.contains_key(*name);
            let optional = ["global", "localhostProfile"];
            let missing: Vec<_> = properties.keys().filter(listed).collect();
            ensure!(
                missing.iter().all(|name| optional.contains(&name.as_str())),
                "{path}: values.yaml lacks {missing:?}"
            );
        }
        _ => {
            let description = schema["description"].as_str();
            let description = description.with_context(|| format!("{path} has no description"))?;
            let default = match defaults {
                Value::Object(it) if *it == empty => "{}".to_owned(),
                other => other.to_string(),
            };
            let description = description.replace('|', "\\|");
            writeln!(page, "| `{path}` | `{default}` | {description} |")?;
        }
    }
    Ok(())
}

#[test]
fn the_page_of_values_is_complete() -> Result<()> {
    let text = fs::read_to_string(deploy("helm/weir/values.yaml"))?;
    let defaults: Value = serde_yaml_ng::from_str(&text)?;
    let mut page = HEAD.to_owned();
    let mut schema = schema()?;
    // As the test above will have it.
    schema["properties"]["config"] = declared();
    rows("", &defaults, &schema, &mut page)?;
    if std::env::var(WRITE).as_deref() == Ok("1") {
        fs::write(deploy(PAGE), &page)?;
    }
    let written = fs::read_to_string(deploy(PAGE)).unwrap_or_default();
    ensure!(
        written == page,
        "docs/reference/helm-values.md is stale: `{WRITE}=1 cargo test -p weir-tests --test deploy \
         written` writes it anew"
    );
    Ok(())
}

/// The version stands in several files; all of them say the same.
#[test]
fn versions_agree() -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let read = |path: &str| -> Result<Value> {
        let text = fs::read_to_string(deploy(path)).with_context(|| path.to_owned())?;
        serde_yaml_ng::from_str(&text).with_context(|| path.to_owned())
    };
    let chart = read("helm/weir/Chart.yaml")?;
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&json!(version), &json!(version))
    );
    for path in ["base", "uninstall", "components/encryption"] {
        let file = read(&format!("daemonset/{path}/kustomization.yaml"))?;
        assert_eq!(
            file["images"],
            json!([{ "name": "weir", "newTag": version }]),
            "{path}"
        );
    }
    Ok(())
}
