//! What encryption tells of itself: taken after each step, read by status, the admin API and metrics.
//! Plain data; whoever reads it asks neither the device nor the maps.

pub mod handle;
pub mod handshake;
#[cfg(test)]
pub mod sample;

use std::net::SocketAddr;
use std::time::SystemTime;

use ebpf_abi::NodeId;

use super::device::Backend;
use super::key::PublicKey;
use super::peers::PeerTraffic;
use super::{FirewallMark, InterfaceName, Port, Prefix, RouteTable};

pub use handshake::Handshake;

/// State of encryption on this node at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken.
    pub taken: SystemTime,
    /// Name of the device.
    pub device: InterfaceName,
    /// Who encrypts; `None` until the device is there.
    pub backend: Option<Backend>,
    /// UDP port of encrypted packets.
    pub port: Port,
    /// Mark of encrypted packets.
    pub mark: FirewallMark,
    /// Routing table that leads into the device.
    pub table: RouteTable,
    /// Largest packet before encryption, in bytes.
    pub mtu: u32,
    /// The key of the device; `None` until it was read.
    pub key: Option<KeyStatus>,
    /// The change of key that is under way.
    pub rotation: Option<Rotation>,
    /// Traffic to pods that would leave in clear text is dropped.
    pub strict: bool,
    /// The nodes' own traffic is encrypted too.
    pub nodes_traffic: bool,
    /// All nodes, the oldest first.
    pub nodes: Vec<NodeStatus>,
    /// Why the last step failed; `None` if it did not.
    pub failure: Option<String>,
    /// Steps that failed since the agent started.
    pub failed_steps: u64,
}

/// The key in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Its public half.
    pub public: PublicKey,
    /// When it was made.
    pub created: SystemTime,
}

/// A change of this node's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The key in use until then.
    pub old: PublicKey,
    /// The key that comes, made known to all.
    pub new: PublicKey,
    /// When it was made.
    pub began: SystemTime,
    /// When it comes into use.
    pub in_use_from: SystemTime,
}

/// A node of the cluster.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its number in the account of traffic; zero before it has one.
    pub id: NodeId,
    /// Whether its traffic is encrypted.
    pub standing: NodeStanding,
    /// What is wrong with its objects; also for a node that is a peer all the same.
    pub reasons: Vec<String>,
    /// Whether it answers.
    pub handshake: Handshake,
    /// Its peers in the device: two while it changes its key.
    pub peers: Vec<PeerStatus>,
}

impl NodeStatus {
    /// End of the last handshake with any of its peers.
    pub fn last_handshake(&self) -> Option<SystemTime> {
        self.peers
            .iter()
            .filter_map(|peer| peer.traffic.last_handshake)
            .max()
    }

    /// Whether it has announced a key that replaces the one in use.
    pub fn is_changing_key(&self) -> bool {
        self.peers.len() > 1
    }
}

/// Whether a node's traffic is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeStanding {
    /// It is the node of this agent.
    This,
    /// It is.
    Peer,
    /// It is not: no key of it is known, and its pods are not reached.
    NoKey,
    /// It is not: its objects contradict themselves or those of others.
    Refused,
}

impl NodeStanding {
    /// All of them with the names that users see.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::This, "this"),
        (Self::Peer, "peer"),
        (Self::NoKey, "no_key"),
        (Self::Refused, "refused"),
    ];

    /// The name that users see.
    pub fn name(self) -> &'static str {
        let mut all = Self::ALL.iter();
        all.find(|(standing, _)| *standing == self)
            .map_or("", |(_, name)| name)
    }
}

/// A peer in the device.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its key.
    pub key: PublicKey,
    /// Where its packets go.
    pub endpoint: Option<SocketAddr>,
    /// What is sent to it and taken from it. Empty for a key that was announced and is not used yet,
    /// and for one that is not used any more.
    pub allowed_ips: Vec<Prefix>,
    /// A pre-shared key is mixed in.
    pub preshared: bool,
    /// What went on with it.
    pub traffic: PeerTraffic,
}

impl Snapshot {
    /// Nodes that are peers.
    pub fn peer_nodes(&self) -> impl Iterator<Item = &NodeStatus> {
        let is_peer = |node: &&NodeStatus| node.standing == NodeStanding::Peer;
        self.nodes.iter().filter(is_peer)
    }

    /// The node with a number in the account of traffic.
    pub fn node_with_id(&self, id: NodeId) -> Option<&NodeStatus> {
        self.nodes
            .iter()
            .find(|node| node.id == id && id != NodeId(0))
    }
}
