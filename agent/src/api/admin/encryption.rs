//! Answers about encryption: snapshots and accounts -> protobuf.

use std::time::SystemTime;

use ebpf_abi::TrafficPath;
use tonic::Status;
use weir_proto::admin as proto;

use crate::encryption::device::Backend;
use crate::encryption::snapshot::handle::{Account, EncryptionHandle};
use crate::encryption::snapshot::{
    Handshake, NodeStanding, NodeStatus, PeerStatus, Rotation, Snapshot,
};

/// The handle, or why there is none.
pub(super) fn on(handle: Option<&EncryptionHandle>) -> Result<EncryptionHandle, Status> {
    handle.cloned().ok_or_else(|| {
        Status::failed_precondition(
            "encryption is off on this node: set encryption.enabled to true and start the agent \
             again",
        )
    })
}

/// The line of `weir status`.
pub(super) fn summary(handle: Option<&EncryptionHandle>) -> proto::EncryptionSummary {
    let Some(handle) = handle else {
        return proto::EncryptionSummary::default();
    };
    let snapshot = handle.snapshot();
    let others = snapshot.nodes.iter();
    let others = others.filter(|node| node.standing != NodeStanding::This);
    let unanswered = |node: &&NodeStatus| node.handshake.is_unanswered();
    proto::EncryptionSummary {
        enabled: true,
        backend: backend(snapshot.backend).into(),
        device: snapshot.device.to_string(),
        nodes: count(others),
        peers: count(snapshot.peer_nodes()),
        unanswered: count(snapshot.nodes.iter().filter(unanswered)),
        strict: snapshot.strict,
        rotating: snapshot.rotation.is_some(),
        failure: snapshot.failure.clone().unwrap_or_default(),
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

/// The whole state.
pub(super) fn status(handle: Option<&EncryptionHandle>) -> proto::EncryptionStatusResponse {
    let Some(handle) = handle else {
        return proto::EncryptionStatusResponse::default();
    };
    let snapshot = handle.snapshot();
    proto::EncryptionStatusResponse {
        enabled: true,
        time: Some(snapshot.taken.into()),
        device: Some(device(&snapshot)),
        public_key: snapshot
            .key
            .map(|key| key.public.to_string())
            .unwrap_or_default(),
        key_created: snapshot.key.map(|key| key.created.into()),
        rotation: snapshot.rotation.map(rotation),
        strict: snapshot.strict,
        nodes_traffic: snapshot.nodes_traffic,
        nodes: snapshot.nodes.iter().map(node).collect(),
        failure: snapshot.failure.clone().unwrap_or_default(),
        failed_steps: snapshot.failed_steps,
    }
}

fn device(snapshot: &Snapshot) -> proto::EncryptionDevice {
    proto::EncryptionDevice {
        name: snapshot.device.to_string(),
        backend: backend(snapshot.backend).into(),
        port: snapshot.port.get().into(),
        mark: snapshot.mark.get(),
        table: snapshot.table.get(),
        mtu: snapshot.mtu,
    }
}

fn backend(backend: Option<Backend>) -> proto::EncryptionBackend {
    match backend {
        None => proto::EncryptionBackend::Unspecified,
        Some(Backend::Kernel) => proto::EncryptionBackend::Kernel,
        Some(Backend::Userspace) => proto::EncryptionBackend::Userspace,
    }
}

/// A change of key.
pub(super) fn rotation(rotation: Rotation) -> proto::KeyRotation {
    proto::KeyRotation {
        old_public_key: rotation.old.to_string(),
        new_public_key: rotation.new.to_string(),
        began: Some(rotation.began.into()),
        in_use_from: Some(rotation.in_use_from.into()),
    }
}

fn node(node: &NodeStatus) -> proto::EncryptionNode {
    let standing = match node.standing {
        NodeStanding::This => proto::NodeStanding::This,
        NodeStanding::Peer => proto::NodeStanding::Peer,
        NodeStanding::NoKey => proto::NodeStanding::NoKey,
        NodeStanding::Refused => proto::NodeStanding::Refused,
    };
    proto::EncryptionNode {
        name: node.name.clone(),
        standing: standing.into(),
        reasons: node.reasons.clone(),
        handshake: handshake(node.handshake).into(),
        last_handshake: node.last_handshake().map(Into::into),
        changing_key: node.is_changing_key(),
    }
}

fn handshake(handshake: Handshake) -> proto::HandshakeState {
    match handshake {
        Handshake::None => proto::HandshakeState::Unspecified,
        Handshake::Fresh => proto::HandshakeState::Fresh,
        Handshake::Idle => proto::HandshakeState::Idle,
        Handshake::Never => proto::HandshakeState::Never,
        Handshake::Stale => proto::HandshakeState::Stale,
    }
}

/// The peers, by node.
pub(super) fn peers(snapshot: &Snapshot) -> proto::ListPeersResponse {
    let mut peers: Vec<_> = snapshot
        .nodes
        .iter()
        .flat_map(|node| node.peers.iter().map(|one| peer(node, one)))
        .collect();
    peers.sort_by(|a, b| (&a.node, &a.public_key).cmp(&(&b.node, &b.public_key)));
    proto::ListPeersResponse { peers }
}

fn peer(node: &NodeStatus, peer: &PeerStatus) -> proto::Peer {
    let endpoint = peer.endpoint.map(|endpoint| endpoint.to_string());
    proto::Peer {
        node: node.name.clone(),
        public_key: peer.key.to_string(),
        endpoint: endpoint.unwrap_or_default(),
        allowed_ips: peer.allowed_ips.iter().map(ToString::to_string).collect(),
        last_handshake: peer.traffic.last_handshake.map(Into::into),
        received_bytes: peer.traffic.received_bytes,
        sent_bytes: peer.traffic.sent_bytes,
        handshake: handshake(node.handshake).into(),
        preshared_key: peer.preshared,
    }
}

/// What went where, by the names of nodes. What the account had no room for is not in it.
pub(super) fn report(snapshot: &Snapshot, account: &Account) -> proto::EncryptionReportResponse {
    let mut rows: Vec<_> = account
        .iter()
        .map(|((id, path), value)| {
            let node = snapshot.node_with_id(*id);
            let (kind, reason) = meaning(*path);
            proto::TrafficRow {
                node: node.map(|node| node.name.clone()).unwrap_or_default(),
                path: path.name().to_owned(),
                kind: kind.into(),
                packets: value.packets,
                bytes: value.bytes,
                reason: reason.to_owned(),
            }
        })
        .collect();
    rows.sort_by(|a, b| (&a.node, a.kind, &a.path).cmp(&(&b.node, b.kind, &b.path)));
    proto::EncryptionReportResponse {
        time: Some(SystemTime::now().into()),
        rows,
        strict: snapshot.strict,
        nodes_traffic: snapshot.nodes_traffic,
        unaccounted_packets: 0,
    }
}

/// What a path means, and why what took it is not encrypted.
fn meaning(path: TrafficPath) -> (proto::TrafficKind, &'static str) {
    use proto::TrafficKind as Kind;
    match path {
        TrafficPath::ENCRYPTED => (Kind::Encrypted, ""),
        TrafficPath::CLEAR_ALLOWED => (
            Kind::ClearPods,
            "encryption.strictMode.allowedCidrs has it, or it is in a tunnel to a node that is \
             excepted",
        ),
        TrafficPath::CLEAR_NOT_STRICT => (
            Kind::ClearPods,
            "the node had no peer or no route into the device, or it is this node and has no such pod \
             any more; encryption.strictMode.enabled is false",
        ),
        TrafficPath::CLEAR_TUNNEL => (
            Kind::ClearPods,
            "a tunnel that may carry pods' packets, and encryption.strictMode.enabled is false",
        ),
        TrafficPath::CLEAR_EXCEPTED => (
            Kind::ClearNode,
            "for the node itself: excepted by encryption.nodeExceptLabels, nodeExceptPorts or \
             strictMode.allowedCidrs, neighbour discovery, a protocol that is not encrypted, or \
             there was no route into the device",
        ),
        TrafficPath::CLEAR_NO_PEER => (
            Kind::ClearNode,
            "for the node itself, which had no peer yet",
        ),
        TrafficPath::CLEAR_NODE => (
            Kind::ClearNode,
            "for the node itself, and encryption.node is false",
        ),
        TrafficPath::DROPPED => (Kind::Dropped, "it would have left in clear text"),
        _ => (Kind::Unspecified, "a newer agent's programs counted it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_a_name_a_kind_and_all_but_encryption_a_reason() {
        for (path, name) in TrafficPath::ALL {
            let (kind, reason) = meaning(path);
            assert_ne!(kind, proto::TrafficKind::Unspecified, "{name}");
            let is_encrypted = kind == proto::TrafficKind::Encrypted;
            assert_eq!(reason.is_empty(), is_encrypted, "{name}");
            assert_eq!(path.name(), name);
        }
    }
}
