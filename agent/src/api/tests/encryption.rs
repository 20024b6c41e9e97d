use ebpf_abi::{NodeId, TrafficPath, TrafficValue};

use super::*;
use crate::encryption::snapshot::handle::{Reporter, RotateError};
use crate::encryption::snapshot::sample::{Counted, node, snapshot};
use crate::encryption::snapshot::{NodeStanding, Snapshot};

/// An agent with this snapshot and something in its account.
async fn start_encrypted(first: Snapshot) -> (Running, Reporter) {
    let value = |packets| TrafficValue {
        packets,
        bytes: packets * 100,
    };
    let account = [
        ((NodeId(2), TrafficPath::ENCRYPTED), value(5)),
        ((NodeId(2), TrafficPath::CLEAR_NODE), value(1)),
        ((NodeId(0), TrafficPath::DROPPED), value(2)),
    ];
    let account = Arc::new(Counted(account.into()));
    let (handle, reporter) = EncryptionHandle::new(first, account);
    (start_with(Some(handle)).await, reporter)
}

#[tokio::test]
async fn what_encryption_does_is_told() {
    let mut first = snapshot(1);
    let mut refused = node(3, NodeStanding::Refused);
    refused.reasons = vec!["spec.podCIDRs: overlaps".into()];
    first.nodes.push(refused);
    let (running, _reporter) = start_encrypted(first.clone()).await;
    let mut client = AdminClient::new(running.channel.clone());

    let request = proto::EncryptionStatusRequest {};
    let status = client
        .encryption_status(request)
        .await
        .unwrap()
        .into_inner();
    let device = status.device.clone().unwrap();
    assert!(status.enabled && status.strict);
    assert_eq!(device.backend(), proto::EncryptionBackend::Userspace);
    assert_eq!((device.port, device.mtu), (51_871, 1_420));
    let rotation = status.rotation.clone().unwrap();
    assert_eq!(rotation.old_public_key, status.public_key);
    assert!(rotation.began.unwrap().seconds < rotation.in_use_from.unwrap().seconds);
    let nodes: Vec<_> = status
        .nodes
        .iter()
        .map(|node| (node.name.as_str(), node.standing(), node.reasons.len()))
        .collect();
    let expected = [
        ("node-1", proto::NodeStanding::This, 0),
        ("node-2", proto::NodeStanding::Peer, 0),
        ("node-3", proto::NodeStanding::Refused, 1),
    ];
    assert_eq!(nodes, expected);

    let request = proto::ListPeersRequest {};
    let peers = client.list_peers(request).await.unwrap().into_inner().peers;
    assert_eq!(peers.len(), 1);
    assert_eq!((peers[0].received_bytes, peers[0].sent_bytes), (7, 8));
    assert_eq!(peers[0].handshake(), proto::HandshakeState::Fresh);

    let request = proto::EncryptionReportRequest {};
    let report = client
        .encryption_report(request)
        .await
        .unwrap()
        .into_inner();
    let rows: Vec<_> = report
        .rows
        .iter()
        .map(|row| (&*row.node, &*row.path, row.packets, row.reason.is_empty()))
        .collect();
    let expected = [
        ("", "dropped", 2, false),
        ("node-2", "encrypted", 5, true),
        ("node-2", "clear_node", 1, false),
    ];
    assert_eq!(rows, expected);

    let status = client.status(proto::StatusRequest {}).await.unwrap();
    let summary = status.into_inner().encryption.unwrap();
    assert_eq!((summary.nodes, summary.peers), (2, 1));
    assert!(summary.enabled && summary.rotating && summary.strict);
}

#[tokio::test]
async fn a_new_key_is_asked_of_the_task_and_refused_while_one_is_coming() {
    let first = snapshot(0);
    let rotation = first.rotation.unwrap();
    let (running, mut reporter) = start_encrypted(first).await;
    let mut client = AdminClient::new(running.channel.clone());
    let task = tokio::spawn(async move {
        let request = reporter.requests.recv().await.unwrap();
        request.answer.send(Ok(rotation)).unwrap();
        let request = reporter.requests.recv().await.unwrap();
        let refused = RotateError::InProgress {
            new: rotation.new,
            in_use_from: rotation.in_use_from,
        };
        request.answer.send(Err(refused)).unwrap();
    });
    let answer = client.rotate_key(proto::RotateKeyRequest {}).await.unwrap();
    let answer = answer.into_inner().rotation.unwrap();
    assert_eq!(answer.new_public_key, rotation.new.to_string());
    let refused = client.rotate_key(proto::RotateKeyRequest {}).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains(&answer.new_public_key),
        "{refused}"
    );
    task.await.unwrap();
    // The task has ended.
    let refused = client.rotate_key(proto::RotateKeyRequest {}).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn an_agent_without_encryption_says_what_to_do() {
    let running = start().await;
    let mut client = AdminClient::new(running.channel.clone());
    let request = proto::EncryptionStatusRequest {};
    let status = client.encryption_status(request).await.unwrap();
    assert!(!status.into_inner().enabled);
    for refused in [
        client.list_peers(proto::ListPeersRequest {}).await.err(),
        client
            .encryption_report(proto::EncryptionReportRequest {})
            .await
            .err(),
        client.rotate_key(proto::RotateKeyRequest {}).await.err(),
    ] {
        let refused = refused.unwrap();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(
            refused.message().contains("encryption.enabled"),
            "{refused}"
        );
    }
}
