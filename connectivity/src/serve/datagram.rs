//! The server's side of UDP, and what datagrams look like.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::net::UdpSocket;

use super::canonical;
use crate::probe::Identity;

/// Length of a question: no answer is longer, so that nobody's traffic is amplified.
const LENGTH: usize = 512;
/// Pause after an error, which is about an earlier answer.
const PAUSE: Duration = Duration::from_millis(1);

/// What a client sends: JSON, filled up with spaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Question {
    /// Tells answers apart.
    pub nonce: String,
}

impl Question {
    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.resize(LENGTH, b' ');
        bytes
    }
}

/// What the server answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// The question's.
    pub nonce: String,
    /// Who answers.
    pub server: Identity,
}

pub(super) async fn serve(socket: UdpSocket, name: String) -> Result<()> {
    let mut buffer = [0; 2048];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(question) = serde_json::from_slice::<Question>(&buffer[..length]) else {
            continue;
        };
        let server = Identity {
            name: name.clone(),
            peer: canonical(peer),
        };
        let reply = Reply {
            nonce: question.nonce,
            server,
        };
        let reply = serde_json::to_vec(&reply)?;
        if reply.len() <= length {
            // Who does not get it asks again.
            let _ = socket.send_to(&reply, peer).await;
        }
    }
}
