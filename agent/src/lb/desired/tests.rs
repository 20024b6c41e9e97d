use ebpf_abi::Family;

use super::*;
use crate::state::{
    AsksMore, Change, Endpoint, EndpointPort, Labels, Node, Object, ObjectName, Pod,
};

mod backends;
mod frontends;

const NODE: &str = "node-1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

fn port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: name.into(),
        protocol: L4Protocol::Tcp,
        port,
        node_port: None,
    }
}

/// A Service with one unnamed port 80 and these ClusterIPs.
fn service(name: &str, cluster_ips: &[&str]) -> Service {
    Service {
        name: ObjectName::new("default", name),
        cluster_ips: ips(cluster_ips),
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        ports: vec![port("", 80)],
        publish_not_ready: false,
        asks_more: AsksMore::default(),
    }
}

fn ready(address: &str) -> Endpoint {
    Endpoint {
        address: ip(address),
        ready: true,
        serving: true,
        terminating: false,
        node_name: Some("node-2".into()),
        zone: None,
    }
}

fn unready(address: &str) -> Endpoint {
    Endpoint {
        ready: false,
        serving: false,
        ..ready(address)
    }
}

fn terminating(address: &str) -> Endpoint {
    Endpoint {
        ready: false,
        terminating: true,
        ..ready(address)
    }
}

/// A slice of a Service, its ports unnamed and 8080.
fn slice(name: &str, service: &str, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        name: ObjectName::new("default", name),
        service: service.into(),
        ports: vec![EndpointPort {
            name: String::new(),
            protocol: L4Protocol::Tcp,
            port: 8080,
        }],
        endpoints,
    }
}

fn pod(name: &str, address: &str, node: &str) -> Pod {
    Pod {
        name: ObjectName::new("default", name),
        ips: ips(&[address]).into(),
        node_name: Some(node.into()),
        host_network: false,
        finished: false,
        labels: Labels::default(),
        service_account: "default".into(),
        workload: None,
    }
}

fn node(addresses: &[&str]) -> Node {
    Node {
        created_at_seconds: None,
        name: NODE.into(),
        addresses: ips(addresses),
        pod_cidrs: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

fn state(objects: impl IntoIterator<Item = Object>) -> ClusterState {
    let mut state = ClusterState::default();
    state.apply(objects.into_iter().map(Change::Upsert).collect());
    state
}

fn this_node(addresses: &[&str]) -> ThisNode {
    ThisNode {
        name: NODE.into(),
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        ..ThisNode::default()
    }
}

fn desired_of(objects: impl IntoIterator<Item = Object>) -> Desired {
    desired(&state(objects), &this_node(&[]))
}

/// Backends of the only service.
fn backends_of(desired: &Desired) -> Vec<(String, u16, bool)> {
    let services: Vec<_> = desired.services.values().collect();
    let [service] = services[..] else {
        panic!("not one service: {desired:?}")
    };
    service
        .backends
        .keys()
        .map(|backend| (backend.ip.to_string(), backend.port, backend.local))
        .collect()
}

/// All frontends as text, with their kind.
fn frontends_of(desired: &Desired) -> BTreeSet<(String, FrontendKind)> {
    desired
        .services
        .values()
        .flat_map(|service| &service.frontends)
        .map(|(at, kind)| (format!("{} {}/{}", at.ip, at.port, at.protocol), *kind))
        .collect()
}
