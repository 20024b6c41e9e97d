//! The agent takes each configuration that is rendered, with the variables of its container.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_agent::config::{Config, Environment, Loader, Process, SourceKind, XdpMode};

use crate::render::{chart, everything, is_available};

/// The variables of a container.
struct Variables(BTreeMap<String, String>);

impl Environment for Variables {
    fn variables(&self, prefix: &str) -> BTreeMap<String, String> {
        let mut variables = self.0.clone();
        variables.retain(|name, _| name.starts_with(prefix));
        variables
    }

    fn host_name(&self) -> String {
        "node-a".to_owned()
    }
}

/// All containers of `DaemonSet`s, in order.
pub fn containers(objects: &[Value]) -> impl Iterator<Item = &Value> {
    let specs = objects
        .iter()
        .filter(|object| object["kind"] == "DaemonSet");
    let specs = specs.map(|object| &object["spec"]["template"]["spec"]);
    specs.flat_map(|spec| {
        let of = |key: &str| spec[key].as_array().into_iter().flatten();
        of("initContainers").chain(of("containers"))
    })
}

fn load(objects: &[Value], container: &Value) -> Result<Config> {
    let config_map = objects.iter().find(|object| object["kind"] == "ConfigMap");
    let text = config_map.map_or("", |it| it["data"]["config.yaml"].as_str().unwrap_or("?"));
    let variables = container["env"].as_array().into_iter().flatten();
    let variables = variables.map(|variable| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let name = text(&variable["name"]).context("a name")?;
        Ok((
            name,
            text(&variable["value"]).unwrap_or_else(|| "node-a".into()),
        ))
    });
    let environment = Variables(variables.collect::<Result<_>>()?);
    let loader = Loader::new().file_text(Path::new("config.yaml"), text);
    let loaded = loader.environment(&environment).finish(&environment)?;
    ensure!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    Ok(loaded.config)
}

/// What the agent makes of its `ConfigMap` and variables.
pub fn configuration(objects: &[Value]) -> Result<Config> {
    let agent = containers(objects).find(|container| container["name"] == "agent");
    load(objects, agent.context("no agent")?)
}

#[test]
fn the_agent_takes_every_configuration() -> Result<()> {
    if !is_available() {
        return Ok(());
    }
    for (what, objects) in everything()? {
        let mut read = 0;
        for container in containers(&objects) {
            let name = &container["name"];
            let words = container["args"].as_array().context("arguments")?;
            if words.contains(&Value::from("--config=/etc/weir/config/config.yaml")) {
                load(&objects, container).with_context(|| format!("{what}: {name}"))?;
                read += 1;
            }
        }
        assert!(read > 0, "{what}: nobody reads a configuration");
    }
    Ok(())
}

#[test]
fn values_become_the_settings_that_they_are_about() -> Result<()> {
    if !is_available() {
        return Ok(());
    }
    let config = |values: &[&str], file: &str| configuration(&chart(values, file)?);
    let plain = config(&[], "")?;
    assert_eq!(plain.source.kind, SourceKind::Kubernetes);
    assert_eq!(plain.source.kubernetes.api_server.host, None);
    assert_eq!(plain.encryption.wireguard.process, Process::Separate);
    assert!(plain.metrics.listen.ip().is_loopback());

    let replacing = config(
        &[
            "kubeProxyReplacement=true",
            "k8sServiceHost=192.0.2.1",
            "k8sServicePort=443",
        ],
        "",
    )?;
    let server = replacing.source.kubernetes.api_server;
    assert_eq!(
        (server.host.as_deref(), server.port.get()),
        (Some("192.0.2.1"), 443)
    );

    let modes = [
        ("disabled", XdpMode::Off),
        ("native", XdpMode::Native),
        ("best-effort", XdpMode::Auto),
        ("testing-only", XdpMode::Generic),
    ];
    for (value, mode) in modes {
        let value = format!("loadBalancer.acceleration={value}");
        assert_eq!(config(&[&value], "")?.devices.xdp_mode, mode);
    }
    let guarded = |values: &[&str]| -> Result<Vec<String>> {
        let ranges = config(values, "")?.encryption.strict_mode.pod_cidrs;
        Ok(ranges.iter().map(ToString::to_string).collect())
    };
    let cidr = "encryption.strictMode.cidr";
    assert!(guarded(&[&format!("{cidr}=")])?.is_empty());
    assert_eq!(guarded(&[&format!("{cidr}=10.0.0.0/8")])?, ["10.0.0.0/8"]);
    let two = format!("{cidr}={{10.0.0.0/8,fd00::/8}}");
    assert_eq!(guarded(&[&two])?, ["10.0.0.0/8", "fd00::/8"]);

    // What is said in so many words counts.
    let file = "config: {flows: {enabled: false, capacity: 2000000}, log: {level: trace}}";
    let spoken = config(&["hubble.enabled=true", "debug.enabled=true"], file)?;
    assert!(!spoken.flows.enabled);
    assert_eq!(spoken.flows.capacity.get(), 2_000_000);
    assert_eq!(spoken.log.level, weir_agent::config::LogLevel::Trace);
    let open = config(&["prometheus.enabled=true", "prometheus.port=9962"], "")?;
    assert_eq!(open.metrics.listen.to_string(), "0.0.0.0:9962");
    let open = config(&[], "prometheus: {enabled: true, address: '[::]'}")?;
    assert_eq!(open.metrics.listen.to_string(), "[::]:9965");
    let closed = config(&[], "prometheus: {address: '[::]'}")?;
    assert!(closed.metrics.listen.ip().is_loopback());
    Ok(())
}

/// Agents end encryption before the process goes that decrypts what others still send.
#[test]
fn encryption_can_end_before_the_service_of_its_device() -> Result<()> {
    if !is_available() {
        return Ok(());
    }
    let values = ["encryption.enabled=true", "encryption.nodeEncryption=true"];
    let objects = chart(
        &values,
        "config: {encryption: {enabled: false, node: false}}",
    )?;
    assert!(!configuration(&objects)?.encryption.enabled);
    let names: Vec<&Value> = containers(&objects).map(|it| &it["name"]).collect();
    assert!(names.contains(&&Value::from("wireguard")), "{names:?}");
    Ok(())
}
