//! The server's side of TCP.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | who it is, and whom it sees |
//! | `POST /` | the same, with count and checksum of what was sent |
//! | `GET /bytes/N` | N bytes, always the same ones |

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::canonical;
use super::pattern::{self, Digest, Received};
use crate::probe::Identity;

/// Most that is sent at once.
const LARGEST: usize = 64 << 20;
/// Longest that a connection may take.
const PATIENCE: Duration = Duration::from_mins(5);
/// Pause after a connection could not be taken, as when there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn serve(listener: TcpListener, name: String) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(timeout(PATIENCE, talk(stream, canonical(peer), name.clone())));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            // What a client did wrong is the client's to tell.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn talk(stream: TcpStream, peer: SocketAddr, name: String) -> hyper::Result<()> {
    let server = Identity { name, peer };
    let respond = |request: Request<Incoming>| {
        let server = server.clone();
        async move { Ok::<_, Infallible>(answer(request, server).await) }
    };
    let connection =
        http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(respond));
    connection.await
}

async fn answer(request: Request<Incoming>, server: Identity) -> Response<Full<Bytes>> {
    let result = match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => json(&server),
        (&Method::POST, "/") => receive(request.into_body(), server).await,
        (&Method::GET, path) if path.starts_with("/bytes/") => send(path),
        _ => return refusal(StatusCode::NOT_FOUND, "no such thing"),
    };
    match result {
        Ok(body) => Response::new(Full::new(body)),
        Err(error) => refusal(StatusCode::BAD_REQUEST, &format!("{error:#}")),
    }
}

fn refusal(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(why.to_owned()));
    *response.status_mut() = status;
    response
}

fn json(value: &impl serde::Serialize) -> Result<Bytes> {
    Ok(serde_json::to_vec(value).context("write JSON")?.into())
}

async fn receive(mut body: Incoming, server: Identity) -> Result<Bytes> {
    let (mut bytes, mut digest) = (0, Digest::default());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.context("read the body")?.into_data() {
            bytes += data.len();
            digest.add(&data);
        }
    }
    let sha256 = digest.finish();
    json(&Received {
        server,
        bytes,
        sha256,
    })
}

fn send(path: &str) -> Result<Bytes> {
    let count = path.trim_start_matches("/bytes/").parse::<usize>();
    let count = count.ok().filter(|count| *count <= LARGEST);
    let count = count.with_context(|| format!("ask for 0 to {LARGEST} bytes"))?;
    Ok(pattern::bytes(count).into())
}
