//! The inventory of what was made, and the agents that are there.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::{Api, Client as ApiClient};

use super::objects::{CLUSTER_SERVICE, NODE_SERVICE, Plan, Role, SERVER_PORT, SERVICE_PORT};
use super::ready::{addresses, member_of};
use super::{AGENTS, ByNode, KubernetesError, list};
use crate::inventory::{self, Client, ClientKind, Inventory, Ports, Server};

/// The program, in the image.
const WEIR: &str = "weir";
/// The agent, in its pods: they are told from others of the same label by it.
const AGENT_CONTAINER: &str = "agent";

/// The agents of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agents {
    /// Their pods, as `namespace/name`, by the names of their nodes.
    pub by_node: ByNode,
    /// The image of one of them.
    pub image: Option<String>,
    /// When that image is pulled.
    pub pull_policy: Option<String>,
}

impl Agents {
    /// Looks for them in a namespace, or in all.
    pub(super) async fn find(
        client: &ApiClient,
        namespace: Option<&str>,
    ) -> Result<Self, KubernetesError> {
        let pods: Api<Pod> = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        Ok(Self::among(&list(&pods, AGENTS).await?))
    }

    fn among(pods: &[Pod]) -> Self {
        let mut agents = Self::default();
        for pod in pods {
            let (Some(spec), Some(name)) = (&pod.spec, &pod.metadata.name) else {
                continue;
            };
            let mut containers = spec.containers.iter();
            let container = containers.find(|container| {
                let command = container.command.iter().flatten();
                container.name == AGENT_CONTAINER
                    && command.clone().any(|word| word.ends_with("weir-agent"))
            });
            let phase = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            let is_running = phase == Some("Running");
            if let (Some(container), Some(node), true) = (container, &spec.node_name, is_running) {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                agents
                    .by_node
                    .insert(node.clone(), format!("{namespace}/{name}"));
                if agents.image.is_none() {
                    agents.image.clone_from(&container.image);
                    agents.pull_policy.clone_from(&container.image_pull_policy);
                }
            }
        }
        agents
    }
}

/// All that was found.
pub struct Found<'a> {
    pub plan: &'a Plan,
    pub nodes: &'a [Node],
    pub pods: &'a [Pod],
    pub services: &'a [Service],
    pub agents: &'a Agents,
    pub has_dns: bool,
    pub outside: bool,
}

/// Describes it.
pub fn members(found: &Found<'_>) -> Inventory {
    let plan = found.plan;
    let weir = || vec![WEIR.to_owned()];
    let nodes = plan.nodes.iter().map(|name| inventory::Node {
        name: name.clone(),
        addresses: node_addresses(found.nodes, name),
        agent: found.agents.by_node.contains_key(name).then(weir),
    });
    let mut inventory = Inventory {
        nodes: nodes.collect(),
        ..Inventory::default()
    };
    for pod in found.pods {
        let Some((role, node)) = member_of(plan, pod) else {
            continue;
        };
        let (name, node) = (role.pod(node), plan.nodes[node].clone());
        let (addresses, pod) = (pod_addresses(pod), format!("{}/{name}", plan.namespace));
        let client = |kind, pod| Client {
            name: name.clone(),
            kind,
            node: Some(node.clone()),
            pod,
            addresses: addresses.clone(),
            command: weir(),
        };
        match role {
            Role::Client => inventory.clients.push(client(ClientKind::Pod, Some(pod))),
            Role::Host => inventory.clients.push(client(ClientKind::Node, None)),
            Role::Server => inventory.servers.push(Server {
                name: name.clone(),
                node: node.clone(),
                pod: Some(pod),
                addresses: addresses.clone(),
                ports: both(SERVER_PORT),
                command: Some(weir()),
            }),
        }
    }
    if found.outside {
        inventory.clients.push(here());
    }
    let services = found.services.iter();
    inventory.services = services
        .filter_map(|service| describe(found, service))
        .collect();
    inventory
}

/// This machine.
fn here() -> Client {
    Client {
        name: "this-machine".to_owned(),
        kind: ClientKind::Outside,
        node: None,
        pod: None,
        addresses: Vec::new(),
        command: Vec::new(),
    }
}

fn both(port: u16) -> Ports {
    Ports {
        tcp: Some(port),
        udp: Some(port),
    }
}

fn describe(found: &Found<'_>, service: &Service) -> Option<inventory::Service> {
    let (plan, name) = (found.plan, service.metadata.name.as_deref()?);
    let servers = (0..plan.nodes.len()).map(|node| Role::Server.pod(node));
    let mut described = inventory::Service {
        name: format!("{}/{name}", plan.namespace),
        servers: servers.collect(),
        ports: both(SERVICE_PORT),
        ..inventory::Service::default()
    };
    match name {
        CLUSTER_SERVICE => {
            described.cluster_ips = addresses(service);
            // As pods write it: the search list of their resolver knows the domain.
            let dns_name = || format!("{name}.{}.svc", plan.namespace);
            described.dns_name = found.has_dns.then(dns_name);
        }
        NODE_SERVICE => described.node_ports = node_ports(service),
        _ => return None,
    }
    Some(described)
}

fn node_ports(service: &Service) -> Ports {
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.clone())
        .unwrap_or_default();
    let of = |protocol: &str| {
        let found = ports
            .iter()
            .find(|port| port.protocol.as_deref() == Some(protocol))?;
        u16::try_from(found.node_port?).ok()
    };
    Ports {
        tcp: of("TCP"),
        udp: of("UDP"),
    }
}

fn pod_addresses(pod: &Pod) -> Vec<IpAddr> {
    let status = pod.status.clone().unwrap_or_default();
    let all = status.pod_ips.unwrap_or_default();
    let mut addresses: Vec<_> = all.iter().filter_map(|ip| ip.ip.parse().ok()).collect();
    if addresses.is_empty() {
        addresses.extend(status.pod_ip.and_then(|ip| ip.parse::<IpAddr>().ok()));
    }
    addresses
}

fn node_addresses(nodes: &[Node], name: &str) -> Vec<IpAddr> {
    let node = nodes
        .iter()
        .find(|node| node.metadata.name.as_deref() == Some(name));
    let status = node
        .and_then(|node| node.status.clone())
        .unwrap_or_default();
    let all = status.addresses.unwrap_or_default();
    let internal = all.iter().filter(|address| address.type_ == "InternalIP");
    internal
        .filter_map(|address| address.address.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests;
