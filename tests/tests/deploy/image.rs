//! What needs a container engine to run, as far as its files say what would come of it.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::render::{deploy, objects};

/// Lines of the Dockerfile by their first word, comments left out.
fn instructions(word: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(deploy("image/Dockerfile")).context("read the Dockerfile")?;
    let lines = text.lines().filter_map(|line| line.strip_prefix(word));
    Ok(lines.map(|line| line.trim().to_owned()).collect())
}

#[test]
fn the_image_is_built_from_a_pinned_base_and_contains_no_other() -> Result<()> {
    let stages = instructions("FROM ")?;
    let (last, builders) = stages.split_last().context("no FROM")?;
    ensure!(last == "scratch", "{last}");
    ensure!(!builders.is_empty());
    for base in builders {
        let digest = base.split("@sha256:").nth(1).context("not pinned")?;
        let digest = digest.split(' ').next().unwrap_or_default();
        let is_whole = digest.len() == 64 && digest.bytes().all(|it| it.is_ascii_hexdigit());
        ensure!(is_whole, "{base}");
    }
    Ok(())
}

#[test]
fn the_container_starts_what_the_daemon_set_expects() -> Result<()> {
    let [entry] = &instructions("ENTRYPOINT ")?[..] else {
        panic!("one ENTRYPOINT");
    };
    ensure!(entry == "[\"weir-agent\"]", "{entry}");
    let base = fs::read_to_string(deploy("daemonset/base/daemonset.yaml"))?;
    for object in objects(&base)? {
        let pod = &object["spec"]["template"]["spec"];
        let containers = ["containers", "initContainers"].map(|it| pod[it].as_array());
        for container in containers.into_iter().flatten().flatten() {
            let command = &container["command"][0];
            ensure!(command.is_null() || command == "weir-agent", "{container}");
        }
    }
    Ok(())
}

#[test]
fn the_cluster_of_kind_has_three_nodes_and_no_kube_proxy() -> Result<()> {
    let text = fs::read_to_string(deploy("../tests/kind/cluster.yaml"))?;
    let cluster: Value = objects(&text)?.pop().context("no cluster")?;
    let networking = &cluster["networking"];
    ensure!(networking["kubeProxyMode"] == "none", "{networking}");
    ensure!(networking["ipFamily"] == "dual", "{networking}");
    ensure!(
        cluster["nodes"].as_array().map(Vec::len) == Some(3),
        "{cluster}"
    );
    Ok(())
}
