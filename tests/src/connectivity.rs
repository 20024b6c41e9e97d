//! A cluster as `weir connectivity test` wants it described, and runs of that command.
//!
//! Pods called `web-…` are servers, all others ask; so do the nodes and the clients outside. Each
//! is reached by `weir-cluster exec`, which also enters its cgroup, so that hooks on sockets see it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;
use weir_connectivity::Inventory;
use weir_connectivity::inventory::{self, ClientKind, Ports};

use crate::Cluster;
use crate::binary::Binary;
use crate::manifest::NAMESPACE;
use crate::plan::DualAddress;

/// Where the suite's servers listen, for both protocols.
pub const PORT: u16 = 7080;

/// What a run of the command came to.
#[derive(Debug)]
pub struct Checked {
    /// Exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Checked {
    /// The results, if they were asked for as JSON.
    ///
    /// # Errors
    ///
    /// When it printed something else.
    pub fn results(&self) -> Result<Vec<Value>> {
        let report: Value = serde_json::from_str(&self.stdout)
            .with_context(|| format!("it printed {:?} and {:?}", self.stdout, self.stderr))?;
        let results = report["results"].as_array().context("results")?;
        Ok(results.clone())
    }
}

impl From<Output> for Checked {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

/// `weir connectivity test` on this machine, outside of all clusters, to be started by the caller.
///
/// # Errors
///
/// When there is no such program.
pub fn command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(Binary::Cli.path()?);
    command
        .args(["connectivity", "test"])
        .args(arguments)
        .stdin(Stdio::null());
    Ok(command)
}

impl Cluster {
    /// Runs `weir connectivity test` on this cluster, with these services.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn check_connectivity(
        &self,
        services: Vec<inventory::Service>,
        arguments: &[&str],
    ) -> Result<Checked> {
        let file = self.write_inventory(services)?;
        let mut command = command(arguments)?;
        command.arg("--inventory").arg(file);
        let output = command.output().context("start weir connectivity test")?;
        Ok(output.into())
    }

    /// Describes the cluster in a file that goes with it.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_inventory(&self, services: Vec<inventory::Service>) -> Result<PathBuf> {
        let file = self.record().directory().join("inventory.yaml");
        let text = serde_yaml_ng::to_string(&self.inventory(services)?)?;
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        Ok(file)
    }

    /// Describes the cluster.
    ///
    /// # Errors
    ///
    /// When a program is missing.
    pub fn inventory(&self, services: Vec<inventory::Service>) -> Result<Inventory> {
        let mut inventory = Inventory {
            services,
            ..Inventory::default()
        };
        for node in self.nodes() {
            let command = self.weir_at(node.name())?;
            inventory.nodes.push(inventory::Node {
                name: node.name().to_owned(),
                addresses: node.address().both().to_vec(),
                agent: node.agent().is_ok().then(|| command.clone()),
            });
            let kind = ClientKind::Node;
            inventory
                .clients
                .push(asker(node.name(), kind, node.address(), command));
        }
        for pod in self.pods() {
            let command = self.weir_at(pod.name())?;
            let name = Some(format!("{NAMESPACE}/{}", pod.name()));
            if pod.name().starts_with("web-") {
                inventory.servers.push(inventory::Server {
                    name: pod.name().to_owned(),
                    node: pod.node_name().to_owned(),
                    pod: name,
                    addresses: pod.address().both().to_vec(),
                    ports: Ports {
                        tcp: Some(PORT),
                        udp: Some(PORT),
                    },
                    command: Some(command),
                });
            } else {
                inventory.clients.push(inventory::Client {
                    node: Some(pod.node_name().to_owned()),
                    pod: name,
                    ..asker(pod.name(), ClientKind::Pod, pod.address(), command)
                });
            }
        }
        for client in self.clients() {
            let (kind, command) = (ClientKind::Outside, self.weir_at(client.name())?);
            inventory
                .clients
                .push(asker(client.name(), kind, client.address(), command));
        }
        Ok(inventory)
    }

    /// Runs `weir` at a member.
    fn weir_at(&self, member: &str) -> Result<Vec<String>> {
        let path = |binary: Binary| Ok::<_, anyhow::Error>(binary.path()?.display().to_string());
        let words = [
            path(Binary::Cluster)?,
            "exec".into(),
            self.id().into(),
            member.into(),
        ];
        Ok(words.into_iter().chain([path(Binary::Cli)?]).collect())
    }
}

fn asker(
    name: &str,
    kind: ClientKind,
    address: DualAddress,
    command: Vec<String>,
) -> inventory::Client {
    inventory::Client {
        name: name.to_owned(),
        kind,
        // A node is on itself.
        node: (kind == ClientKind::Node).then(|| name.to_owned()),
        pod: None,
        addresses: address.both().to_vec(),
        command,
    }
}
