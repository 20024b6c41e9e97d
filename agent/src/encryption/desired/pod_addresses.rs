//! Where the pods of nodes are: in the ranges that their Nodes name, or elsewhere.
//!
//! Kubernetes hands out `spec.podCIDRs` whether or not the CNI takes any notice; Calico's IPAM, for one,
//! has pools of its own. Pods outside of the ranges of their Node are *strays*: they are known one by one,
//! as are all pods of a Node without ranges. What says where a pod is, its status, is written by its node.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::encryption::Prefix;
use crate::state::{ClusterState, Node};

/// The pods of one node.
#[derive(Clone, Debug, Default)]
pub struct PodAddresses<'a> {
    /// The ranges that the Node names.
    ranges: &'a [IpNet],
    /// All, where the Node names no ranges.
    pub singles: Vec<IpAddr>,
    /// Those in no range of the Node, where it names some.
    pub strays: Vec<IpAddr>,
    /// Whether some are in a range of the Node: of IPv4, of IPv6.
    at_home: [bool; 2],
}

impl<'a> PodAddresses<'a> {
    fn none_of(node: &'a Node) -> Self {
        Self {
            ranges: &node.pod_cidrs,
            ..Self::default()
        }
    }

    fn add(&mut self, ip: IpAddr) {
        if self.ranges.is_empty() {
            self.singles.push(ip);
        } else if self.ranges.iter().any(|range| range.contains(&ip)) {
            self.at_home[usize::from(ip.is_ipv6())] = true;
        } else {
            self.strays.push(ip);
        }
    }

    fn are_at_home(&self, range: Prefix) -> bool {
        self.at_home[usize::from(!range.is_ipv4())]
    }

    fn are_elsewhere(&self, range: Prefix) -> bool {
        let mut strays = self.strays.iter();
        !self.are_at_home(range) && strays.any(|ip| ip.is_ipv4() == range.is_ipv4())
    }
}

/// The pods of all nodes whose Node is known, by its name.
pub fn by_node(state: &ClusterState) -> HashMap<&str, PodAddresses<'_>> {
    let mut nodes: HashMap<&str, PodAddresses<'_>> = state
        .nodes()
        .map(|node| (node.name.as_str(), PodAddresses::none_of(node)))
        .collect();
    for pod in state.pods() {
        let node = pod.node_name.as_deref();
        if let Some(addresses) = node.and_then(|name| nodes.get_mut(name)) {
            pod.own_ips().iter().for_each(|ip| addresses.add(*ip));
        }
    }
    nodes
}

/// Whose the strays are.
#[derive(Debug, Default)]
pub struct Strays<'a> {
    /// Node of each.
    owners: BTreeMap<IpAddr, &'a str>,
}

/// What became of the strays of one node.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Placed<'a> {
    /// They are the node's.
    pub taken: Vec<Prefix>,
    /// They are in no range that is known to be one of pods: anybody's address could be said to be a pod's.
    pub outside: Vec<Prefix>,
    /// Somebody else has them: the first one, and who.
    pub refused: Option<(IpAddr, &'a str)>,
}

impl<'a> Strays<'a> {
    /// Gives strays to `node`, which is asked before all that count less. Nodes keep their own addresses, and
    /// their ranges as soon as they have a pod there. Of this node it is taken for true that they are pods.
    pub fn place(
        &mut self,
        node: &'a Node,
        is_this: bool,
        strays: &[IpAddr],
        known: &KnownRanges<'a>,
        addresses: &BTreeMap<IpAddr, &'a str>,
    ) -> Placed<'a> {
        let mut placed = Placed::default();
        for address in strays {
            let prefix = Prefix::from(*address);
            let holder = addresses.get(address).copied();
            let same = self.owners.get(address).copied();
            let same = same.filter(|owner| *owner != node.name);
            if let Some(owner) = holder.or(same).or_else(|| known.user_of(prefix)) {
                placed.refused.get_or_insert((*address, owner));
            } else if is_this || known.hold(prefix) {
                self.owners.insert(*address, &node.name);
                placed.taken.push(prefix);
            } else {
                placed.outside.push(prefix);
            }
        }
        placed
    }

    /// The node whose stray has the address.
    pub fn owner(&self, address: IpAddr) -> Option<&'a str> {
        self.owners.get(&address).copied()
    }

    /// Whether a range that its Node names is not where the node's pods are: they are elsewhere, or there
    /// are none, and those of other nodes are in it.
    pub fn disprove(&self, range: Prefix, pods: Option<&PodAddresses<'_>>) -> bool {
        let mut inside = self.owners.range(range.address()..);
        let has_strays = inside.next().is_some_and(|(it, _)| range.contains(*it));
        match pods {
            Some(pods) if pods.are_at_home(range) => false,
            Some(pods) if pods.are_elsewhere(range) => true,
            _ => has_strays,
        }
    }
}

/// Ranges that are known to be ones of pods.
#[derive(Debug, Default)]
pub struct KnownRanges<'a> {
    /// Of Nodes, and of the settings.
    all: HashSet<Prefix>,
    /// Those of Nodes that have pods in them, and the single pods of Nodes without ranges.
    used: HashMap<Prefix, &'a str>,
}

impl<'a> KnownRanges<'a> {
    /// Those that Nodes name, and `configured` ones.
    pub fn new(
        nodes: &[&'a Node],
        pods: &HashMap<&str, PodAddresses<'_>>,
        configured: impl Iterator<Item = Prefix>,
    ) -> Self {
        let mut known = Self {
            all: configured.collect(),
            used: HashMap::new(),
        };
        for node in nodes {
            let pods = pods.get(node.name.as_str());
            for range in node.pod_cidrs.iter().copied().map(Prefix::from) {
                known.all.insert(range);
                if pods.is_some_and(|pods| pods.are_at_home(range)) {
                    known.used.insert(range, &node.name);
                }
            }
            let singles = pods.into_iter().flat_map(|pods| &pods.singles);
            let singles = singles.map(|ip| (Prefix::from(*ip), node.name.as_str()));
            known.used.extend(singles);
        }
        known
    }

    fn hold(&self, prefix: Prefix) -> bool {
        prefix.and_wider().any(|range| self.all.contains(&range))
    }

    fn user_of(&self, prefix: Prefix) -> Option<&'a str> {
        let mut ranges = prefix.and_wider();
        ranges.find_map(|range| self.used.get(&range).copied())
    }
}
