//! Some megabytes each way, with checksums.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use tokio::net::TcpStream;

use super::tcp::{attempt_with, exchange};
use super::{Answer, Attempt};
use crate::serve::pattern::{Received, bytes, digest};

/// Sends bytes, then asks for as many on a second connection.
pub(super) async fn attempt(target: SocketAddr, count: usize, limit: Duration) -> Attempt {
    // Made before the clock runs.
    let body = Bytes::from(bytes(count));
    let checksum = digest(&body);
    let sent = attempt_with(target, limit, |stream| send(stream, &body, &checksum)).await;
    if matches!(sent.answer, Answer::Failed(_)) {
        return sent;
    }
    let get = |stream| get(stream, &body, sent.answer.clone());
    let got = attempt_with(target, limit, get).await;
    match got.answer {
        Answer::Failed(_) => got,
        _ => Attempt {
            millis: sent.millis + got.millis,
            ..sent
        },
    }
}

async fn send(stream: TcpStream, body: &Bytes, checksum: &str) -> Result<Answer> {
    let count = body.len();
    let request = Request::post("/").body(Full::new(body.clone()));
    let answer = exchange(stream, request.context("make a request")?).await;
    let answer = answer.with_context(|| format!("sending {count} bytes"))?;
    let received: Received = serde_json::from_slice(&answer).context("read the answer")?;
    ensure!(
        received.bytes == count && received.sha256 == checksum,
        "of {count} bytes sent, {} arrived, with another checksum",
        received.bytes
    );
    Ok(Answer::Server(received.server))
}

/// The answer of the first half is passed on if the second works, too.
async fn get(stream: TcpStream, expected: &Bytes, first: Answer) -> Result<Answer> {
    let count = expected.len();
    let request = Request::get(format!("/bytes/{count}")).body(Full::default());
    let answer = exchange(stream, request.context("make a request")?).await;
    let answer = answer.with_context(|| format!("getting {count} bytes"))?;
    ensure!(
        answer == *expected,
        "of {count} bytes asked for, {} came, and not all as they were",
        answer.len()
    );
    Ok(first)
}
