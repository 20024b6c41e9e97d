//! Nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name.
    pub name: String,
    /// `status.addresses` of type InternalIP, then ExternalIP.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations that start with `weir.`; all others are dropped.
    pub annotations: BTreeMap<String, String>,
}
