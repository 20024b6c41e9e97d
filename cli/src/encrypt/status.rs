//! `weir encrypt status`.

use std::io::{self, Write};
use std::time::SystemTime;

use weir_proto::admin::{
    EncryptionNode, EncryptionStatusRequest, EncryptionStatusResponse, HandshakeState, NodeStanding,
};

use super::{ago, backend, handshake, until};
use crate::args::{Form, OutputArgs};
use crate::connect::Server;
use crate::failure::Failure;
use crate::json;
use crate::output::{Columns, Hue, Paint};

pub(super) async fn run(
    server: &Server,
    args: &OutputArgs,
    paint: Paint,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let mut client = server.admin().await?;
    let answer = client
        .encryption_status(EncryptionStatusRequest {})
        .await?
        .into_inner();
    match args.output {
        Form::Json => {
            json::write_line("weir.admin.v1.EncryptionStatusResponse", &answer, true, out)?;
        }
        Form::Text => show(&answer, SystemTime::now(), paint, out)?,
    }
    match complaint(&answer) {
        None => Ok(()),
        Some(complaint) => Err(Failure::Degraded(complaint)),
    }
}

/// What does not work, for the exit code and the first line.
fn complaint(status: &EncryptionStatusResponse) -> Option<String> {
    let count =
        |wrong: fn(&EncryptionNode) -> bool| status.nodes.iter().filter(|node| wrong(node)).count();
    let mut parts = Vec::new();
    if !status.failure.is_empty() {
        parts.push("not in step".to_owned());
    }
    for (number, text) in [
        (count(does_not_answer), "do not answer"),
        (
            count(|node| node.standing() == NodeStanding::NoKey),
            "have no key",
        ),
        (
            count(|node| node.standing() == NodeStanding::Refused),
            "are refused",
        ),
    ] {
        if number > 0 {
            parts.push(format!("{number} nodes {text}"));
        }
    }
    (!parts.is_empty())
        .then(|| format!("not all is encrypted as it should be: {}", parts.join(", ")))
}

fn does_not_answer(node: &EncryptionNode) -> bool {
    matches!(
        node.handshake(),
        HandshakeState::Never | HandshakeState::Stale
    )
}

fn show(
    status: &EncryptionStatusResponse,
    now: SystemTime,
    paint: Paint,
    out: &mut dyn Write,
) -> io::Result<()> {
    if !status.enabled {
        return writeln!(
            out,
            "Encryption: off (encryption.enabled in the agent's configuration)"
        );
    }
    let state = match complaint(status) {
        None => paint.paint(Hue::Green, "in step"),
        Some(complaint) => paint.paint(Hue::Red, &complaint),
    };
    writeln!(out, "Encryption: on, {state}")?;
    if !status.failure.is_empty() {
        let failure = paint.paint(Hue::Red, &status.failure);
        writeln!(out, "Failure:    {failure}")?;
    }
    let device = status.device.clone().unwrap_or_default();
    writeln!(
        out,
        "Device:     {} ({}), UDP port {}, MTU {}, mark {:#x}, route table {}",
        device.name,
        backend(device.backend()),
        device.port,
        device.mtu,
        device.mark,
        device.table
    )?;
    keys(status, now, out)?;
    let strict = if status.strict {
        "yes, what would leave for pods in clear text is dropped".to_owned()
    } else {
        paint.paint(Hue::Yellow, "NO, it may leave in clear text")
    };
    writeln!(out, "Strict:     {strict}")?;
    let own = if status.nodes_traffic {
        "encrypted too"
    } else {
        "in clear text (encryption.node is false)"
    };
    writeln!(out, "Nodes' own: {own}")?;
    nodes(&status.nodes, now, paint, out)
}

fn keys(status: &EncryptionStatusResponse, now: SystemTime, out: &mut dyn Write) -> io::Result<()> {
    let made = ago(status.key_created.as_ref(), now);
    match made {
        Some(made) => writeln!(out, "Key:        {}, made {made}", status.public_key)?,
        None => writeln!(out, "Key:        not read yet")?,
    }
    let Some(rotation) = &status.rotation else {
        return writeln!(out, "Rotation:   none under way");
    };
    let when = until(rotation.in_use_from.as_ref(), now)
        .map_or_else(|| "now".to_owned(), |left| format!("in {left}"));
    writeln!(
        out,
        "Rotation:   {} comes into use {when}",
        rotation.new_public_key
    )
}

fn nodes(
    nodes: &[EncryptionNode],
    now: SystemTime,
    paint: Paint,
    out: &mut dyn Write,
) -> io::Result<()> {
    let others = nodes
        .iter()
        .filter(|node| node.standing() != NodeStanding::This)
        .count();
    let peers = nodes
        .iter()
        .filter(|node| node.standing() == NodeStanding::Peer)
        .count();
    writeln!(out, "Nodes:      {peers} of {others} others are peers")?;
    let mut columns = Columns::plain();
    for node in nodes {
        let standing = match node.standing() {
            NodeStanding::This => "this node",
            NodeStanding::Peer => "peer",
            NodeStanding::NoKey => "no key",
            NodeStanding::Refused => "refused",
            NodeStanding::Unspecified => "?",
        };
        columns.row([
            node.name.clone(),
            standing.to_owned(),
            detail(node, now, paint),
        ]);
    }
    columns.write("  ", out)
}

fn detail(node: &EncryptionNode, now: SystemTime, paint: Paint) -> String {
    let mut parts = Vec::new();
    match node.standing() {
        NodeStanding::Peer => {
            let last = node.last_handshake.as_ref();
            let shaken = handshake(node.handshake(), last, now, paint);
            parts.push(format!("handshake {shaken}"));
        }
        NodeStanding::NoKey => {
            let hint = "its pods are not reached: does its agent run, with encryption?";
            parts.push(paint.paint(Hue::Yellow, hint));
        }
        _ => {}
    }
    if node.changing_key {
        parts.push("changing its key".to_owned());
    }
    let reasons = node.reasons.iter();
    parts.extend(reasons.map(|reason| paint.paint(Hue::Red, reason)));
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::Timestamp;
    use std::time::Duration;
    use weir_proto::admin::{EncryptionBackend, EncryptionDevice, KeyRotation};

    fn time(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanos: 0 }
    }

    fn node(name: &str, standing: NodeStanding) -> EncryptionNode {
        EncryptionNode {
            name: name.into(),
            standing: standing.into(),
            ..EncryptionNode::default()
        }
    }

    fn working() -> EncryptionStatusResponse {
        let peer = EncryptionNode {
            handshake: HandshakeState::Fresh.into(),
            last_handshake: Some(time(990)),
            ..node("node-2", NodeStanding::Peer)
        };
        EncryptionStatusResponse {
            enabled: true,
            device: Some(EncryptionDevice {
                name: "weir_wg0".into(),
                backend: EncryptionBackend::Kernel.into(),
                port: 51_871,
                mark: 0x1357,
                table: 51_871,
                mtu: 1_420,
            }),
            public_key: "OLD=".into(),
            key_created: Some(time(400)),
            strict: true,
            nodes: vec![node("node-1", NodeStanding::This), peer],
            ..EncryptionStatusResponse::default()
        }
    }

    fn shown(status: &EncryptionStatusResponse) -> String {
        let mut out = Vec::new();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        show(status, now, Paint::new(false), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_node_with_one_peer() {
        let status = working();
        assert_eq!(
            shown(&status),
            "\
Encryption: on, in step
Device:     weir_wg0 (kernel), UDP port 51871, MTU 1420, mark 0x1357, route table 51871
Key:        OLD=, made 10m0s ago
Rotation:   none under way
Strict:     yes, what would leave for pods in clear text is dropped
Nodes' own: in clear text (encryption.node is false)
Nodes:      1 of 1 others are peers
  node-1   this node
  node-2   peer        handshake 10s ago
"
        );
        assert_eq!(complaint(&status), None);
    }

    #[test]
    fn what_is_wrong_is_said_first() {
        let mut status = working();
        status.failure = "creating the device: no".into();
        status.nodes[1].handshake = HandshakeState::Stale.into();
        status.nodes.push(node("node-3", NodeStanding::NoKey));
        let mut refused = node("node-4", NodeStanding::Refused);
        refused.reasons = vec!["spec.podCIDRs: overlaps".into()];
        status.nodes.push(refused);
        status.rotation = Some(KeyRotation {
            new_public_key: "NEW=".into(),
            in_use_from: Some(time(1_030)),
            ..KeyRotation::default()
        });
        let text = shown(&status);
        for part in [
            "not in step, 1 nodes do not answer, 1 nodes have no key, 1 nodes are refused\n",
            "Failure:    creating the device: no\n",
            "NEW= comes into use in 30s",
            "DOES NOT ANSWER",
            "node-3   no key",
            "refused     spec.podCIDRs: overlaps",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn encryption_that_is_off_is_no_failure() {
        let off = EncryptionStatusResponse::default();
        assert!(shown(&off).starts_with("Encryption: off"));
        assert_eq!(complaint(&off), None);
    }
}
