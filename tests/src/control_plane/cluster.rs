//! A control plane and the cluster that it is of: who may ask, and what there is.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{AGENT_TOKEN, ControlPlane};
use crate::manifest::{self, Manifest};
use crate::{Cluster, agent};

/// The role of the agent, as it is installed.
const ROLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/daemonset/base/rbac.yaml"
);

impl ControlPlane {
    /// Binds the role in `deploy/` to the user with [`AGENT_TOKEN`].
    ///
    /// # Errors
    ///
    /// When the API server refuses.
    pub fn grant_agent_role(&self) -> Result<()> {
        let client = self.client();
        let text = fs::read_to_string(ROLE).with_context(|| format!("read {ROLE}"))?;
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let mut object = Value::deserialize(document)?;
            if object["kind"] == "ClusterRoleBinding" {
                let group = "rbac.authorization.k8s.io";
                object["subjects"] =
                    json!([{ "kind": "User", "name": "agent", "apiGroup": group }]);
            }
            client.apply(&object)?;
        }
        Ok(())
    }

    /// Gives every agent of the cluster the right and a way to ask: a kubeconfig where [`AgentConfig::following_api_server`](agent::AgentConfig::following_api_server) has it.
    ///
    /// # Errors
    ///
    /// When the API server refuses or a file cannot be written.
    pub fn admit(&self, cluster: &Cluster) -> Result<()> {
        self.admit_at(cluster, &self.url_host(), self.port())
    }

    /// Likewise, with another address of the API server in the kubeconfig.
    ///
    /// # Errors
    ///
    /// As above.
    pub fn admit_at(&self, cluster: &Cluster, host: &str, port: u16) -> Result<()> {
        self.grant_agent_role()?;
        let text = self.kubeconfig_for(host, port, AGENT_TOKEN)?;
        for node in cluster.nodes() {
            let path = node.agent()?.directory().join(agent::KUBECONFIG);
            fs::write(&path, &text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// Makes the objects that describe the cluster's members.
    ///
    /// # Errors
    ///
    /// When the API server refuses one.
    pub fn describe(&self, cluster: &Cluster) -> Result<()> {
        let plan = cluster.plan();
        self.apply(&manifest::members(&plan.nodes, &plan.pods))
    }

    /// Makes or changes all objects of the YAML files of a folder, in the order of their names.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or the API server refuses an object.
    pub fn apply_directory(&self, directory: &Path) -> Result<()> {
        let client = self.client();
        let context = || format!("read the manifests in {}", directory.display());
        let entries = fs::read_dir(directory).with_context(context)?.flatten();
        let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|it| it == "yaml"));
        files.sort();
        for path in files {
            let text = fs::read_to_string(&path).with_context(context)?;
            for document in serde_yaml_ng::Deserializer::from_str(&text) {
                let object = Value::deserialize(document).with_context(context)?;
                client.apply(&object)?;
            }
        }
        Ok(())
    }

    /// Makes or changes all objects of a manifest.
    ///
    /// # Errors
    ///
    /// When the API server refuses one.
    pub fn apply(&self, manifest: &Manifest) -> Result<()> {
        let client = self.client();
        manifest
            .documents
            .iter()
            .try_for_each(|object| client.apply(object))
    }

    /// Lets it live on after this value, in a cluster that is kept.
    pub fn detach(mut self) {
        let running = [&mut self.etcd, &mut self.api_server, &mut self.controllers];
        for one in running.into_iter().flatten() {
            one.detach();
        }
    }
}
