//! What the cluster's objects ask of encryption. Pure.
//!
//! ```text
//! Nodes, Pods ─▶ nodes: who is a peer ─┬─▶ peers   of the device
//!                                      ├─▶ routes  into the device, and rules that lead to them
//!                                      └─▶ ranges  that the programs guard
//! ```
//!
//! Invariants: no prefix belongs to two nodes; a node whose record is wrong takes nothing from
//! another; a range that is known to be a node's stays guarded also while that node is no peer.

pub mod nodes;
mod pod_addresses;
pub mod ranges;
pub mod routes;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU16;

use super::Prefix;
use super::key::{ClusterSecret, PublicKey};
use super::peers::{PeerConfig, Peers};
use super::published::Records;
use crate::config;
use crate::state::{ClusterState, Problem};

use nodes::{Member, Standing};

/// What is looked at besides the objects.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Name of this node.
    pub node_name: &'a str,
    /// Key that the device of this node has now. Without one there are ranges to guard all the same.
    pub own_key: Option<PublicKey>,
    /// Key that it will have soon, while that is being made known.
    pub own_next_key: Option<PublicKey>,
    /// Announced keys of others that they use by now: a handshake was made with them.
    pub in_use: &'a BTreeSet<PublicKey>,
    /// What nodes have published besides their objects.
    pub records: &'a Records,
    /// Secret of the cluster for pre-shared keys.
    pub secret: Option<&'a ClusterSecret>,
    /// Settings.
    pub config: &'a config::Encryption,
}

/// What is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// All nodes, the oldest first.
    pub members: Vec<Member>,
    /// Peers of the device.
    pub peers: Peers,
    /// What is wrong with the objects.
    pub problems: Vec<Problem>,
}

/// Decides.
pub fn desired(state: &ClusterState, inputs: &Inputs<'_>) -> Desired {
    let (members, problems) = nodes::members(state, inputs);
    let peers = members
        .iter()
        .flat_map(|member| peers_of(member, inputs))
        .collect();
    Desired {
        members,
        peers,
        problems,
    }
}

/// The peers that stand for one node: two while it changes its key. The announced key's peer takes
/// over all prefixes once the node uses it.
fn peers_of(member: &Member, inputs: &Inputs<'_>) -> Vec<(PublicKey, PeerConfig)> {
    let Standing::Peer {
        key,
        next_key,
        endpoint,
    } = member.standing
    else {
        return Vec::new();
    };
    let keepalive = inputs.config.wireguard.persistent_keepalive.get();
    let peer = |key, allowed_ips| {
        let config = PeerConfig {
            endpoint: Some(endpoint),
            allowed_ips,
            preshared_key: inputs
                .secret
                .zip(inputs.own_key)
                .map(|(secret, own_key)| secret.preshared_key(own_key, key)),
            keepalive_seconds: u16::try_from(keepalive).ok().and_then(NonZeroU16::new),
        };
        (key, config)
    };
    let addresses = member.addresses.iter().copied().map(Prefix::from);
    let allowed: BTreeSet<_> = member.pods.iter().copied().chain(addresses).collect();
    match next_key {
        None => vec![peer(key, allowed)],
        Some(next) if inputs.in_use.contains(&next) => {
            vec![peer(key, BTreeSet::new()), peer(next, allowed)]
        }
        Some(next) => vec![peer(key, allowed), peer(next, BTreeSet::new())],
    }
}

impl Desired {
    /// This node, if its Node object is known.
    pub fn this_node(&self) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.standing == Standing::This)
    }

    /// All other nodes that are peers.
    pub fn peer_nodes(&self) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(|member| matches!(member.standing, Standing::Peer { .. }))
    }

    /// The node that an address belongs to, as a node's own.
    pub fn node_of(&self, address: IpAddr) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.addresses.contains(&address))
    }
}
