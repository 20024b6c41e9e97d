//! All tables together: lookups by name and by what packets carry.
//!
//! Objects arrive in any order. A slice whose Service is not there yet is kept and found as soon as
//! it is; nothing is refused here, as `source` has checked each object by itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::frontend::{Claim, Claims, Frontend};
use super::index::OrderedIndex;
use super::interner::Interner;
use super::pods::Pods;
use super::{
    Change, EndpointSlice, Kind, L4Protocol, Namespace, Node, Object, ObjectKey, ObjectName, Pod,
    Problem, Service,
};

/// How often tables changed, for those that need not look at what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revisions {
    /// Services.
    pub services: u64,
    /// `EndpointSlice`s.
    pub slices: u64,
    /// Pods.
    pub pods: u64,
    /// Nodes.
    pub nodes: u64,
}

/// The tables. Lookups are pure; secondary indexes are private and follow every change.
#[derive(Clone, Debug, Default)]
pub struct ClusterState {
    services: BTreeMap<ObjectName, Service>,
    slices: BTreeMap<ObjectName, EndpointSlice>,
    pods: Pods,
    nodes: BTreeMap<String, Node>,
    namespaces: BTreeMap<String, Namespace>,
    /// By reporter.
    problems: BTreeMap<String, Vec<Problem>>,

    claims: Claims,
    /// By the name of the Service that the slices name, whether or not it exists.
    slices_by_service: OrderedIndex<ObjectName, ObjectName>,
    nodes_by_ip: OrderedIndex<IpAddr, String>,
    interner: Interner,
    revisions: Revisions,
}

impl ClusterState {
    /// Applies the changes in their order. True if any made a difference.
    pub fn apply(&mut self, changes: Vec<Change>) -> bool {
        changes
            .into_iter()
            .fold(false, |changed, change| self.apply_one(change) | changed)
    }

    fn apply_one(&mut self, change: Change) -> bool {
        let kind = match &change {
            Change::Upsert(object) => object.kind(),
            Change::Delete(key) => key.kind,
        };
        let changed = self.change(change);
        let revision = match kind {
            Kind::Service => Some(&mut self.revisions.services),
            Kind::EndpointSlice => Some(&mut self.revisions.slices),
            Kind::Pod => Some(&mut self.revisions.pods),
            Kind::Node => Some(&mut self.revisions.nodes),
            Kind::Namespace => None,
        };
        if let Some(revision) = revision.filter(|_| changed) {
            *revision += 1;
        }
        changed
    }

    fn change(&mut self, change: Change) -> bool {
        match change {
            Change::Upsert(Object::Service(service)) => self.put_service(service),
            Change::Upsert(Object::EndpointSlice(slice)) => self.put_slice(slice),
            Change::Upsert(Object::Pod(pod)) => self.put_pod(pod),
            Change::Upsert(Object::Node(node)) => self.put_node(node),
            Change::Upsert(Object::Namespace(namespace)) => {
                let before = self
                    .namespaces
                    .insert(namespace.name.clone(), namespace.clone());
                before != Some(namespace)
            }
            Change::Delete(ObjectKey { kind, name }) => match kind {
                Kind::Service => self.take_service(&name).is_some(),
                Kind::EndpointSlice => self.take_slice(&name).is_some(),
                Kind::Pod => self.pods.delete(&name),
                Kind::Node => self.take_node(&name.name).is_some(),
                Kind::Namespace => self.namespaces.remove(&*name.name).is_some(),
            },
        }
    }

    fn put_service(&mut self, service: Service) -> bool {
        if self.services.get(&service.name) == Some(&service) {
            return false;
        }
        self.take_service(&service.name);
        self.claims.insert(&service);
        self.services.insert(service.name.clone(), service);
        true
    }

    fn take_service(&mut self, name: &ObjectName) -> Option<Service> {
        let service = self.services.remove(name)?;
        self.claims.remove(&service);
        Some(service)
    }

    fn put_slice(&mut self, slice: EndpointSlice) -> bool {
        if self.slices.get(&slice.name) == Some(&slice) {
            return false;
        }
        self.take_slice(&slice.name);
        let slice = self.interner.slice(slice);
        self.slices_by_service
            .insert(service_of(&slice), &slice.name);
        self.slices.insert(slice.name.clone(), slice);
        true
    }

    fn take_slice(&mut self, name: &ObjectName) -> Option<EndpointSlice> {
        let slice = self.slices.remove(name)?;
        self.slices_by_service.remove(&service_of(&slice), name);
        Some(slice)
    }

    fn put_pod(&mut self, pod: Pod) -> bool {
        if self.pods.get(&pod.name) == Some(&pod) {
            return false;
        }
        let pod = self.interner.pod(pod);
        self.pods.put(pod);
        true
    }

    fn put_node(&mut self, node: Node) -> bool {
        if self.nodes.get(&node.name) == Some(&node) {
            return false;
        }
        self.take_node(&node.name);
        for ip in &node.addresses {
            self.nodes_by_ip.insert(*ip, &node.name);
        }
        self.nodes.insert(node.name.clone(), node);
        true
    }

    fn take_node(&mut self, name: &str) -> Option<Node> {
        let node = self.nodes.remove(name)?;
        for ip in &node.addresses {
            self.nodes_by_ip.remove(ip, &node.name);
        }
        Some(node)
    }

    /// How often tables changed.
    pub fn revisions(&self) -> Revisions {
        self.revisions
    }

    /// Replaces all that `reporter` (such as `manifests` or `lb`) has to say. True if it differs
    /// from what it said before.
    pub fn set_problems(&mut self, reporter: &str, problems: Vec<Problem>) -> bool {
        let before = if problems.is_empty() {
            self.problems.remove(reporter)
        } else {
            self.problems.insert(reporter.to_owned(), problems)
        };
        before.as_deref().unwrap_or_default()
            != self
                .problems
                .get(reporter)
                .map(Vec::as_slice)
                .unwrap_or_default()
    }

    /// What is wrong with the input, reporter by reporter, in the order they gave.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values().flatten()
    }

    /// All Services, in the order of their names.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// One Service.
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name)
    }

    /// The slices that name this Service, in the order of their own names; the Service itself may
    /// not be there.
    pub fn slices_of(&self, service: &ObjectName) -> impl Iterator<Item = &EndpointSlice> {
        self.slices_by_service
            .get(service)
            .map(|slice| &self.slices[slice])
    }

    /// All `EndpointSlice`s, in the order of their names.
    pub fn endpoint_slices(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.slices.values()
    }

    /// One `EndpointSlice`.
    pub fn endpoint_slice(&self, name: &ObjectName) -> Option<&EndpointSlice> {
        self.slices.get(name)
    }

    /// Names of all objects of a kind, in their order.
    pub fn names(&self, kind: Kind) -> Vec<ObjectName> {
        let of_cluster = |name: &String| ObjectName::new("", name.as_str());
        match kind {
            Kind::Service => self.services.keys().cloned().collect(),
            Kind::EndpointSlice => self.slices.keys().cloned().collect(),
            Kind::Pod => self.pods.iter().map(|pod| pod.name.clone()).collect(),
            Kind::Node => self.nodes.keys().map(of_cluster).collect(),
            Kind::Namespace => self.namespaces.keys().map(of_cluster).collect(),
        }
    }

    /// Whether there is such an object.
    pub fn holds(&self, key: &ObjectKey) -> bool {
        let ObjectKey { kind, name } = key;
        match kind {
            Kind::Service => self.services.contains_key(name),
            Kind::EndpointSlice => self.slices.contains_key(name),
            Kind::Pod => self.pods.get(name).is_some(),
            Kind::Node => self.nodes.contains_key(&*name.name),
            Kind::Namespace => self.namespaces.contains_key(&*name.name),
        }
    }

    /// Slices that name a Service which is not there, in the order of their names.
    pub fn slices_without_service(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.slices.values().filter(|slice| {
            !slice.service.is_empty() && !self.services.contains_key(&service_of(slice))
        })
    }

    /// All Pods, in the order of their names.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter()
    }

    /// One Pod.
    pub fn pod(&self, name: &ObjectName) -> Option<&Pod> {
        self.pods.get(name)
    }

    /// All Nodes, in the order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// One Node.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// All Namespaces, in the order of their names.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.values()
    }

    /// One Namespace.
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    /// The pod that has this address now: never one that shares its node's addresses, nor one that
    /// has finished. Of several, the one that was given the address last.
    pub fn pod_by_ip(&self, ip: IpAddr) -> Option<&Pod> {
        self.pods.by_ip(ip)
    }

    /// The node with this address; of several, the first by name.
    pub fn node_by_ip(&self, ip: IpAddr) -> Option<&Node> {
        self.nodes.get(self.nodes_by_ip.get(&ip).next()?)
    }

    /// The Service that is dialled here; see [`super::frontend`] for which one it is of several.
    pub fn service_by_frontend(
        &self,
        ip: IpAddr,
        port: u16,
        protocol: L4Protocol,
    ) -> Option<&Service> {
        let is_node_address = self.nodes_by_ip.get(&ip).next().is_some();
        let owner = self.frontend_owner((ip, port, protocol), is_node_address)?;
        self.services.get(&owner.service)
    }

    /// The port of a Service that has a frontend. Node ports count if the address is a node's, which
    /// the caller says: a node knows more addresses of its own than its Node object names.
    pub fn frontend_owner(&self, frontend: Frontend, is_node_address: bool) -> Option<&Claim> {
        self.claims.winner(frontend, is_node_address)
    }
}

fn service_of(slice: &EndpointSlice) -> ObjectName {
    ObjectName {
        namespace: slice.name.namespace.clone(),
        name: slice.service.clone(),
    }
}

#[cfg(test)]
mod tests;
