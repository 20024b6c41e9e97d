//! The manifests in `deploy/` name only settings that exist, and mount what the settings name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, FromArgMatches};
use serde::Deserialize;
use serde_yaml_ng::Value as Yaml;

use super::catalogue::{Catalogue, variable};
use super::*;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(path)
}

fn documents(path: &str) -> Vec<Yaml> {
    let text = fs::read_to_string(deploy(path)).unwrap();
    serde_yaml_ng::Deserializer::from_str(&text)
        .map(|document| Yaml::deserialize(document).unwrap())
        .collect()
}

/// An environment in which every named variable is set, since here only names matter.
fn assert_variable_exists(name: &str) {
    let settings = Catalogue::of(&mut Config::default()).settings;
    let known = settings.iter().any(|key| variable(key) == name) || name == "WEIR_CONFIG";
    assert!(known, "{name} is no setting");
}

/// The flags of a `run` command line.
fn flags(words: &[String]) -> ConfigFlags {
    let [subcommand, flags @ ..] = words else {
        panic!("no subcommand")
    };
    assert!(["run", "wireguard"].contains(&subcommand.as_str()));
    let command = ConfigFlags::augment_args(clap::Command::new("run").no_binary_name(true));
    let matches = command.try_get_matches_from(flags).unwrap();
    ConfigFlags::from_arg_matches(&matches).unwrap()
}

fn strings(list: &Yaml) -> Vec<String> {
    list.as_sequence()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap().to_owned())
        .collect()
}

fn container(path: &str) -> Yaml {
    let is_set = |it: &Yaml| it["kind"] == "DaemonSet";
    let daemon_set = documents(path).into_iter().find(is_set).unwrap();
    daemon_set["spec"]["template"]["spec"]["containers"][0].clone()
}

fn agent_container() -> Yaml {
    container("daemonset/base/daemonset.yaml")
}

fn wireguard_container() -> Yaml {
    container("daemonset/components/encryption/wireguard.yaml")
}

/// Every `config.yaml`, as an overlay has it.
fn config_files() -> Vec<PathBuf> {
    let mut files = vec![deploy("daemonset/base/config.yaml")];
    for overlay in fs::read_dir(deploy("daemonset/overlays")).unwrap() {
        files.push(overlay.unwrap().path().join("config.yaml"));
    }
    assert!(files.len() > 4, "{files:?}");
    files
}

/// What the agent makes of a file in that container.
fn configured(container: &Yaml, file: &Path) -> Config {
    let variables = container["env"].as_sequence().unwrap().iter();
    let variables = variables.map(|variable| {
        let text = |value: &Yaml| value.as_str().map(str::to_owned);
        let value = text(&variable["value"]).unwrap_or_else(|| "node-a".to_owned());
        (text(&variable["name"]).unwrap(), value)
    });
    let environment = environment::tests::Fixed::from(variables.collect::<BTreeMap<_, _>>());
    let loader = Loader::new().file(file).environment(&environment);
    let loaded = loader.finish(&environment).unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    loaded.config
}

#[test]
fn the_daemon_sets_name_only_settings_that_exist() {
    for container in [agent_container(), wireguard_container()] {
        for variable in container["env"].as_sequence().unwrap() {
            assert_variable_exists(variable["name"].as_str().unwrap());
        }
        let file = flags(&strings(&container["args"])).file;
        let mounted = Path::new("/etc/weir/config/config.yaml");
        assert_eq!(file.as_deref(), Some(mounted), "as the volume has it");
        for file in config_files() {
            configured(&container, &file);
        }
    }
}

#[test]
fn the_daemon_set_follows_the_api_server_and_mounts_what_the_settings_name() {
    let container = agent_container();
    let points = container["volumeMounts"].as_sequence().unwrap().iter();
    let points: Vec<_> = points.map(|it| it["mountPath"].as_str().unwrap()).collect();
    for file in config_files() {
        let config = configured(&container, &file);
        assert_eq!(config.source.kind, SourceKind::Kubernetes);
        let Paths {
            bpffs,
            state,
            socket,
            cgroup,
            ..
        } = config.paths;
        let cgroup = cgroup.expect("the node's cgroups are elsewhere in a container");
        for path in [bpffs, socket, state, cgroup] {
            let mounted = points.iter().any(|point| path.starts_with(point));
            assert!(mounted, "{} is not mounted", path.display());
        }
    }
}

#[test]
fn overlays_do_what_they_are_called() {
    let config = |overlay: &str| {
        let file = deploy(&format!("daemonset/{overlay}/config.yaml"));
        configured(&agent_container(), &file)
    };
    for (overlay, balances, names_api_server, encrypts, nodes_too) in [
        ("base", true, false, false, false),
        ("overlays/observe-only", false, false, false, false),
        ("overlays/kube-proxy-replacement", true, true, false, false),
        ("overlays/encryption", true, false, true, false),
        ("overlays/everything", true, true, true, true),
    ] {
        let config = config(overlay);
        let api_server = config.source.kubernetes.api_server;
        let found = (
            config.load_balancer.enabled,
            api_server.host.is_some(),
            config.encryption.enabled,
            config.encryption.node,
        );
        let expected = (balances, names_api_server, encrypts, nodes_too);
        assert_eq!(found, expected, "{overlay}");
        assert!(config.flows.enabled, "{overlay}");
    }
    let observed = config("overlays/observe-only");
    assert_eq!(observed.devices.xdp_mode, XdpMode::Off);
}

#[test]
fn the_systemd_units_name_only_settings_that_exist() {
    for entry in fs::read_dir(deploy("systemd")).unwrap() {
        let unit = fs::read_to_string(entry.unwrap().path()).unwrap();
        let values =
            |key: &'static str| unit.lines().filter_map(move |line| line.strip_prefix(key));
        for setting in values("Environment=") {
            assert_variable_exists(setting.split('=').next().unwrap());
        }
        let command = values("ExecStart=")
            .next()
            .expect("the unit starts something");
        let words: Vec<_> = command.split(' ').skip(1).map(str::to_owned).collect();
        flags(&words);
    }
}

#[test]
fn the_device_is_served_apart_from_the_agent_that_waits_for_it() {
    let (agent, wireguard) = (agent_container(), wireguard_container());
    for container in [&agent, &wireguard] {
        let config = configured(
            container,
            &deploy("daemonset/overlays/encryption/config.yaml"),
        );
        assert_eq!(config.encryption.wireguard.process, Process::Separate);
        let shared = "/var/run/wireguard";
        let mounts = container["volumeMounts"].as_sequence().unwrap();
        assert!(mounts.iter().any(|mount| mount["mountPath"] == shared));
    }
    assert_eq!(strings(&wireguard["args"])[0], "wireguard");
    let sets = documents("daemonset/components/encryption/wireguard.yaml");
    let set = sets.iter().find(|it| it["kind"] == "DaemonSet").unwrap();
    let strategy = &set["spec"]["updateStrategy"]["type"];
    assert_eq!(
        strategy, "OnDelete",
        "an update of Weir does not end the device"
    );
}
