//! The demo with a real API server: the manifests are its objects, and nodes report to it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{SERVICE_DEADLINE, manifests};
use crate::manifest::members;
use crate::{Cluster, ControlPlane, wait};

/// Starts it in the cluster with the demo's objects, and lets the agents ask.
pub fn start(cluster: &Cluster) -> Result<ControlPlane> {
    let api_server = ControlPlane::builder().in_cluster(cluster).start()?;
    api_server.admit(cluster)?;
    api_server.apply_directory(&manifests())?;
    // The manifests are about the other two.
    api_server.apply(&members(&cluster.plan().nodes[2..], &[]))?;
    println!(
        "  An API server at {} port {} holds the Nodes, Pods and the Service.",
        api_server.host(),
        api_server.port()
    );
    Ok(api_server)
}

/// Prints what each node says of itself; waits until it says that it is ready.
pub fn tell(cluster: &Cluster, api_server: &ControlPlane) -> Result<()> {
    let client = api_server.client();
    for node in cluster.nodes() {
        let path = format!("/api/v1/nodes/{}", node.name());
        let what = format!("{} to be ready", node.name());
        let object = wait::until(&what, SERVICE_DEADLINE, || {
            let object = client.object(&path)?;
            ensure!(is_ready(&object), "{}", object["status"]["conditions"]);
            Ok(object)
        })?;
        let annotations = object["metadata"]["annotations"].as_object();
        let annotations = annotations.context("it has annotations")?;
        println!("  {:<7} condition WeirReady: True", node.name());
        for (key, value) in annotations
            .iter()
            .filter(|(key, _)| key.contains("weir.dev/"))
        {
            println!("          {key}: {}", value.as_str().unwrap_or_default());
        }
    }
    Ok(())
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one["type"] == "WeirReady" && one["status"] == "True")
}
