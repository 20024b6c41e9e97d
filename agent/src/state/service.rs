//! Services.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

use super::ObjectName;

/// Transport protocols that a Service may name and the data plane balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum L4Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for L4Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// Name, empty if the Service has a single unnamed port. EndpointSlices match ports by it.
    pub name: String,
    /// Protocol.
    pub protocol: L4Protocol,
    /// Port that clients of the service addresses dial.
    pub port: u16,
    /// Port on every node's address, for NodePort and LoadBalancer Services.
    pub node_port: Option<u16>,
}

/// A Service, reduced to what balancing needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Name.
    pub name: ObjectName,
    /// ClusterIPs of both families; empty for a headless Service.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip`, for Services of type LoadBalancer.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Ports, in the order of the object.
    pub ports: Vec<ServicePort>,
    /// `spec.publishNotReadyAddresses`: endpoints count as ready whatever they say.
    pub publish_not_ready: bool,
    /// Where it asks for more than balancing does yet.
    #[serde(default)]
    pub asks_more: AsksMore,
}

/// At which addresses a Service asks for something that balancing does not do yet, such as to keep a client
/// with its backend. Beside kube-proxy those are left to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsksMore {
    /// At its ClusterIPs.
    pub inside: bool,
    /// At external and load balancer addresses and node ports.
    pub outside: bool,
    /// Addresses of its load balancer are not for all clients, and were left out.
    #[serde(default)]
    pub restricted: bool,
}
