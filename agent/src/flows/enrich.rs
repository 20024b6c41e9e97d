//! [`FlowEvent`] -> [`FlowRecord`]: gives addresses the names they have at this moment.
//!
//! Pure but for the name of an interface. What is known of an address is looked up once per
//! revision of the state and shared, so that a record costs no allocation of its own.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ebpf_abi::event::EventKind;
use ebpf_abi::{FlowEvent, Protocol};
use uuid::Uuid;

use super::identity::{Identities, IdentityId, pod_labels};
use super::record::{
    CLUSTER_NAME, EndpointInfo, FlowRecord, NodeInfo, Side, address, family, port,
};
use crate::state::{ClusterState, L4Protocol, ObjectName, Pod};

/// Names of interfaces in the node's network namespace.
pub trait InterfaceNames: Send {
    /// The name of the interface with this index now, if there is one.
    fn name(&self, index: u32) -> Option<String>;
}

/// Asks the kernel, in the network namespace of the calling thread.
#[derive(Debug, Default)]
pub struct KernelInterfaceNames;

impl InterfaceNames for KernelInterfaceNames {
    fn name(&self, index: u32) -> Option<String> {
        nix::net::if_::if_indextoname(index)
            .ok()?
            .into_string()
            .ok()
    }
}

/// Addresses remembered at most. Clients from outside are many; forgetting all of them only costs
/// lookups.
const MAX_ADDRESSES: usize = 65_536;

/// Gives records their names.
pub struct Enricher {
    identities: Arc<Identities>,
    interface_names: Box<dyn InterfaceNames>,
    reserved: Reserved,
    node: Arc<NodeInfo>,
    endpoints: HashMap<IpAddr, Arc<EndpointInfo>>,
    services: HashSet<Arc<ObjectName>>,
    interfaces: HashMap<u32, Option<Arc<str>>>,
    uuids: Uuids,
}

impl Enricher {
    /// An enricher for the events of one node.
    pub fn new(
        node_name: &str,
        identities: Arc<Identities>,
        interface_names: Box<dyn InterfaceNames>,
    ) -> Self {
        Self {
            identities,
            interface_names,
            reserved: Reserved::new(),
            node: Arc::new(NodeInfo {
                name: node_name.to_owned(),
                labels: Vec::new(),
            }),
            endpoints: HashMap::new(),
            services: HashSet::new(),
            interfaces: HashMap::new(),
            uuids: Uuids::random(),
        }
    }

    /// Forgets what was looked up; to be called whenever the state or the interfaces changed.
    pub fn refresh(&mut self, cluster: &ClusterState) {
        self.endpoints.clear();
        self.services.clear();
        self.interfaces.clear();
        let name = self.node.name.clone();
        let labels = cluster.node(&name).map(|node| &node.labels);
        let labels = labels
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}={value}"));
        self.node = Arc::new(NodeInfo {
            labels: labels.collect(),
            name,
        });
    }

    /// The record of an event that happened at this wall clock time.
    pub fn enrich(&mut self, event: FlowEvent, time_ns: u64, cluster: &ClusterState) -> FlowRecord {
        FlowRecord {
            time_ns,
            uuid: self.uuids.next(),
            node: Arc::clone(&self.node),
            interface: self.interface(event.ifindex),
            source: self.end(&event, Side::Source, cluster),
            destination: self.end(&event, Side::Destination, cluster),
            source_service: self.service(&event, Side::Source, cluster),
            destination_service: self.service(&event, Side::Destination, cluster),
            event,
        }
    }

    /// What is known of one end. A frontend is nobody: behind it is the backend, if the program that
    /// saw the packet knows which.
    fn end(&mut self, event: &FlowEvent, side: Side, cluster: &ClusterState) -> Arc<EndpointInfo> {
        let shown = address(event, side);
        let behind = match side {
            Side::Source => event.source,
            Side::Destination => event.translated_destination,
        };
        let behind = behind.narrow(family(event));
        let known = self.endpoint(shown, cluster);
        if known.is_pod() || behind == shown {
            return known;
        }
        let backend = self.endpoint(behind, cluster);
        if backend.is_pod() { backend } else { known }
    }

    fn endpoint(&mut self, address: IpAddr, cluster: &ClusterState) -> Arc<EndpointInfo> {
        if let Some(known) = self.endpoints.get(&address) {
            return Arc::clone(known);
        }
        let endpoint = match cluster.pod_by_ip(address) {
            Some(pod) => Arc::new(self.pod(pod, cluster)),
            None => self.reserved.of(address, &self.node.name, cluster),
        };
        if self.endpoints.len() >= MAX_ADDRESSES {
            self.endpoints.clear();
        }
        self.endpoints.insert(address, Arc::clone(&endpoint));
        endpoint
    }

    fn pod(&self, pod: &Pod, cluster: &ClusterState) -> EndpointInfo {
        let labels = pod_labels(pod, cluster.namespace(&pod.name.namespace));
        EndpointInfo {
            identity: self.identities.of(&labels),
            namespace: Arc::clone(&pod.name.namespace),
            pod_name: pod.name.name.to_string(),
            labels,
            workload: pod.workload.as_deref().cloned(),
            cluster_name: CLUSTER_NAME,
        }
    }

    fn service(
        &mut self,
        event: &FlowEvent,
        side: Side,
        cluster: &ClusterState,
    ) -> Option<Arc<ObjectName>> {
        let protocol = match event.protocol {
            Protocol::TCP => L4Protocol::Tcp,
            Protocol::UDP => L4Protocol::Udp,
            _ => return None,
        };
        let (address, port) = if event.kind == EventKind::SOCKET && side == Side::Destination {
            // What it dialled, not where it was sent: that is the frontend.
            let dialled = event.destination.narrow(family(event));
            (dialled, event.destination_port.get())
        } else {
            (address(event, side), port(event, side)?)
        };
        let name = &cluster.service_by_frontend(address, port, protocol)?.name;
        if let Some(known) = self.services.get(name) {
            return Some(Arc::clone(known));
        }
        let name = Arc::new(name.clone());
        self.services.insert(Arc::clone(&name));
        Some(name)
    }

    fn interface(&mut self, index: u32) -> Option<Arc<str>> {
        if index == 0 {
            return None;
        }
        let lookup = || self.interface_names.name(index).map(Arc::from);
        self.interfaces.entry(index).or_insert_with(lookup).clone()
    }
}

/// What is said of addresses that are no pod's.
struct Reserved {
    unknown: Arc<EndpointInfo>,
    host: Arc<EndpointInfo>,
    world: Arc<EndpointInfo>,
    remote_node: Arc<EndpointInfo>,
}

impl Reserved {
    fn new() -> Self {
        let named = |identity, label: &str| {
            let labels = vec![label.to_owned()];
            Arc::new(EndpointInfo {
                identity,
                labels,
                ..EndpointInfo::default()
            })
        };
        Self {
            unknown: named(IdentityId::UNKNOWN, "reserved:unknown"),
            host: named(IdentityId::HOST, "reserved:host"),
            world: named(IdentityId::WORLD, "reserved:world"),
            remote_node: named(IdentityId::REMOTE_NODE, "reserved:remote-node"),
        }
    }

    fn of(&self, address: IpAddr, this_node: &str, cluster: &ClusterState) -> Arc<EndpointInfo> {
        let node = cluster
            .node_by_ip(address)
            .map(|node| node.name == this_node);
        let in_pod_network = || {
            cluster
                .nodes()
                .flat_map(|node| &node.pod_cidrs)
                .any(|cidr| cidr.contains(&address))
        };
        let endpoint = match node {
            Some(true) => &self.host,
            Some(false) => &self.remote_node,
            None if address.is_loopback() => &self.host,
            // A pod that the source has not told of yet, or no longer.
            None if address.is_unspecified() || in_pod_network() => &self.unknown,
            None => &self.world,
        };
        Arc::clone(endpoint)
    }
}

/// Unique ids without asking the kernel for randomness each time: one random half per process and
/// a counter, in the form that RFC 9562 leaves to applications (version 8).
struct Uuids {
    process: u64,
    issued: u64,
}

impl Uuids {
    fn random() -> Self {
        Self {
            process: Uuid::new_v4().as_u64_pair().0,
            issued: 0,
        }
    }

    fn next(&mut self) -> Uuid {
        self.issued += 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.process.to_be_bytes());
        bytes[8..].copy_from_slice(&self.issued.to_be_bytes());
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests;
