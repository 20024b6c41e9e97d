//! Which nodes there are, what belongs to each, and which of them are peers.
//!
//! Objects may contradict each other, by mistake or on purpose. The older Node counts, then the one
//! whose name comes first; without a time of creation a Node is younger than all with one. That is
//! the same on every node and cannot be won by a newcomer.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use super::Inputs;
use super::pod_addresses::{self, KnownRanges, Placed, PodAddresses, Strays};
use crate::config::EndpointFamily;
use crate::encryption::Prefix;
use crate::encryption::key::PublicKey;
use crate::state::{ClusterState, KEY_ANNOTATION, NEXT_KEY_ANNOTATION, Node, Problem, Severity};

/// Longest value of an annotation that is repeated in a message.
const SHOWN_MAX: usize = 60;

/// A node of the cluster as far as encryption is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name.
    pub name: String,
    /// Whether and how it is reached.
    pub standing: Standing,
    /// Its pods: ranges, or single addresses where its Node names no ranges, or they are outside of these.
    pub pods: Vec<Prefix>,
    /// Pods that it is said to have where nobody has said that pods are.
    pub unplaced_pods: Vec<Prefix>,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Its own traffic stays in clear text by the operator's word.
    pub excepted: bool,
}

impl Member {
    /// Where the node's device listens, if it is a peer.
    pub fn endpoint(&self) -> Option<SocketAddr> {
        match self.standing {
            Standing::Peer { endpoint, .. } => Some(endpoint),
            _ => None,
        }
    }
}

/// Whether and how a node is reached encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the node of this agent.
    This,
    /// Encrypted.
    Peer {
        /// Key of its device.
        key: PublicKey,
        /// Key it will have soon.
        next_key: Option<PublicKey>,
        /// Where its device listens.
        endpoint: SocketAddr,
    },
    /// Not: it has not published a key yet.
    NoKey,
    /// Not: its record is wrong, see the problems.
    Refused,
}

/// All nodes, the oldest first, and what is wrong with their objects.
pub fn members<'a>(state: &'a ClusterState, inputs: &Inputs<'a>) -> (Vec<Member>, Vec<Problem>) {
    let mut nodes: Vec<&Node> = state.nodes().collect();
    nodes.sort_by_key(|node| (age_rank(node), node.name.as_str()));
    let mut claims = Claims::default();
    // This node's addresses are this node's, whatever others say.
    for node in nodes.iter().filter(|node| node.name == inputs.node_name) {
        claims.take_addresses(node);
    }
    for node in &nodes {
        claims.take_addresses(node);
    }
    claims.note_own_families(inputs.node_name);
    claims.keys.extend(
        [inputs.own_key, inputs.own_next_key]
            .into_iter()
            .flatten()
            .map(|key| (key, inputs.node_name)),
    );
    // This node's before all others'.
    nodes.sort_by_key(|node| node.name != inputs.node_name);
    let pods = pod_addresses::by_node(state);
    let placed = claims.place_strays(&nodes, &pods, inputs);
    let members = nodes.iter().zip(placed).map(|(node, strays)| {
        let mut of_node = claims.take_pods(node, pods.get(node.name.as_str()));
        of_node.extend(strays.taken);
        Member {
            name: node.name.clone(),
            pods: of_node,
            unplaced_pods: strays.outside,
            addresses: claims.addresses_of(node),
            standing: claims.standing(node, inputs),
            excepted: is_excepted(node, inputs),
        }
    });
    let members = members.collect();
    (members, claims.problems)
}

/// Lower is older.
fn age_rank(node: &Node) -> (bool, i64) {
    (
        node.created_at_seconds.is_none(),
        node.created_at_seconds.unwrap_or_default(),
    )
}

fn is_excepted(node: &Node, inputs: &Inputs<'_>) -> bool {
    let excepted = &inputs.config.node_except_labels;
    excepted.iter().any(|selector| {
        let label = node.labels.get(&selector.name);
        label.is_some_and(|value| selector.value.as_ref().is_none_or(|wanted| wanted == value))
    })
}

/// What has been given to whom.
#[derive(Default)]
struct Claims<'a> {
    addresses: BTreeMap<IpAddr, &'a str>,
    /// By first address; no two overlap.
    pods: BTreeMap<IpAddr, (Prefix, &'a str)>,
    strays: Strays<'a>,
    keys: HashMap<PublicKey, &'a str>,
    /// The families in which this node has an address, IPv4 first.
    own_families: [bool; 2],
    problems: Vec<Problem>,
}

impl<'a> Claims<'a> {
    /// Gives the pods that are outside of the ranges of their nodes, and says which cannot be given.
    fn place_strays(
        &mut self,
        nodes: &[&'a Node],
        pods: &HashMap<&str, PodAddresses<'_>>,
        inputs: &Inputs<'_>,
    ) -> Vec<Placed<'a>> {
        if pods.values().all(|pods| pods.strays.is_empty()) {
            return nodes.iter().map(|_| Placed::default()).collect();
        }
        let configured = inputs.config.strict_mode.pod_cidrs.iter().copied();
        let known = KnownRanges::new(nodes, pods, configured.map(Prefix::from));
        let mut all = Vec::with_capacity(nodes.len());
        for node in nodes {
            let strays = pods
                .get(node.name.as_str())
                .map_or(&[][..], |it| &it.strays);
            let is_this = node.name == inputs.node_name;
            let placed = self
                .strays
                .place(node, is_this, strays, &known, &self.addresses);
            if let Some((address, owner)) = placed.refused {
                let message = format!(
                    "{address}, where a pod of it is said to be, is Node {owner}'s: nothing for it is sent to {}",
                    node.name
                );
                self.problems.push(problem(node, "spec.podCIDRs", message));
            }
            if let [prefix, ..] = placed.outside[..] {
                let message = format!(
                    "{prefix}, where a pod of it is said to be, is in no range of pods: nothing is sent there \
                     unless encryption.strictMode.podCidrs has it"
                );
                self.problems.push(problem(node, "spec.podCIDRs", message));
            }
            all.push(placed);
        }
        all
    }

    fn take_addresses(&mut self, node: &'a Node) {
        for address in &node.addresses {
            self.addresses.entry(*address).or_insert(&node.name);
        }
    }

    fn note_own_families(&mut self, node_name: &str) {
        for (address, owner) in &self.addresses {
            if *owner == node_name {
                self.own_families[usize::from(address.is_ipv6())] = true;
            }
        }
    }

    /// The node's addresses but those that an older one has.
    fn addresses_of(&mut self, node: &Node) -> Vec<IpAddr> {
        let mut own = Vec::new();
        for address in &node.addresses {
            match self.addresses.get(address) {
                Some(owner) if *owner == node.name => own.push(*address),
                Some(owner) => {
                    let message = format!(
                        "{address} is the address of Node {owner} as well, which is older and keeps it"
                    );
                    self.problems
                        .push(problem(node, "status.addresses", message));
                }
                None => {}
            }
        }
        own
    }

    /// The node's pods but those that an older node has, or that are none.
    fn take_pods(&mut self, node: &'a Node, pods: Option<&PodAddresses<'_>>) -> Vec<Prefix> {
        let ranges = node.pod_cidrs.iter().copied().map(Prefix::from);
        let ranges = ranges.filter(|range| !self.strays.disprove(*range, pods));
        let singles = pods.into_iter().flat_map(|pods| &pods.singles);
        let singles = singles.copied().map(Prefix::from);
        let mut claimed: Vec<_> = ranges.chain(singles).collect();
        // The widest first: what lies in another range of the node would come between that and the claims
        // of others, which are compared with their neighbours alone.
        claimed.sort_by_key(|prefix| prefix.length());
        let mut taken = Vec::with_capacity(claimed.len());
        for prefix in claimed {
            let overlapped = self.overlapping(prefix);
            if overlapped.is_some_and(|(_, owner)| owner == node.name) {
                continue;
            }
            match self.objection(prefix, overlapped, node) {
                None => {
                    self.pods.insert(prefix.address(), (prefix, &node.name));
                    taken.push(prefix);
                }
                Some(message) => self.problems.push(problem(node, "spec.podCIDRs", message)),
            }
        }
        taken
    }

    fn objection(
        &self,
        prefix: Prefix,
        overlapped: Option<(Prefix, &str)>,
        node: &Node,
    ) -> Option<String> {
        if prefix.length() == 0 {
            return Some(format!(
                "{prefix} is everything there is, not the range of a node's pods"
            ));
        }
        let inside = self.addresses.range(prefix.address()..).next();
        if let Some((address, owner)) = inside.filter(|(address, _)| prefix.contains(**address)) {
            return Some(format!(
                "{prefix} holds {address}, the address of Node {owner}: nothing in it is sent to \
                 {}",
                node.name
            ));
        }
        let stray = Some(prefix).filter(|it| it.is_single());
        let stray = stray.and_then(|it| Some((it, self.strays.owner(it.address())?)));
        let (other, owner) = overlapped.or(stray)?;
        Some(format!(
            "{prefix} overlaps {other} of Node {owner}, which is older and keeps it: nothing in \
             {prefix} is sent to {}",
            node.name
        ))
    }

    /// A range that was given to somebody and has an address in common with `prefix`.
    fn overlapping(&self, prefix: Prefix) -> Option<(Prefix, &'a str)> {
        // None of them overlap each other: whatever lies further back ends before this one begins.
        let (_, last) = self.pods.range(..=prefix.last_address()).next_back()?;
        last.0.overlaps(prefix).then_some(*last)
    }

    fn standing(&mut self, node: &'a Node, inputs: &Inputs<'_>) -> Standing {
        if node.name == inputs.node_name {
            return Standing::This;
        }
        let Some(text) = annotation(node, KEY_ANNOTATION, inputs) else {
            return Standing::NoKey;
        };
        let Some(key) = self.take_key(node, KEY_ANNOTATION, text) else {
            return Standing::Refused;
        };
        let next_key = annotation(node, NEXT_KEY_ANNOTATION, inputs)
            .and_then(|text| self.take_key(node, NEXT_KEY_ANNOTATION, text))
            // Nothing comes then: there is one peer, and it keeps the prefixes.
            .filter(|next| *next != key);
        let Some(address) = self.endpoint(node, inputs) else {
            let message = "there is no address to send encrypted packets to".to_owned();
            self.problems
                .push(problem(node, "status.addresses", message));
            return Standing::Refused;
        };
        let port = u16::try_from(inputs.config.wireguard.port.get()).unwrap_or_default();
        Standing::Peer {
            key,
            next_key,
            endpoint: SocketAddr::new(address, port),
        }
    }

    fn take_key(&mut self, node: &'a Node, annotation: &str, text: &str) -> Option<PublicKey> {
        let field = || format!("metadata.annotations[{annotation}]");
        let key: PublicKey = match text.parse() {
            Ok(key) => key,
            Err(error) => {
                let shown: String = text.chars().take(SHOWN_MAX).collect();
                let message = format!(
                    "{shown:?} is no key of WireGuard: {error}; the agent of that node writes it, \
                     and will again if the annotation is removed"
                );
                self.problems.push(problem(node, &field(), message));
                return None;
            }
        };
        let owner = *self.keys.entry(key).or_insert(&node.name);
        if owner != node.name {
            let message = format!("{key} is the key of Node {owner}, which keeps it");
            self.problems.push(problem(node, &field(), message));
            return None;
        }
        Some(key)
    }

    /// The address in the family that both nodes have, the preferred one first.
    fn endpoint(&self, node: &Node, inputs: &Inputs<'_>) -> Option<IpAddr> {
        let owned = |address: &&IpAddr| {
            let owner = self.addresses.get(*address);
            owner.is_some_and(|owner| *owner == node.name)
        };
        let of_family = |ipv6: bool| {
            let mut addresses = node.addresses.iter().filter(owned);
            let address = addresses.find(|address| address.is_ipv6() == ipv6);
            address
                .copied()
                .filter(|_| self.own_families[usize::from(ipv6)])
        };
        let (v4, v6) = (of_family(false), of_family(true));
        match inputs.config.wireguard.endpoint_family {
            EndpointFamily::V4 => v4.or(v6),
            EndpointFamily::V6 => v6.or(v4),
        }
    }
}

/// An annotation of the Node, or else of the record that the node published.
fn annotation<'a>(node: &'a Node, name: &str, inputs: &Inputs<'a>) -> Option<&'a String> {
    let record = || inputs.records.get(&node.name)?.get(name);
    node.annotations.get(name).or_else(record)
}

fn problem(node: &Node, field: &str, message: String) -> Problem {
    Problem {
        severity: Severity::Error,
        origin: String::new(),
        object: format!("Node {}", node.name),
        field: field.to_owned(),
        message,
    }
}
