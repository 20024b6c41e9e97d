//! The manifests in `deploy/` name only settings that exist, and mount what the settings name.

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

fn agent_container() -> Yaml {
    let daemon_set = &documents("daemonset/base/daemonset.yaml")[0];
    daemon_set["spec"]["template"]["spec"]["containers"][0].clone()
}

fn configured() -> Config {
    let config_map = &documents("daemonset/base/configmap.yaml")[0];
    let text = config_map["data"]["config.yaml"].as_str().unwrap();
    let environment = environment::tests::Fixed::default();
    let loader = Loader::new().file_text(Path::new("configmap.yaml"), text);
    loader.finish(&environment).unwrap().config
}

#[test]
fn the_daemon_set_names_only_settings_that_exist() {
    let container = agent_container();
    for variable in container["env"].as_sequence().unwrap() {
        assert_variable_exists(variable["name"].as_str().unwrap());
    }
    let flags = flags(&strings(&container["args"]));
    let file = flags.file.expect("the configuration is given");
    assert_eq!(
        file,
        Path::new("/etc/weir/config/config.yaml"),
        "as the volume has it"
    );
    configured();
}

#[test]
fn the_daemon_set_mounts_what_the_settings_name() {
    let mounts = agent_container()["volumeMounts"].clone();
    let mounted = |path: &Path| {
        let points = mounts.as_sequence().unwrap().iter();
        points
            .map(|mount| mount["mountPath"].as_str().unwrap())
            .any(|point| path.starts_with(point))
    };
    let Config { paths, source, .. } = configured();
    let cgroup = paths
        .cgroup
        .expect("the node's cgroups are elsewhere in a container");
    for path in [
        paths.bpffs,
        paths.socket,
        paths.state,
        cgroup,
        source.manifests.directory,
    ] {
        assert!(mounted(&path), "{} is not mounted", path.display());
    }
}

#[test]
fn the_kustomization_lists_every_manifest() {
    let listed = strings(&documents("daemonset/base/kustomization.yaml")[0]["resources"]);
    for entry in fs::read_dir(deploy("daemonset/base")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name == "kustomization.yaml" || listed.contains(&name),
            "{name} is not listed"
        );
    }
    for name in listed {
        assert!(
            !documents(&format!("daemonset/base/{name}")).is_empty(),
            "{name} is empty"
        );
    }
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
    assert_eq!(configured().encryption.wireguard.process, Process::Separate);
    let served = &documents("daemonset/base/wireguard.yaml")[0];
    let container = &served["spec"]["template"]["spec"]["containers"][0];
    let words = strings(&container["args"]);
    assert_eq!(words[0], "wireguard");
    let file = flags(&words).file;
    assert_eq!(file, flags(&strings(&agent_container()["args"])).file);
    let shared = "/var/run/wireguard";
    for container in [container, &agent_container()] {
        let mounts = container["volumeMounts"].as_sequence().unwrap();
        assert!(mounts.iter().any(|mount| mount["mountPath"] == shared));
    }
    let strategy = &served["spec"]["updateStrategy"]["type"];
    assert_eq!(
        strategy, "OnDelete",
        "an update of Weir does not end the device"
    );
}
