//! Services into frontends, backends and Maglev tables, kept equal to what the maps hold.
//!
//! The path of a change, in the order of the modules:
//!
//! - [`desired`] (pure): what the tables of `state` ask for on this node.
//! - [`fit`] (pure): what of that the maps have room for.
//! - [`plan`] (pure): the steps from what the maps hold to that, in an order in which no packet
//!   ever sees half a service.
//! - [`apply`]: carries the steps out and keeps account of what the maps hold.
//! - [`reconcile`]: when to do so, and again when it failed.
//!
//! Level-triggered: a first sync, a change and a restart over pinned maps are the same to it.

pub mod apply;
pub mod desired;
pub mod fit;
#[cfg(test)]
mod memory;
pub mod plan;
pub mod reconcile;

use std::net::IpAddr;

use ebpf_abi::{Family, ServiceId};

use crate::state::{L4Protocol, ObjectName};

/// What a client dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrontendAddress {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// Protocol.
    pub protocol: L4Protocol,
}

/// Why an address is a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrontendKind {
    /// `spec.clusterIPs`.
    ClusterIp,
    /// `spec.externalIPs`.
    ExternalIp,
    /// `status.loadBalancer.ingress`.
    LoadBalancer,
    /// A port of the node's own addresses.
    NodePort,
}

/// A frontend as the map holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontendEntry {
    /// The service's table.
    pub service: ServiceId,
    /// Who reaches it, and where.
    pub reach: FrontendReach,
}

/// Who reaches a frontend, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontendReach {
    /// Everybody, at its address.
    Everybody,
    /// Pods and processes of the cluster, at its address.
    Cluster,
    /// Everybody, at its address; pods and processes of this node at other nodes' addresses too.
    NodePort,
}

/// A backend as the map holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendAddress {
    /// Address of the endpoint.
    pub ip: IpAddr,
    /// Port it listens on.
    pub port: u16,
    /// Runs on this node.
    pub local: bool,
}

/// One port of a Service in one address family: what has a Maglev table of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The Service.
    pub name: ObjectName,
    /// Its port.
    pub port: u16,
    /// Protocol of the port.
    pub protocol: L4Protocol,
    /// Family of frontends and backends.
    pub family: Family,
}

/// Family of an address.
pub fn family_of(ip: IpAddr) -> Family {
    match ip {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}
