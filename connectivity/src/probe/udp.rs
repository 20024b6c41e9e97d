//! A question and an answer over UDP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use uuid::Uuid;

use super::tcp::any_port;
use super::{Answer, Attempt};
use crate::serve::datagram::{Question, Reply};

/// Datagrams may be lost: it is sent so many times within the limit.
const SENDS: u32 = 3;

/// Asks a server who it is, from a port of its own.
pub(super) async fn attempt(target: SocketAddr, limit: Duration) -> Attempt {
    let start = Instant::now();
    let mut local = None;
    let answer = ask(target, limit, &mut local).await;
    let answer = answer.unwrap_or_else(|error| Answer::Failed(format!("{error:#}")));
    let millis = start.elapsed().as_secs_f64() * 1e3;
    Attempt {
        local,
        millis,
        answer,
    }
}

async fn ask(
    target: SocketAddr,
    limit: Duration,
    local: &mut Option<SocketAddr>,
) -> Result<Answer> {
    let socket = UdpSocket::bind(any_port(target))
        .await
        .context("no socket")?;
    *local = socket.local_addr().ok();
    socket.connect(target).await?;
    *local = socket.local_addr().ok();
    let question = Question {
        nonce: Uuid::new_v4().to_string(),
    };
    let datagram = question.encode();
    for _ in 0..SENDS {
        // What came back by ICMP for the last one is told here.
        socket.send(&datagram).await?;
        if let Ok(reply) = timeout(limit / SENDS, reply_to(&socket, &question.nonce)).await {
            return reply.map(|reply| Answer::Server(reply.server));
        }
    }
    bail!("no answer within {limit:?} to {SENDS} datagrams")
}

/// Waits for the reply with this number; others are late ones or a stranger's.
async fn reply_to(socket: &UdpSocket, nonce: &str) -> Result<Reply> {
    let mut buffer = [0; 2048];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match serde_json::from_slice::<Reply>(&buffer[..length]) {
            Ok(reply) if reply.nonce == nonce => return Ok(reply),
            _ => {}
        }
    }
}
