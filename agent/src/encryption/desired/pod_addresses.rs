//! Where the pods of nodes are: in the ranges that their Nodes name, or elsewhere.
//!
//! Kubernetes hands out `spec.podCIDRs` whether or not the CNI takes any notice; Calico's IPAM, for one,
//! has pools of its own. A pod with an address outside of the ranges that its Node names for the family
//! says that these are not where the node's pods are: they are known one by one then, as where a Node names
//! no ranges.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::state::{ClusterState, Node};

/// What the pods of one node say about it.
#[derive(Clone, Debug, Default)]
pub struct PodAddresses {
    all: Vec<IpAddr>,
    /// Of each family, IPv4 first: some are in the ranges that the Node names.
    inside: [bool; 2],
    /// Likewise: the Node names ranges, and some are in none of them.
    outside: [bool; 2],
}

impl PodAddresses {
    /// Those of all nodes whose Node is known, by its name.
    pub fn by_node(state: &ClusterState) -> BTreeMap<&str, Self> {
        let mut nodes: BTreeMap<&str, Self> = BTreeMap::new();
        for pod in state.pods() {
            let node = pod.node_name.as_deref().and_then(|name| state.node(name));
            let Some(node) = node.filter(|_| !pod.own_ips().is_empty()) else {
                continue;
            };
            let addresses = nodes.entry(&node.name).or_default();
            for ip in pod.own_ips() {
                addresses.add(node, *ip);
            }
        }
        nodes
    }

    fn add(&mut self, node: &Node, ip: IpAddr) {
        let family = usize::from(ip.is_ipv6());
        let is_inside = ranges(node, ip.is_ipv6()).any(|range| range.contains(&ip));
        self.inside[family] |= is_inside;
        self.outside[family] |= !is_inside && ranges(node, ip.is_ipv6()).next().is_some();
        self.all.push(ip);
    }

    /// True if the ranges that the Node names for a family are not where its pods are.
    pub fn are_elsewhere(&self, ipv6: bool) -> bool {
        self.outside[usize::from(ipv6)]
    }

    /// True if they are: there are pods, and all are in them.
    pub fn confirm(&self, ipv6: bool) -> bool {
        self.inside[usize::from(ipv6)] && !self.are_elsewhere(ipv6)
    }

    /// The pods in families for which the Node names no ranges.
    pub fn without_ranges(&self, node: &Node) -> impl Iterator<Item = IpAddr> {
        let names = [false, true].map(|ipv6| ranges(node, ipv6).next().is_some());
        let all = self.all.iter().copied();
        all.filter(move |ip| !names[usize::from(ip.is_ipv6())])
    }

    /// The pods in families whose ranges they are not in.
    pub fn elsewhere(&self) -> impl Iterator<Item = IpAddr> {
        let all = self.all.iter().copied();
        all.filter(|ip| self.are_elsewhere(ip.is_ipv6()))
    }
}

fn ranges(node: &Node, ipv6: bool) -> impl Iterator<Item = &IpNet> {
    let ranges = node.pod_cidrs.iter();
    ranges.filter(move |range| range.addr().is_ipv6() == ipv6)
}
