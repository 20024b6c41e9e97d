//! A request over TCP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Answer, Attempt};

/// Asks a server who it is, on a connection of its own.
pub(super) async fn attempt(target: SocketAddr, limit: Duration) -> Attempt {
    let request = Request::get("/").body(Full::default());
    attempt_with(target, limit, |stream| async move {
        let answer = exchange(stream, request.context("make a request")?).await?;
        let identity = serde_json::from_slice(&answer).context("read the answer")?;
        Ok(Answer::Server(identity))
    })
    .await
}

/// Connects, and does something with the connection; the limit is for each of the two.
pub(super) async fn attempt_with<F: Future<Output = Result<Answer>>>(
    target: SocketAddr,
    limit: Duration,
    talk: impl FnOnce(TcpStream) -> F,
) -> Attempt {
    let start = Instant::now();
    let (local, answer) = match connect(target, limit).await {
        Ok(stream) => {
            let local = stream.local_addr().ok();
            let answer = match timeout(limit, talk(stream)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => Answer::Failed(format!("connected, but then: {error:#}")),
                Err(_) => Answer::Failed(format!("connected, but no answer within {limit:?}")),
            };
            (local, answer)
        }
        Err((local, why)) => (local, Answer::Failed(why)),
    };
    let millis = start.elapsed().as_secs_f64() * 1e3;
    Attempt {
        local,
        millis,
        answer,
    }
}

/// A connection from a port that is known also if it fails.
async fn connect(
    target: SocketAddr,
    limit: Duration,
) -> Result<TcpStream, (Option<SocketAddr>, String)> {
    let socket = bound(target).map_err(|error| (None, format!("no socket: {error}")))?;
    let local = socket.local_addr().ok();
    match timeout(limit, socket.connect(target)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err((local, error.to_string())),
        Err(_) => Err((local, format!("no answer within {limit:?}"))),
    }
}

fn bound(target: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match target {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.bind(any_port(target))?;
    Ok(socket)
}

/// No address and no port in the family of `target`: the kernel picks both.
pub(super) fn any_port(target: SocketAddr) -> SocketAddr {
    match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// One request and its answer.
pub(super) async fn exchange(
    stream: TcpStream,
    mut request: Request<Full<Bytes>>,
) -> Result<Bytes> {
    let peer = stream.peer_addr().context("ask for the peer")?;
    let headers = request.headers_mut();
    headers.insert(
        header::HOST,
        peer.to_string().parse().context("name the host")?,
    );
    headers.insert(header::CONNECTION, "close".parse().context("name the end")?);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .context("start HTTP")?;
    // Ends with this function, which sees its errors as those of the request.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await.context("ask")?;
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .context("read the answer")?;
    let body = body.to_bytes();
    if status != StatusCode::OK {
        bail!("status {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}
