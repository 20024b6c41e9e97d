//! What the suite knows of a cluster: who asks, who answers, under which addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A cluster, as the suite sees it. In a file it is YAML, with names in camel case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Inventory {
    /// Nodes with their agents.
    pub nodes: Vec<Node>,
    /// Who asks.
    pub clients: Vec<Client>,
    /// Who answers.
    pub servers: Vec<Server>,
    /// Services over the servers.
    #[serde(default)]
    pub services: Vec<Service>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Addresses at which its node ports answer.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Command that runs `weir` beside its agent; empty is this program, here. Without it flows and
    /// encryption of the node are not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Vec<String>>,
}

/// What kind of client it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClientKind {
    /// A pod with an address of its own.
    Pod,
    /// A process of a node, or a pod in the node's network.
    Node,
    /// A machine that is no part of the cluster.
    Outside,
}

/// Someone who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Client {
    /// Its name, in the table.
    pub name: String,
    /// What it is.
    pub kind: ClientKind,
    /// The node that it is on; none for one outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// `namespace/name` of the pod that it is, as flows show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its own addresses. It is not asked to reach a family that it has none of; with no address at
    /// all it is asked to reach both.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Command that runs `weir` there; empty is this program, here.
    #[serde(default)]
    pub command: Vec<String>,
}

/// Someone who answers: `weir connectivity serve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Server {
    /// Its name: what it says who it is.
    pub name: String,
    /// The node that it is on.
    pub node: String,
    /// `namespace/name` of the pod that it is, as flows show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Where it listens.
    pub ports: Ports,
    /// Command that runs `weir` there: the server is started by it, and asks by it when a pod shall
    /// reach itself. Without it the server must run already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
}

/// Ports by protocol; none where nobody listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ports {
    /// Of TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<u16>,
    /// Of UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<u16>,
}

impl Ports {
    /// True if nobody listens at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A service over some of the servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// `namespace/name`.
    pub name: String,
    /// The servers behind it. All of them must answer.
    pub servers: Vec<String>,
    /// Its ClusterIPs.
    #[serde(default, rename = "clusterIPs")]
    pub cluster_ips: Vec<IpAddr>,
    /// External and load balancer addresses.
    #[serde(default, rename = "externalIPs")]
    pub external_ips: Vec<IpAddr>,
    /// Ports at those addresses.
    pub ports: Ports,
    /// Ports at the addresses of all nodes.
    #[serde(default, skip_serializing_if = "Ports::is_empty")]
    pub node_ports: Ports,
    /// A name under which pods find the ClusterIPs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_name: Option<String>,
}

/// Why an inventory cannot be used.
#[derive(Debug, Error)]
pub enum InventoryError {
    /// The file is not there.
    #[error("read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// It is no inventory.
    #[error("{}: {field}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where in it, as far as that is known.
        field: String,
        /// What is wrong there.
        source: serde_yaml_ng::Error,
    },
    /// It contradicts itself.
    #[error("the inventory has mistakes:\n  {}", .0.join("\n  "))]
    Mistakes(Vec<String>),
}

impl Inventory {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, InventoryError> {
        let text =
            fs::read_to_string(path).map_err(|error| InventoryError::Read(path.into(), error))?;
        let yaml = serde_yaml_ng::Deserializer::from_str(&text);
        let inventory: Self =
            serde_path_to_error::deserialize(yaml).map_err(|error| InventoryError::Parse {
                path: path.into(),
                field: error.path().to_string(),
                source: error.into_inner(),
            })?;
        inventory.check()?;
        Ok(inventory)
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The server of that name.
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.name == name)
    }

    /// Fails with all that is wrong, if something is.
    pub fn check(&self) -> Result<(), InventoryError> {
        let mut mistakes = Vec::new();
        let names = |kind: &str, names: Vec<&str>, mistakes: &mut Vec<String>| {
            let mut seen = BTreeSet::new();
            for name in names {
                if name.is_empty() {
                    mistakes.push(format!("{kind}: one has no name"));
                } else if !seen.insert(name) {
                    mistakes.push(format!("{kind}: two are called {name}"));
                }
            }
        };
        let nodes = self.nodes.iter().map(|it| &*it.name).collect();
        let clients = self.clients.iter().map(|it| &*it.name).collect();
        let servers = self.servers.iter().map(|it| &*it.name).collect();
        let services = self.services.iter().map(|it| &*it.name).collect();
        names("nodes", nodes, &mut mistakes);
        names("clients", clients, &mut mistakes);
        names("servers", servers, &mut mistakes);
        names("services", services, &mut mistakes);
        self.clients
            .iter()
            .for_each(|it| self.check_client(it, &mut mistakes));
        self.servers
            .iter()
            .for_each(|it| self.check_server(it, &mut mistakes));
        self.services
            .iter()
            .for_each(|it| self.check_service(it, &mut mistakes));
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(InventoryError::Mistakes(mistakes))
        }
    }

    fn check_client(&self, client: &Client, mistakes: &mut Vec<String>) {
        let name = &client.name;
        match (client.kind, client.node.as_deref()) {
            (ClientKind::Outside, Some(_)) => {
                mistakes.push(format!("client {name}: one outside is on no node"));
            }
            (ClientKind::Pod | ClientKind::Node, None) => {
                mistakes.push(format!(
                    "client {name}: on which node is it? `node` is missing"
                ));
            }
            (_, Some(node)) if self.node(node).is_none() => {
                mistakes.push(format!("client {name}: there is no node {node}"));
            }
            _ => {}
        }
        check_pod("client", name, client.pod.as_deref(), mistakes);
    }

    fn check_server(&self, server: &Server, mistakes: &mut Vec<String>) {
        let (name, node) = (&server.name, &server.node);
        if self.node(node).is_none() {
            mistakes.push(format!("server {name}: there is no node {node}"));
        }
        if server.addresses.is_empty() {
            mistakes.push(format!("server {name}: it has no addresses"));
        }
        if server.ports.is_empty() {
            mistakes.push(format!("server {name}: it listens at no port"));
        }
        check_pod("server", name, server.pod.as_deref(), mistakes);
    }

    fn check_service(&self, service: &Service, mistakes: &mut Vec<String>) {
        let name = &service.name;
        if service.servers.is_empty() {
            mistakes.push(format!("service {name}: it has no servers"));
        }
        if service.ports.is_empty() {
            mistakes.push(format!("service {name}: it has no ports"));
        }
        for server in &service.servers {
            if self.server(server).is_none() {
                mistakes.push(format!("service {name}: there is no server {server}"));
            }
        }
    }
}

fn check_pod(kind: &str, name: &str, pod: Option<&str>, mistakes: &mut Vec<String>) {
    if pod.is_some_and(|pod| !pod.contains('/')) {
        mistakes.push(format!("{kind} {name}: `pod` is NAMESPACE/NAME"));
    }
}

#[cfg(test)]
pub(crate) mod tests;
