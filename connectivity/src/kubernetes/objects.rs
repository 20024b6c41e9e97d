//! The objects of the suite: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, EnvVar, EnvVarSource, HTTPGetAction, Namespace, Node,
    NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectFieldSelector,
    Pod, PodSecurityContext, PodSpec, Probe, SeccompProfile, SecurityContext, Service, ServicePort,
    ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{ByNode, KubernetesError};

/// Where servers listen, for both protocols.
pub const SERVER_PORT: u16 = 8080;
/// Where services answer, for both protocols.
pub const SERVICE_PORT: u16 = 80;
/// The service that is reached at its ClusterIPs.
pub const CLUSTER_SERVICE: &str = "echo";
/// The service that is reached at node ports.
pub const NODE_SERVICE: &str = "echo-nodes";
/// A user of nobody's.
const NOBODY: i64 = 65534;
/// Label that tells servers from clients.
const ROLE: &str = "weir.dev/connectivity";

/// What a pod of the suite is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It answers, and asks for itself.
    Server,
    /// It asks.
    Client,
    /// It asks in the network of its node.
    Host,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Server, Self::Client, Self::Host];

    fn text(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Host => "host",
        }
    }

    /// Name of its pod on the node of this number, from 0.
    pub fn pod(self, node: usize) -> String {
        format!("{}-{}", self.text(), node + 1)
    }
}

/// What is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In this namespace.
    pub namespace: String,
    /// Of this image.
    pub image: String,
    /// When it is pulled; as the API server decides if not given.
    pub pull_policy: Option<String>,
    /// On these nodes: a pod of each role on each.
    pub nodes: Vec<String>,
}

impl Plan {
    /// The namespace.
    pub fn namespace(&self) -> Namespace {
        let mut labels = labels();
        // Pods in the network of their node are for privileged namespaces only.
        for mode in ["enforce", "audit", "warn"] {
            let key = format!("pod-security.kubernetes.io/{mode}");
            labels.insert(key, "privileged".to_owned());
        }
        Namespace {
            metadata: ObjectMeta {
                name: Some(self.namespace.clone()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        }
    }

    /// The services, both over all servers.
    pub fn services(&self) -> [Service; 2] {
        let service = |name: &str, kind: &str| Service {
            metadata: self.metadata(name, labels()),
            spec: Some(ServiceSpec {
                type_: Some(kind.to_owned()),
                // Both families where the cluster has them.
                ip_family_policy: Some("PreferDualStack".to_owned()),
                selector: Some(role_labels(Role::Server)),
                ports: Some(["TCP", "UDP"].map(port).to_vec()),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        };
        [
            service(CLUSTER_SERVICE, "ClusterIP"),
            service(NODE_SERVICE, "NodePort"),
        ]
    }

    /// The pods with their roles and nodes, by number.
    pub fn members(&self) -> impl Iterator<Item = (Role, usize)> {
        let nodes = 0..self.nodes.len();
        nodes.flat_map(|node| Role::ALL.map(|role| (role, node)))
    }

    /// The pods.
    pub fn pods(&self) -> Vec<Pod> {
        let members = self.members();
        members.map(|(role, node)| self.pod(role, node)).collect()
    }

    fn pod(&self, role: Role, node: usize) -> Pod {
        let mut labels = labels();
        labels.extend(role_labels(role));
        Pod {
            metadata: self.metadata(&role.pod(node), labels),
            spec: Some(PodSpec {
                affinity: Some(only_on(&self.nodes[node])),
                automount_service_account_token: Some(false),
                containers: vec![self.container(role)],
                // Services would make hundreds of variables in large namespaces.
                enable_service_links: Some(false),
                // In the network of its node it still asks the cluster's DNS.
                dns_policy: (role == Role::Host).then(|| "ClusterFirstWithHostNet".to_owned()),
                host_network: (role == Role::Host).then_some(true),
                security_context: Some(PodSecurityContext {
                    run_as_non_root: Some(true),
                    run_as_user: Some(NOBODY),
                    run_as_group: Some(NOBODY),
                    seccomp_profile: Some(SeccompProfile {
                        type_: "RuntimeDefault".to_owned(),
                        ..SeccompProfile::default()
                    }),
                    ..PodSecurityContext::default()
                }),
                // It has nothing to bring to an end.
                termination_grace_period_seconds: Some(1),
                ..PodSpec::default()
            }),
            ..Pod::default()
        }
    }

    fn container(&self, role: Role) -> Container {
        let mut words = vec!["weir", "connectivity", "serve", "--name", "$(POD_NAME)"];
        let port = SERVER_PORT.to_string();
        if role == Role::Server {
            words.extend(["--tcp-port", &port, "--udp-port", &port]);
        }
        Container {
            name: "weir".to_owned(),
            image: Some(self.image.clone()),
            image_pull_policy: self.pull_policy.clone(),
            command: Some(words.into_iter().map(str::to_owned).collect()),
            env: Some(vec![pod_name()]),
            readiness_probe: (role == Role::Server).then(readiness),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities {
                    drop: Some(vec!["ALL".to_owned()]),
                    ..Capabilities::default()
                }),
                ..SecurityContext::default()
            }),
            ..Container::default()
        }
    }

    fn metadata(&self, name: &str, labels: BTreeMap<String, String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        }
    }
}

fn role_labels(role: Role) -> BTreeMap<String, String> {
    [(ROLE.to_owned(), role.text().to_owned())].into()
}

fn labels() -> BTreeMap<String, String> {
    let labels = [
        ("app.kubernetes.io/name", "weir-connectivity"),
        ("app.kubernetes.io/managed-by", "weir"),
    ];
    labels
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn port(protocol: &str) -> ServicePort {
    ServicePort {
        name: Some(protocol.to_lowercase()),
        protocol: Some(protocol.to_owned()),
        port: SERVICE_PORT.into(),
        target_port: Some(IntOrString::Int(SERVER_PORT.into())),
        ..ServicePort::default()
    }
}

fn pod_name() -> EnvVar {
    EnvVar {
        name: "POD_NAME".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "metadata.name".to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn readiness() -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some("/".to_owned()),
            port: IntOrString::Int(SERVER_PORT.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(1),
        ..Probe::default()
    }
}

/// By its name, not by its host name, which may be another one.
fn only_on(node: &str) -> Affinity {
    let requirement = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![NodeSelectorTerm {
                    match_fields: Some(vec![requirement]),
                    ..NodeSelectorTerm::default()
                }],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// Up to `most` nodes that take pods, those with agents first.
pub fn choose_nodes(
    all: &[Node],
    agents: &ByNode,
    most: usize,
) -> Result<Vec<Node>, KubernetesError> {
    let mut refused = Vec::new();
    let mut fit = Vec::new();
    for node in all {
        match why_not(node) {
            Some(why) => refused.push(format!("{}: {why}", name(node))),
            None => fit.push(node.clone()),
        }
    }
    fit.sort_by_key(|node| (!agents.contains_key(name(node)), name(node).to_owned()));
    fit.truncate(most.max(1));
    if fit.is_empty() {
        if refused.is_empty() {
            refused.push("there is no node at all".to_owned());
        }
        return Err(KubernetesError::NoNodes(refused));
    }
    if !agents.is_empty() && !fit.iter().any(|node| agents.contains_key(name(node))) {
        return Err(KubernetesError::NoNodeWithAgent(refused));
    }
    Ok(fit)
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

fn why_not(node: &Node) -> Option<String> {
    let spec = node.spec.clone().unwrap_or_default();
    if spec.unschedulable == Some(true) {
        return Some("it is cordoned".to_owned());
    }
    let taints = spec.taints.unwrap_or_default();
    let keeps_off = |effect: &str| matches!(effect, "NoSchedule" | "NoExecute");
    if let Some(taint) = taints.iter().find(|taint| keeps_off(&taint.effect)) {
        return Some(format!("it has the taint {}", taint.key));
    }
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    let ready = conditions.find(|condition| condition.type_ == "Ready");
    match ready {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(format!(
            "it is not ready: {}",
            ready.message.as_deref().unwrap_or("it does not say why")
        )),
        None => Some("it does not say that it is ready".to_owned()),
    }
}

#[cfg(test)]
mod tests;
