//! HTTP requests, a connection for each, some at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Answer, Failures, Job, Stop, Traffic, tcp_info};
use crate::wait;

/// Longest body that is read.
const MOST_BODY_BYTES: usize = 64 * 1024;

/// A number of HTTP requests to one address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Http {
    /// Where to.
    pub to: SocketAddr,
    /// How many.
    pub requests: u32,
    /// How many at a time.
    pub parallel: u32,
    /// Bound on each step of a request.
    pub timeout: Duration,
}

/// What came of HTTP requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpReport {
    /// Requests made.
    pub requests: u64,
    /// Requests without a good answer.
    pub failed: u64,
    /// Why.
    pub failures: Failures,
    /// Answers by the address that the answering server was reached at.
    pub backends: BTreeMap<SocketAddr, u64>,
    /// Answers by name of the server.
    pub names: BTreeMap<String, u64>,
    /// Addresses that servers saw as the client's.
    pub clients: BTreeSet<IpAddr>,
    /// What `getpeername` told the client.
    pub peers: BTreeSet<SocketAddr>,
    /// Segments the client had to send again.
    pub retransmits: u64,
    /// Wall time of the whole.
    pub elapsed: Duration,
}

impl Http {
    /// 100 requests to `to`, one after the other.
    pub fn new(to: SocketAddr) -> Self {
        Self {
            to,
            requests: 100,
            parallel: 1,
            timeout: wait::patiently(Duration::from_secs(5)),
        }
    }
}

impl Traffic<'_, Http> {
    /// With this many requests.
    #[must_use]
    pub fn requests(mut self, requests: u32) -> Self {
        self.job.requests = requests;
        self
    }

    /// With this many at a time.
    #[must_use]
    pub fn parallel(mut self, parallel: u32) -> Self {
        self.job.parallel = parallel;
        self
    }

    /// With this bound on each step of a request.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.job.timeout = timeout;
        self
    }
}

impl Job for Http {
    type Report = HttpReport;
    const KIND: &'static str = "http";

    fn longest(&self) -> Duration {
        // Connect and read, each with the bound.
        self.timeout * 2 * self.requests.div_ceil(self.parallel.max(1))
    }

    fn perform(&self, stop: &Stop) -> Result<HttpReport> {
        ensure!(
            (1..=256).contains(&self.parallel),
            "between 1 and 256 requests at a time"
        );
        let start = Instant::now();
        let next = AtomicU32::new(0);
        let total = Mutex::new(HttpReport::default());
        thread::scope(|scope| {
            for _ in 0..self.parallel {
                scope.spawn(|| {
                    let mut own = HttpReport::default();
                    while !stop.is_set() && next.fetch_add(1, Ordering::Relaxed) < self.requests {
                        own.count(request(self.to, self.timeout));
                    }
                    total
                        .lock()
                        .expect("no holder of this lock panics")
                        .merge(own);
                });
            }
        });
        let mut report = total.into_inner().expect("no holder of this lock panics");
        report.elapsed = start.elapsed();
        Ok(report)
    }
}

/// What is known after a good request.
pub(crate) struct Exchange {
    pub(crate) answer: Answer,
    pub(crate) peer: SocketAddr,
    pub(crate) retransmits: u32,
}

/// Connects, asks once, reads the answer, closes.
pub(crate) fn request(to: SocketAddr, timeout: Duration) -> Result<Exchange> {
    let mut stream = TcpStream::connect_timeout(&to, timeout).context("connect")?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.set_nodelay(true)?;
    let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\nUser-Agent: weir-traffic\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .context("send the request")?;
    let body = read_answer(&stream).context("read the answer")?;
    Ok(Exchange {
        answer: serde_json::from_slice(&body).context("decode the answer")?,
        peer: stream.peer_addr().context("getpeername")?,
        retransmits: tcp_info::retransmits(&stream).context("read TCP_INFO")?,
    })
}

fn read_answer(stream: &TcpStream) -> Result<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200 ") {
        bail!("the server said {:?}", line.trim_end());
    }
    let mut length = None;
    loop {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "it ends within the head");
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(
                value
                    .trim()
                    .parse::<usize>()
                    .context("parse Content-Length")?,
            );
        }
    }
    let length = length.context("it has no Content-Length")?;
    ensure!(length <= MOST_BODY_BYTES, "its body is {length} bytes long");
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}

impl HttpReport {
    fn count(&mut self, result: Result<Exchange>) {
        self.requests += 1;
        match result {
            Ok(exchange) => {
                *self.backends.entry(exchange.answer.local).or_default() += 1;
                *self.names.entry(exchange.answer.name).or_default() += 1;
                self.clients.insert(exchange.answer.peer.ip());
                self.peers.insert(exchange.peer);
                self.retransmits += u64::from(exchange.retransmits);
            }
            Err(error) => {
                self.failed += 1;
                self.failures.add(&error);
            }
        }
    }

    /// Adds what another report counted.
    pub fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.failures.merge(other.failures);
        for (backend, count) in other.backends {
            *self.backends.entry(backend).or_default() += count;
        }
        for (name, count) in other.names {
            *self.names.entry(name).or_default() += count;
        }
        self.clients.extend(other.clients);
        self.peers.extend(other.peers);
        self.retransmits += other.retransmits;
        self.elapsed += other.elapsed;
    }
}
