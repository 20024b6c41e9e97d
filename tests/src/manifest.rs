//! Kubernetes objects as YAML text: what a user would write.

use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_connectivity::inventory::{self, Ports};

use crate::cluster::Pod;
use crate::plan::{DualAddress, NodePlan, PodPlan};

/// Namespace of all objects made here.
pub const NAMESPACE: &str = "default";

/// One file of a manifests directory.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Name of the file, without `.yaml`.
    pub file: String,
    /// Its documents.
    pub documents: Vec<Value>,
}

impl Manifest {
    /// The text of the file.
    ///
    /// # Errors
    ///
    /// When a document cannot be written as YAML.
    pub fn to_yaml(&self) -> Result<String> {
        let texts: Result<Vec<_>, _> = self
            .documents
            .iter()
            .map(serde_yaml_ng::to_string)
            .collect();
        Ok(texts
            .with_context(|| format!("write {} as YAML", self.file))?
            .join("---\n"))
    }
}

/// Nodes, the namespace and the pods of a cluster.
pub fn members(nodes: &[NodePlan], pods: &[PodPlan]) -> Manifest {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
    });
    let node_documents = nodes.iter().map(node);
    let pod_documents = pods
        .iter()
        .map(|pod| pod_document(pod, &nodes[pod.node].name));
    Manifest {
        file: "members".into(),
        documents: [namespace]
            .into_iter()
            .chain(node_documents)
            .chain(pod_documents)
            .collect(),
    }
}

fn node(plan: &NodePlan) -> Value {
    let internal = |address: IpAddr| json!({ "type": "InternalIP", "address": address });
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": plan.name, "labels": { "kubernetes.io/hostname": plan.name } },
        "spec": { "podCIDR": plan.pod_ranges[0], "podCIDRs": plan.pod_ranges },
        "status": { "addresses": plan.address.both().map(internal) },
    })
}

/// The workload of a pod: its name without the number.
fn app_of(pod: &str) -> &str {
    pod.rsplit_once('-').map_or(pod, |(app, _)| app)
}

fn pod_document(plan: &PodPlan, node: &str) -> Value {
    let app = app_of(&plan.name);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": plan.name, "namespace": NAMESPACE, "labels": { "app": app } },
        "spec": {
            "nodeName": node,
            "serviceAccountName": "default",
            "containers": [{ "name": app, "image": "example.invalid/echo" }],
        },
        "status": {
            "phase": "Running",
            "podIP": plan.address.v4,
            "podIPs": plan.address.both().map(|ip| json!({ "ip": ip })),
        },
    })
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    name: String,
    protocol: &'static str,
    number: u16,
    target: u16,
    on_nodes: Option<u16>,
}

/// A Service with its EndpointSlices, put together call by call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    name: String,
    cluster: Vec<IpAddr>,
    external: Vec<IpAddr>,
    ports: Vec<Port>,
}

impl Service {
    /// A Service without addresses and ports.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            cluster: vec![],
            external: vec![],
            ports: vec![],
        }
    }

    /// With these ClusterIPs.
    #[must_use]
    pub fn cluster_ip(mut self, address: DualAddress) -> Self {
        self.cluster.extend(address.both());
        self
    }

    /// With these load balancer addresses.
    #[must_use]
    pub fn external(mut self, addresses: [IpAddr; 2]) -> Self {
        self.external.extend(addresses);
        self
    }

    /// With a TCP port that leads to `target`.
    #[must_use]
    pub fn tcp(self, name: &str, port: u16, target: u16) -> Self {
        self.port(name, "TCP", port, target)
    }

    /// With a UDP port that leads to `target`.
    #[must_use]
    pub fn udp(self, name: &str, port: u16, target: u16) -> Self {
        self.port(name, "UDP", port, target)
    }

    /// With the last port also as `node_port` of every node.
    #[must_use]
    pub fn node_port(mut self, node_port: u16) -> Self {
        if let Some(port) = self.ports.last_mut() {
            port.on_nodes = Some(node_port);
        }
        self
    }

    fn port(mut self, name: &str, protocol: &'static str, port: u16, target: u16) -> Self {
        self.ports.push(Port {
            name: name.into(),
            protocol,
            number: port,
            target,
            on_nodes: None,
        });
        self
    }

    /// The Service and a slice per family with all `pods` in it, as one file.
    pub fn over<'a>(&self, pods: impl IntoIterator<Item = &'a Pod>) -> Manifest {
        let pods: Vec<_> = pods.into_iter().collect();
        let v4 = self.slice("IPv4", &pods, |pod| pod.address().v4.into());
        let v6 = self.slice("IPv6", &pods, |pod| pod.address().v6.into());
        Manifest {
            file: format!("service-{}", self.name),
            documents: vec![self.document(), v4, v6],
        }
    }

    /// The same service over `pods`, as an inventory describes it.
    pub fn described<'a>(&self, pods: impl IntoIterator<Item = &'a Pod>) -> inventory::Service {
        let port_of = |protocol: &str, number: fn(&Port) -> Option<u16>| {
            let mut ports = self.ports.iter().filter(|port| port.protocol == protocol);
            ports.find_map(number)
        };
        let ports = |number: fn(&Port) -> Option<u16>| Ports {
            tcp: port_of("TCP", number),
            udp: port_of("UDP", number),
        };
        let names = pods.into_iter().map(|pod| pod.name().to_owned());
        inventory::Service {
            name: format!("{NAMESPACE}/{}", self.name),
            servers: names.collect(),
            cluster_ips: self.cluster.clone(),
            external_ips: self.external.clone(),
            ports: ports(|port| Some(port.number)),
            node_ports: ports(|port| port.on_nodes),
            dns_name: None,
        }
    }

    fn document(&self) -> Value {
        let ports = self.ports.iter().map(|port| {
            let mut value = json!({
                "name": port.name, "protocol": port.protocol, "port": port.number,
                "targetPort": port.target,
            });
            if let Some(node_port) = port.on_nodes {
                value["nodePort"] = node_port.into();
            }
            value
        });
        let node_ports = self.ports.iter().any(|port| port.on_nodes.is_some());
        let kind = match (self.external.is_empty(), node_ports) {
            (false, _) => "LoadBalancer",
            (true, true) => "NodePort",
            (true, false) => "ClusterIP",
        };
        let mut value = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": self.name, "namespace": NAMESPACE },
            "spec": {
                "type": kind,
                "ipFamilyPolicy": "RequireDualStack",
                "ipFamilies": ["IPv4", "IPv6"],
                "selector": { "app": self.name },
                "ports": ports.collect::<Vec<_>>(),
            },
        });
        if let Some(first) = self.cluster.first() {
            value["spec"]["clusterIP"] = json!(first);
            value["spec"]["clusterIPs"] = json!(self.cluster);
        }
        if !self.external.is_empty() {
            let ingress: Vec<_> = self.external.iter().map(|ip| json!({ "ip": ip })).collect();
            value["status"] = json!({ "loadBalancer": { "ingress": ingress } });
        }
        value
    }

    fn slice(&self, family: &str, pods: &[&Pod], address: fn(&Pod) -> IpAddr) -> Value {
        let endpoints = pods.iter().map(|pod| {
            json!({
                "addresses": [address(pod)],
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "nodeName": pod.node_name(),
                "targetRef": { "kind": "Pod", "name": pod.name(), "namespace": NAMESPACE },
            })
        });
        let ports = self.ports.iter().map(
            |port| json!({ "name": port.name, "protocol": port.protocol, "port": port.target }),
        );
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{}-{}", self.name, family.to_ascii_lowercase()),
                "namespace": NAMESPACE,
                "labels": { "kubernetes.io/service-name": self.name },
            },
            "addressType": family,
            "endpoints": endpoints.collect::<Vec<_>>(),
            "ports": ports.collect::<Vec<_>>(),
        })
    }
}
