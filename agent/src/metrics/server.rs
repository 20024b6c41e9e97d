//! HTTP: `/metrics`, `/healthz` and `/readyz`, without TLS, for Prometheus and kubelet.
//!
//! One request per connection, so that nobody holds one of the few connections there may be.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Sources;
use super::scrape::Scrapes;

/// Connections served at a time; others wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16;
/// Time for a request and its answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Pause before the address is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Pause after a connection could not be taken, as when there are too many files.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why nothing is served, for status; empty if it is.
pub type Complaint = Arc<arc_swap::ArcSwap<String>>;

/// Serves until told to stop. An address that cannot be had is told and tried again: the data path
/// does not depend on it.
pub async fn run(
    address: SocketAddr,
    sources: Sources,
    complaint: Complaint,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let failure = match TcpListener::bind(address).await {
            Ok(listener) => {
                complaint.store(Arc::default());
                tracing::info!(%address, "metrics are served");
                serve(listener, Arc::new(Server::new(sources)), &stop).await;
                return Ok(());
            }
            Err(error) => {
                format!("metrics and health are not served at {address} (metrics.listen): {error}")
            }
        };
        if **complaint.load() != failure {
            tracing::error!("{failure}; trying again");
            complaint.store(Arc::new(failure));
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Takes connections, a few at a time.
pub(super) async fn serve(listener: TcpListener, server: Arc<Server>, stop: &CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accept = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (
                place.expect("the semaphore stays open"),
                listener.accept().await,
            )
        };
        let (place, accepted) = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let server = Arc::clone(&server);
                tokio::spawn(async move {
                    // Those who are too slow are cut off.
                    let _ = tokio::time::timeout(DEADLINE, connection(stream, server)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "taking a connection for metrics");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, server: Arc<Server>) {
    let answer = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(server.answer(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection for metrics ended badly");
    }
}

/// Answers requests.
pub(super) struct Server {
    sources: Sources,
    scrapes: Scrapes,
}

impl Server {
    pub(super) fn new(sources: Sources) -> Self {
        Self {
            sources,
            scrapes: Scrapes::default(),
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match request.uri().path() {
            "/metrics" => self.metrics().await,
            // It answers, so the process lives; a task that ended would have ended it.
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /metrics, /healthz and /readyz\n",
            ),
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let sources = self.sources.clone();
        let read = || async { tokio::task::spawn_blocking(move || sources.exposition()).await? };
        match self.scrapes.get(read).await {
            Ok(exposition) => respond(StatusCode::OK, OPEN_METRICS, exposition),
            Err(error) => {
                let reason = format!("{error:#}");
                tracing::warn!(reason, "metrics could not be read");
                text(StatusCode::INTERNAL_SERVER_ERROR, reason + "\n")
            }
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let pending = self.sources.readiness.pending();
        if pending.is_empty() {
            return text(StatusCode::OK, "ready\n");
        }
        let waits = format!("the agent has yet to {}\n", pending.join(", "));
        text(StatusCode::SERVICE_UNAVAILABLE, waits)
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(status, TEXT, body.into())
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
