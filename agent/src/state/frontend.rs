//! Who has a frontend that several ports of Services claim. The only place of that rule: `lb` asks
//! here whom to send packets to, `flows` whose name to give them.
//!
//! Who assigned an address counts first ([`Assigned`]): what the API server gave goes before what a
//! controller gave, and that before what anybody may write. A port at an address of a Service's own
//! goes before a node port, as it is the closer word on what the address is for. Of several claims of
//! one sort the first by namespace, name and place in `spec.ports` wins, whatever came first in time,
//! so that all nodes agree. `lb` reports the others.

use std::net::IpAddr;

use super::index::OrderedIndex;
use super::{L4Protocol, ObjectName, Service};

/// Address, port and protocol that a client of a Service dials.
pub type Frontend = (IpAddr, u16, L4Protocol);

/// A port that each node serves on its own addresses.
type NodePort = (u16, L4Protocol);

/// Who gave a Service what it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assigned {
    /// The API server: ClusterIPs and node ports.
    ByApiServer,
    /// A controller: addresses of load balancers.
    ByController,
    /// Whoever wrote the Service: external IPs.
    ByAuthor,
}

/// A port of a Service that wants a frontend. The first of several has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// Who says so.
    pub assigned: Assigned,
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
        (&service.cluster_ips, Assigned::ByApiServer),
        (&service.load_balancer_ips, Assigned::ByController),
        (&service.external_ips, Assigned::ByAuthor),
    ];
    let addresses = addresses
        .into_iter()
        .flat_map(|(ips, assigned)| ips.iter().map(move |ip| (*ip, assigned)));
    addresses.flat_map(move |(ip, assigned)| {
        let ports = service.ports.iter().enumerate();
        ports.map(move |(index, port)| {
            let frontend = (ip, port.port, port.protocol);
            (frontend, claim(service, index, assigned))
        })
    })
}

fn node_ports(service: &Service) -> impl Iterator<Item = (NodePort, Claim)> {
    let ports = service.ports.iter().enumerate();
    ports.filter_map(|(index, port)| {
        let claim = claim(service, index, Assigned::ByApiServer);
        Some(((port.node_port?, port.protocol), claim))
    })
}

fn claim(service: &Service, port: usize, assigned: Assigned) -> Claim {
    Claim {
        assigned,
        service: service.name.clone(),
        port,
    }
}
