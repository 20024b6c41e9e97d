//! Snapshots for tests.

use std::time::{Duration, SystemTime};

use ebpf_abi::NodeId;

use super::handle::{Account, ReadAccount};
use super::{Handshake, KeyStatus, NodeStanding, NodeStatus, PeerStatus, Rotation, Snapshot};
use crate::encryption::device::Backend;
use crate::encryption::key::{PrivateKey, PublicKey};
use crate::encryption::peers::PeerTraffic;
use crate::encryption::{FirewallMark, Port, RouteTable};

/// An account that was read before.
pub struct Counted(pub Account);

impl ReadAccount for Counted {
    fn account(&self) -> anyhow::Result<Account> {
        Ok(self.0.clone())
    }
}

fn public() -> PublicKey {
    PrivateKey::generate().public()
}

/// A node with one peer if it is one.
pub fn node(number: u32, standing: NodeStanding) -> NodeStatus {
    let traffic = PeerTraffic {
        last_handshake: Some(SystemTime::now() - Duration::from_secs(30)),
        received_bytes: 7,
        sent_bytes: 8,
    };
    let peer = PeerStatus {
        key: public(),
        endpoint: None,
        allowed_ips: Vec::new(),
        preshared: false,
        traffic,
    };
    let is_peer = standing == NodeStanding::Peer;
    NodeStatus {
        name: format!("node-{number}"),
        id: NodeId(number),
        standing,
        reasons: Vec::new(),
        handshake: if is_peer {
            Handshake::Fresh
        } else {
            Handshake::None
        },
        peers: is_peer.then_some(peer).into_iter().collect(),
    }
}

/// A node that is changing its key, with this many others.
pub fn snapshot(others: u32) -> Snapshot {
    let now = SystemTime::now();
    let ago = |seconds| now - Duration::from_secs(seconds);
    let (old, new) = (public(), public());
    let others = (2..).take(others as usize);
    let others = others.map(|number| node(number, NodeStanding::Peer));
    Snapshot {
        taken: now,
        device: "weir_wg0".parse().unwrap(),
        backend: Some(Backend::Userspace),
        port: Port::try_from(51_871).unwrap(),
        mark: FirewallMark::try_from(1).unwrap(),
        table: RouteTable::try_from(51_871).unwrap(),
        mtu: 1_420,
        key: Some(KeyStatus {
            public: old,
            created: ago(1_000),
        }),
        rotation: Some(Rotation {
            old,
            new,
            began: ago(100),
            in_use_from: ago(70),
        }),
        strict: true,
        nodes_traffic: false,
        nodes: std::iter::once(node(1, NodeStanding::This))
            .chain(others)
            .collect(),
        failure: None,
        failed_steps: 2,
    }
}
