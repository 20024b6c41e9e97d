//! Who has a frontend that several ports of Services claim. The only place of that rule: `lb` asks
//! here whom to send packets to, `flows` whose name to give them.
//!
//! A port at an address of a Service's own (cluster, external, load balancer) goes before a node
//! port, as it is the closer word on what the address is for. Of several claims of one sort the first
//! by namespace, name and place in `spec.ports` wins, whatever came first in time, so that all nodes
//! agree. `lb` reports the others.

use std::net::IpAddr;

use super::index::OrderedIndex;
use super::{L4Protocol, ObjectName, Service};

/// Address, port and protocol that a client of a Service dials.
pub type Frontend = (IpAddr, u16, L4Protocol);

/// A port that each node serves on its own addresses.
type NodePort = (u16, L4Protocol);

/// A port of a Service that wants a frontend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The Service.
    pub service: ObjectName,
    /// Index in its ports.
    pub port: usize,
}

/// All claims.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    by_address: OrderedIndex<Frontend, Claim>,
    by_node_port: OrderedIndex<NodePort, Claim>,
}

impl Claims {
    pub(super) fn insert(&mut self, service: &Service) {
        for (frontend, claim) in frontends(service) {
            self.by_address.insert(frontend, &claim);
        }
        for (node_port, claim) in node_ports(service) {
            self.by_node_port.insert(node_port, &claim);
        }
    }

    pub(super) fn remove(&mut self, service: &Service) {
        for (frontend, claim) in frontends(service) {
            self.by_address.remove(&frontend, &claim);
        }
        for (node_port, claim) in node_ports(service) {
            self.by_node_port.remove(&node_port, &claim);
        }
    }

    /// The claim that wins. Node ports count if the address is a node's.
    pub(super) fn winner(&self, frontend: Frontend, is_node_address: bool) -> Option<&Claim> {
        let at_address = self.by_address.get(&frontend).next();
        if at_address.is_some() || !is_node_address {
            return at_address;
        }
        let (_, port, protocol) = frontend;
        self.by_node_port.get(&(port, protocol)).next()
    }
}

/// What clients dial outside of node ports.
fn frontends(service: &Service) -> impl Iterator<Item = (Frontend, Claim)> {
    let addresses = [
        &service.cluster_ips,
        &service.external_ips,
        &service.load_balancer_ips,
    ];
    addresses.into_iter().flatten().flat_map(move |ip| {
        let ports = service.ports.iter().enumerate();
        ports.map(|(index, port)| ((*ip, port.port, port.protocol), claim(service, index)))
    })
}

fn node_ports(service: &Service) -> impl Iterator<Item = (NodePort, Claim)> {
    let ports = service.ports.iter().enumerate();
    ports
        .filter_map(|(index, port)| Some(((port.node_port?, port.protocol), claim(service, index))))
}

fn claim(service: &Service, port: usize) -> Claim {
    Claim {
        service: service.name.clone(),
        port,
    }
}
