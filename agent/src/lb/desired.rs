//! What the tables of `state` ask for on this node. Pure.

mod asked;
mod endpoints;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

pub use self::asked::Asked;
use self::asked::pod_ranges;
use self::endpoints::Endpoints;
use super::{BackendAddress, FrontendAddress, FrontendKind, ServiceKey, family_of};
use crate::state::{
    ClusterState, EndpointSlice, L4Protocol, ObjectName, Problem, Service, ServicePort, Severity,
};

/// The node the plan is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThisNode {
    /// Its name, as Node objects have it.
    pub name: String,
    /// Addresses of its uplinks; those of its Node object are added.
    pub addresses: BTreeSet<IpAddr>,
    /// ClusterIPs may be dialled from outside.
    pub external_cluster_ip: bool,
    /// kube-proxy serves what is left to it.
    pub beside_kube_proxy: bool,
}

/// All services and what was wrong with some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Services by key.
    pub services: BTreeMap<ServiceKey, DesiredService>,
    /// Problems found on the way.
    pub problems: Vec<Problem>,
    /// What pods and Nodes had to say to it.
    pub asked: Asked,
}

/// Endpoints times ports of one Service that are looked at: eight times what the maps hold.
const BACKENDS_MAX: usize = 1 << 20;

/// Problems of one sort that are listed; the others are counted.
const PROBLEMS_MAX: usize = 100;

/// Problems of one sort, as many as anybody reads.
#[derive(Debug, Default)]
pub(super) struct Problems {
    listed: Vec<Problem>,
    unlisted: usize,
}

impl Problems {
    /// Adds one, unless it is the last one once more.
    pub(super) fn push(&mut self, problem: Problem) {
        if self.listed.last() == Some(&problem) {
            return;
        }
        if self.listed.len() < PROBLEMS_MAX {
            self.listed.push(problem);
        } else {
            self.unlisted += 1;
        }
    }

    /// All that is to be said.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        let severity = self.listed.last().map(|problem| problem.severity);
        if let Some(severity) = severity.filter(|_| self.unlisted > 0) {
            self.listed.push(Problem {
                severity,
                origin: String::new(),
                object: String::new(),
                field: String::new(),
                message: format!(
                    "{} further problems like these are not listed",
                    self.unlisted
                ),
            });
        }
        self.listed
    }
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredService {
    /// What clients dial.
    pub frontends: BTreeMap<FrontendAddress, FrontendKind>,
    /// Where new connections go.
    pub backends: BTreeMap<BackendAddress, BackendState>,
    /// Endpoints that are listed and take no new connections, as they are not ready or terminate. The
    /// connections that they have go on, of TCP: datagrams are sent to another one.
    pub draining: BTreeSet<BackendAddress>,
}

/// What is known of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// Takes new connections.
    Ready,
    /// Is going away; takes new connections only because no other is left.
    Terminating,
}

/// Works out everything. Of several ports that claim one frontend `state` says which has it, and the
/// others are told. One port that has an address for two reasons (an external IP that the load
/// balancer gave as well) is no problem.
pub fn desired(state: &ClusterState, node: &ThisNode) -> Desired {
    let mut result = Desired::default();
    let mut contested = Problems::default();
    let addresses = node_addresses(state, node);
    let ranges = pod_ranges(state);
    let mut asked = Asked::default();
    for service in state.services() {
        if service.asks_more.restricted && !node.beside_kube_proxy {
            contested.push(is_closed(service));
        }
        let slices: Vec<&EndpointSlice> = state.slices_of(&service.name).collect();
        let endpoints: usize = slices.iter().map(|slice| slice.endpoints.len()).sum();
        let served = (BACKENDS_MAX / endpoints.max(1)).max(1);
        if served < service.ports.len() {
            contested.push(too_large(service, served, endpoints));
        }
        for (index, port) in service.ports.iter().enumerate().take(served) {
            for (frontend, kind) in frontends(service, port, &addresses) {
                if node.beside_kube_proxy && asks_more(service, kind) {
                    continue;
                }
                if kind == FrontendKind::ExternalIp && asked.is_pods(state, &ranges, frontend.ip) {
                    contested.push(takes_a_pods_address(service, frontend.ip));
                    continue;
                }
                let claimed = (frontend.ip, frontend.port, frontend.protocol);
                let owner = state.frontend_owner(claimed, addresses.contains(&frontend.ip));
                if let Some(owner) = owner
                    && (&owner.service, owner.port) != (&service.name, index)
                {
                    let by_address = state.frontend_owner(claimed, false).is_some();
                    let what = Contested::of(&frontend, !by_address);
                    contested.push(duplicate(service, index, &what, &owner.service));
                    continue;
                }
                let key = ServiceKey {
                    name: service.name.clone(),
                    port: port.port,
                    protocol: port.protocol,
                    family: family_of(frontend.ip),
                };
                let entry = result.services.entry(key).or_insert_with_key(|key| {
                    let family = key.family;
                    let endpoints = Endpoints::of(state, node, port, &slices, family, &mut asked);
                    endpoints.serving(service)
                });
                entry.frontends.insert(frontend, kind);
            }
        }
    }
    result.problems = contested.finish();
    let mut unused = Problems::default();
    for slice in state.slices_without_service() {
        unused.push(without_service(slice));
    }
    result.problems.extend(unused.finish());
    result.asked = asked;
    result
}

/// Whether a Service asks for what is not done yet, of clients that dial it like this.
fn asks_more(service: &Service, kind: FrontendKind) -> bool {
    match kind {
        FrontendKind::ClusterIp => service.asks_more.inside,
        FrontendKind::ExternalIp | FrontendKind::LoadBalancer | FrontendKind::NodePort => {
            service.asks_more.outside
        }
    }
}

fn node_addresses(state: &ClusterState, node: &ThisNode) -> BTreeSet<IpAddr> {
    let object = state
        .node(&node.name)
        .into_iter()
        .flat_map(|object| &object.addresses);
    node.addresses.iter().chain(object).copied().collect()
}

fn frontends<'a>(
    service: &'a Service,
    port: &'a ServicePort,
    node_addresses: &'a BTreeSet<IpAddr>,
) -> impl Iterator<Item = (FrontendAddress, FrontendKind)> + 'a {
    let at = |ip: IpAddr, port: u16, protocol: L4Protocol| FrontendAddress { ip, port, protocol };
    let service_addresses = [
        (&service.cluster_ips, FrontendKind::ClusterIp),
        (&service.external_ips, FrontendKind::ExternalIp),
        (&service.load_balancer_ips, FrontendKind::LoadBalancer),
    ];
    let own = service_addresses.into_iter().flat_map(move |(ips, kind)| {
        ips.iter()
            .map(move |ip| (at(*ip, port.port, port.protocol), kind))
    });
    let on_node = port.node_port.into_iter().flat_map(move |node_port| {
        node_addresses
            .iter()
            .map(move |ip| (at(*ip, node_port, port.protocol), FrontendKind::NodePort))
    });
    own.chain(on_node)
}

/// Nobody serves addresses of its load balancer.
fn is_closed(service: &Service) -> Problem {
    Problem {
        severity: Severity::Error,
        origin: String::new(),
        object: format!("Service {}", service.name),
        field: "spec.loadBalancerSourceRanges".to_owned(),
        message:
            "the load balancer's addresses are not served, as other clients would not be kept out: \
                  leave the ranges to the load balancer, or keep kube-proxy"
                .to_owned(),
    }
}

/// Often only early, and sometimes misspelled.
fn without_service(slice: &EndpointSlice) -> Problem {
    Problem {
        severity: Severity::Warning,
        origin: String::new(),
        object: format!("EndpointSlice {}", slice.name),
        field: "metadata.labels[kubernetes.io/service-name]".to_owned(),
        message: format!(
            "names Service {}/{}, which is not there: its endpoints get no traffic",
            slice.name.namespace, slice.service
        ),
    }
}

/// What two ports of Services claim.
struct Contested {
    /// Nothing for a port of all addresses of a node.
    ip: Option<IpAddr>,
    port: u16,
    protocol: L4Protocol,
}

impl Contested {
    fn of(frontend: &FrontendAddress, is_node_port: bool) -> Self {
        Self {
            ip: Some(frontend.ip).filter(|_| !is_node_port),
            port: frontend.port,
            protocol: frontend.protocol,
        }
    }
}

impl fmt::Display for Contested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => write!(f, "{ip} port {}/{}", self.port, self.protocol),
            None => write!(f, "node port {}/{}", self.port, self.protocol),
        }
    }
}

fn duplicate(service: &Service, port: usize, contested: &Contested, owner: &ObjectName) -> Problem {
    let message = format!(
        "{contested} belongs to Service {owner} already, which keeps it; give one of them another \
         address or port"
    );
    Problem::of_service(&service.name, format!("spec.ports[{port}]"), message)
}

fn takes_a_pods_address(service: &Service, ip: IpAddr) -> Problem {
    let message = format!("{ip} is an address of pods, which keep what is sent to it; remove it");
    Problem::of_service(&service.name, "spec.externalIPs", message)
}

fn too_large(service: &Service, served: usize, endpoints: usize) -> Problem {
    let message = format!(
        "this port and those after it are not balanced: {} ports with {endpoints} endpoints come to \
         more than {BACKENDS_MAX}",
        service.ports.len()
    );
    Problem::of_service(&service.name, format!("spec.ports[{served}]"), message)
}

#[cfg(test)]
mod tests;
