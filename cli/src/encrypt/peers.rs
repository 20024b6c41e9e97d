//! `weir encrypt peers`.

use std::io::Write;
use std::time::SystemTime;

use weir_proto::admin::{ListPeersRequest, ListPeersResponse};

use super::{handshake, size};
use crate::args::{Form, OutputArgs};
use crate::connect::Server;
use crate::failure::Failure;
use crate::json;
use crate::output::{Columns, Paint};

pub(super) async fn run(
    server: &Server,
    args: &OutputArgs,
    paint: Paint,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let mut client = server.admin().await?;
    let answer = client.list_peers(ListPeersRequest {}).await?.into_inner();
    match args.output {
        Form::Json => json::write_line("weir.admin.v1.ListPeersResponse", &answer, true, out)?,
        Form::Text => table(&answer, SystemTime::now(), paint).write("", out)?,
    }
    Ok(())
}

/// One row per peer. The handshake comes last, as its colours would shift what follows.
fn table(answer: &ListPeersResponse, now: SystemTime, paint: Paint) -> Columns {
    let headings = [
        "NODE",
        "PUBLIC KEY",
        "ENDPOINT",
        "RECEIVED",
        "SENT",
        "ALLOWED IPS",
        "HANDSHAKE",
    ];
    let mut columns = Columns::new(&headings);
    for peer in &answer.peers {
        let allowed = match peer.allowed_ips.as_slice() {
            [] => "-".to_owned(),
            allowed => allowed.join(","),
        };
        let endpoint = match peer.endpoint.as_str() {
            "" => "-",
            endpoint => endpoint,
        };
        columns.row([
            peer.node.clone(),
            peer.public_key.clone(),
            endpoint.to_owned(),
            size(peer.received_bytes),
            size(peer.sent_bytes),
            allowed,
            handshake(peer.handshake(), peer.last_handshake.as_ref(), now, paint),
        ]);
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::Timestamp;
    use std::time::Duration;
    use weir_proto::admin::{HandshakeState, Peer};

    #[test]
    fn a_row_per_peer() {
        let used = Peer {
            node: "node-2".into(),
            public_key: "AAA=".into(),
            endpoint: "192.0.2.2:51871".into(),
            allowed_ips: vec!["10.1.2.0/24".into(), "192.0.2.2/32".into()],
            last_handshake: Some(Timestamp {
                seconds: 940,
                nanos: 0,
            }),
            received_bytes: 2_048,
            sent_bytes: 12,
            handshake: HandshakeState::Fresh.into(),
            ..Peer::default()
        };
        let announced = Peer {
            node: "node-2".into(),
            public_key: "BBB=".into(),
            ..Peer::default()
        };
        let peers = vec![used, announced];
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let mut out = Vec::new();
        table(&ListPeersResponse { peers }, now, Paint::new(false))
            .write("", &mut out)
            .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\
NODE     PUBLIC KEY   ENDPOINT          RECEIVED   SENT   ALLOWED IPS                HANDSHAKE
node-2   AAA=         192.0.2.2:51871   2.0 KiB    12 B   10.1.2.0/24,192.0.2.2/32   1m0s ago
node-2   BBB=         -                 0 B        0 B    -                          none yet
"
        );
    }
}
