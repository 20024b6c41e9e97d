//! What was asked of pods and Nodes.
//!
//! They change all the time in a large cluster, and what a node balances hardly ever changes with
//! them: it does if one of these answers does.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::ThisNode;
use crate::state::ClusterState;

/// The answers of pods and Nodes, by the address that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Whether an endpoint is on this node, where the slice does not say.
    here: BTreeMap<IpAddr, bool>,
    /// Whether an external IP is pods'.
    pods: BTreeMap<IpAddr, bool>,
}

impl Asked {
    /// Whether this is the address of a pod that runs on this node, or of the node itself.
    pub(super) fn is_here(&mut self, state: &ClusterState, node: &ThisNode, ip: IpAddr) -> bool {
        let ask = || is_here(state, node, ip);
        *self.here.entry(ip).or_insert_with(ask)
    }

    /// Whether an address is pods': see [`pod_ranges`] for the ranges.
    pub(super) fn is_pods(&mut self, state: &ClusterState, ranges: &[IpNet], ip: IpAddr) -> bool {
        let ask = || is_pods(state, ranges, ip);
        *self.pods.entry(ip).or_insert_with(ask)
    }

    /// Whether all answers would be the same again.
    pub fn holds(&self, state: &ClusterState, node: &ThisNode) -> bool {
        let (mut here, mut pods) = (self.here.iter(), self.pods.iter());
        if !here.all(|(ip, answer)| is_here(state, node, *ip) == *answer) {
            return false;
        }
        // Most clusters have no external IPs, and thousands of Nodes take a while.
        if self.pods.is_empty() {
            return true;
        }
        let ranges = pod_ranges(state);
        pods.all(|(ip, answer)| is_pods(state, &ranges, *ip) == *answer)
    }
}

/// As few ranges as cover the pods of all nodes.
pub(super) fn pod_ranges(state: &ClusterState) -> Vec<IpNet> {
    let ranges: Vec<IpNet> = state
        .nodes()
        .flat_map(|node| node.pod_cidrs.iter().copied())
        .collect();
    IpNet::aggregate(&ranges)
}

fn is_here(state: &ClusterState, node: &ThisNode, ip: IpAddr) -> bool {
    let name = state.pod_by_ip(ip).and_then(|pod| pod.node_name.as_deref());
    let of_the_node = || {
        let object = state.node(&node.name);
        node.addresses.contains(&ip) || object.is_some_and(|it| it.addresses.contains(&ip))
    };
    // Slices that people write, such as for the API server, name nodes by address alone.
    name.is_some_and(|name| name == node.name) || of_the_node()
}

/// Whoever writes a Service may name any address in `externalIPs`; that of a pod would take the traffic
/// that others send to that pod.
fn is_pods(state: &ClusterState, ranges: &[IpNet], ip: IpAddr) -> bool {
    let of_a_pod = || state.pod_by_ip(ip).is_some_and(|pod| !pod.host_network);
    ranges.iter().any(|range| range.contains(&ip)) || of_a_pod()
}
