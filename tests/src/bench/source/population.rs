//! The objects of a large cluster, as its API server has them: with all that the agent does not use.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use serde_json::{Value, json};

/// Endpoints that the controllers put into one slice.
const SLICE_ENDPOINTS: usize = 100;
/// Images that a node tells of, as kubelets do.
const IMAGES: usize = 50;
/// Namespaces.
const NAMESPACES: usize = 60;
/// Zones.
const ZONES: usize = 3;
/// A pod of a Deployment with all that the API server has of one.
const POD: &str = include_str!("pod.json");

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Nodes.
    pub nodes: usize,
    /// Pods of each node, each of which is an endpoint of one Service.
    pub pods_per_node: usize,
    /// Services; of 20 in a row one has 20 times the pods of the smallest ones, and four have five
    /// times as many.
    pub services: usize,
}

impl Size {
    /// Number of pods.
    pub fn pods(self) -> usize {
        self.nodes * self.pods_per_node
    }
}

/// The objects.
#[derive(Debug)]
pub struct Population {
    /// How many.
    pub size: Size,
    /// First pod of each Service, and the end: they lie in a row.
    firsts: Vec<usize>,
    pod: Value,
}

/// Of both families.
#[derive(Clone, Copy, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Population {
    /// One of this size.
    pub fn new(size: Size) -> Result<Self> {
        let weight = |service: usize| match service % 20 {
            0 => 40,
            1..=4 => 10,
            _ => 2,
        };
        let total: usize = (0..size.services).map(weight).sum();
        let mut firsts = Vec::with_capacity(size.services + 1);
        let mut before = 0;
        for service in 0..=size.services {
            firsts.push(before * size.pods() / total);
            before += weight(service);
        }
        Ok(Self {
            size,
            firsts,
            pod: serde_json::from_str(POD)?,
        })
    }

    /// Pods of a Service.
    pub fn pods_of(&self, service: usize) -> std::ops::Range<usize> {
        self.firsts[service]..self.firsts[service + 1]
    }

    fn service_of(&self, pod: usize) -> usize {
        self.firsts.partition_point(|first| *first <= pod) - 1
    }

    /// All Namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = Value> {
        (0..NAMESPACES).map(|number| {
            json!({
                "metadata": {
                    "name": format!("team-{number:02}"),
                    "labels": {
                        "kubernetes.io/metadata.name": format!("team-{number:02}"),
                        "team": format!("team-{number:02}"),
                        "pod-security.kubernetes.io/enforce": "restricted",
                    },
                },
                "status": { "phase": "Active" },
            })
        })
    }

    /// A Node; `beat` counts the kubelet's reports.
    pub fn node(&self, number: usize, beat: usize) -> Value {
        let name = node_name(number);
        let [high, low] = (number as u16).to_be_bytes();
        let images = (0..IMAGES).map(|image| {
            json!({
                "names": [
                    format!("registry.example.com/team/image-{image:02}@sha256:{image:064x}"),
                    format!("registry.example.com/team/image-{image:02}:1.{image}.0"),
                ],
                "sizeBytes": 48_000_000 + image,
            })
        });
        let heartbeat = format!(
            "2026-03-{:02}T{:02}:{:02}:00Z",
            1 + beat / 1_440 % 28,
            beat / 60 % 24,
            beat % 60
        );
        let condition = |kind: &str, status: &str| {
            json!({
                "type": kind, "status": status, "reason": "Kubelet",
                "lastHeartbeatTime": heartbeat,
                "lastTransitionTime": "2026-03-01T00:00:00Z",
            })
        };
        let capacity = json!({ "cpu": "16", "memory": "65842160Ki", "pods": "110" });
        json!({
            "metadata": {
                "name": name,
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/arch": "amd64",
                    "kubernetes.io/os": "linux",
                    "node.kubernetes.io/instance-type": "m5.4xlarge",
                    "topology.kubernetes.io/region": "region-1",
                    "topology.kubernetes.io/zone": zone(number),
                    "node-pool": "general",
                },
                "annotations": {
                    "node.alpha.kubernetes.io/ttl": "0",
                    "volumes.kubernetes.io/controller-managed-attach-detach": "true",
                    "weir.dev/version": env!("CARGO_PKG_VERSION"),
                },
                "creationTimestamp": "2026-03-01T00:00:00Z",
            },
            "spec": {
                "podCIDR": format!("100.{}.{low}.0/24", 64 + high),
                "podCIDRs": [
                    format!("100.{}.{low}.0/24", 64 + high),
                    format!("fd64:{number:x}::/64"),
                ],
                "providerID": format!("provider:///zone/{name}"),
            },
            "status": {
                "capacity": capacity,
                "allocatable": capacity,
                "addresses": [
                    { "type": "InternalIP", "address": format!("172.20.{high}.{low}") },
                    { "type": "Hostname", "address": name },
                ],
                "conditions": [
                    condition("MemoryPressure", "False"),
                    condition("DiskPressure", "False"),
                    condition("PIDPressure", "False"),
                    condition("Ready", "True"),
                ],
                "nodeInfo": {
                    "kernelVersion": "6.12.9", "osImage": "Linux", "kubeletVersion": "v1.36.0",
                    "containerRuntimeVersion": "containerd://2.1.0",
                },
                "images": images.collect::<Vec<_>>(),
            },
        })
    }

    /// A pod. A higher `generation` is the pod that replaces it, under another name.
    pub fn pod(&self, number: usize, generation: usize) -> Value {
        let service = self.service_of(number);
        let app = app(service);
        let index = number - self.firsts[service];
        let is_stateful = service % 10 == 9;
        let name = if is_stateful {
            format!("{app}-{index}")
        } else {
            format!("{app}-7d4b9c6f5d-{:05x}", number + generation * 0x2_0000)
        };
        let mut pod = self.pod.clone();
        let metadata = &mut pod["metadata"];
        metadata["name"] = json!(name);
        metadata["generateName"] = json!(format!("{app}-7d4b9c6f5d-"));
        metadata["namespace"] = json!(namespace(service));
        metadata["labels"] = labels(&app, &namespace(service));
        if is_stateful {
            metadata["ownerReferences"][0]["kind"] = json!("StatefulSet");
            metadata["ownerReferences"][0]["name"] = json!(app);
            metadata["labels"]["controller-revision-hash"] = json!("7d4b9c6f5d");
            metadata["labels"]["apps.kubernetes.io/pod-index"] = json!(index.to_string());
            metadata["labels"]["statefulset.kubernetes.io/pod-name"] = json!(name);
        } else {
            metadata["ownerReferences"][0]["name"] = json!(format!("{app}-7d4b9c6f5d"));
            metadata["labels"]["pod-template-hash"] = json!("7d4b9c6f5d");
        }
        let (v4, v6) = self.addresses(number, generation);
        pod["spec"]["nodeName"] = json!(self.node_of(number));
        pod["spec"]["serviceAccountName"] = json!(app);
        pod["spec"]["serviceAccount"] = json!(app);
        pod["status"]["podIP"] = json!(v4.to_string());
        pod["status"]["podIPs"] = json!([{ "ip": v4.to_string() }, { "ip": v6.to_string() }]);
        pod
    }

    /// Name of the node of a pod: those of a Service are spread.
    pub fn node_of(&self, pod: usize) -> String {
        node_name(pod % self.size.nodes)
    }

    /// Addresses of a pod, within the ranges of its node.
    pub fn addresses(&self, pod: usize, generation: usize) -> (Ipv4Addr, Ipv6Addr) {
        let node = (pod % self.size.nodes) as u16;
        let [high, low] = node.to_be_bytes();
        let host = (2 + pod / self.size.nodes + generation * self.size.pods_per_node) % 254;
        let host = host as u8;
        (
            Ipv4Addr::new(100, 64 + high, low, host),
            Ipv6Addr::new(0xfd64, node, 0, 0, 0, 0, 0, host.into()),
        )
    }

    /// A Service of both families.
    pub fn service(&self, number: usize) -> Value {
        let [high, low] = (number as u16).to_be_bytes();
        let app = app(number);
        let ips = [format!("10.96.{high}.{low}"), format!("fd96::{number:x}")];
        json!({
            "metadata": {
                "name": app,
                "namespace": namespace(number),
                "labels": labels(&app, &namespace(number)),
                "creationTimestamp": "2026-03-01T00:00:00Z",
            },
            "spec": {
                "type": "ClusterIP", "clusterIP": ips[0], "clusterIPs": ips,
                "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
                "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
                "ports": [
                    { "name": "http", "port": 80, "protocol": "TCP", "targetPort": "http" },
                ],
                "selector": { "app.kubernetes.io/name": app },
            },
            "status": { "loadBalancer": {} },
        })
    }

    /// Number of slices of a Service in each family.
    pub fn slices(&self, service: usize) -> usize {
        self.pods_of(service).len().div_ceil(SLICE_ENDPOINTS)
    }

    /// A slice of a Service. Pods of a higher `generation` have replaced the first of its pods so
    /// often.
    pub fn slice(&self, service: usize, family: Family, slice: usize, generation: usize) -> Value {
        let pods = self.pods_of(service).skip(slice * SLICE_ENDPOINTS);
        let endpoints = pods.take(SLICE_ENDPOINTS).enumerate().map(|(at, pod)| {
            let generation = if at == 0 { generation } else { 0 };
            let (v4, v6) = self.addresses(pod, generation);
            let address = match family {
                Family::V4 => v4.to_string(),
                Family::V6 => v6.to_string(),
            };
            let pod_name = &self.pod_name(pod);
            json!({
                "addresses": [address],
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "nodeName": self.node_of(pod),
                "zone": zone(pod % self.size.nodes),
                "targetRef": {
                    "kind": "Pod", "name": pod_name, "namespace": namespace(service),
                    "uid": "f3b1c4ac-43cd-4b29-8f8a-0f6b0f1c2d3e",
                },
            })
        });
        let (address_type, letter) = match family {
            Family::V4 => ("IPv4", 'f'),
            Family::V6 => ("IPv6", 's'),
        };
        let app = app(service);
        let mut labels = labels(&app, &namespace(service));
        labels["kubernetes.io/service-name"] = json!(app);
        labels["endpointslice.kubernetes.io/managed-by"] = json!("endpointslice-controller.k8s.io");
        json!({
            "metadata": {
                "name": format!("{app}-{letter}{slice:04}"),
                "generateName": format!("{app}-"),
                "namespace": namespace(service),
                "labels": labels,
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Service", "name": app, "controller": true,
                    "uid": "0d9f1a2b-3c4d-4e5f-8a6b-7c8d9e0f1a2b",
                }],
            },
            "addressType": address_type,
            "endpoints": endpoints.collect::<Vec<_>>(),
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        })
    }

    fn pod_name(&self, pod: usize) -> String {
        format!("{}-7d4b9c6f5d-{pod:05x}", app(self.service_of(pod)))
    }
}

/// Name of a node.
pub fn node_name(number: usize) -> String {
    format!("ip-10-20-{:02}-{:03}.internal", number / 256, number % 256)
}

fn zone(node: usize) -> String {
    format!("region-1{}", ['a', 'b', 'c'][node % ZONES])
}

fn app(service: usize) -> String {
    format!("checkout-{service:04}")
}

/// Namespace of a Service and its pods.
pub fn namespace(service: usize) -> String {
    format!("team-{:02}", service % NAMESPACES)
}

fn labels(app: &str, team: &str) -> Value {
    json!({
        "app.kubernetes.io/name": app,
        "app.kubernetes.io/instance": app,
        "app.kubernetes.io/component": "server",
        "app.kubernetes.io/part-of": team,
        "team": team,
    })
}
