//! UDP requests, a socket for each, connected or not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Answer, Failures, Job, Stop, Traffic};
use crate::wait;

/// A number of UDP requests to one address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Udp {
    /// Where to.
    pub to: SocketAddr,
    /// How many.
    pub requests: u32,
    /// `connect` the socket first, instead of `sendto` and `recvfrom`.
    pub connected: bool,
    /// How long to wait for an answer. A datagram is sent once.
    pub timeout: Duration,
}

/// What came of UDP requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpReport {
    /// Requests made.
    pub requests: u64,
    /// Requests without a good answer.
    pub failed: u64,
    /// Why.
    pub failures: Failures,
    /// Answers by address of the server, as it knows itself.
    pub backends: BTreeMap<SocketAddr, u64>,
    /// Addresses that servers saw as the client's.
    pub clients: BTreeSet<IpAddr>,
    /// Where answers came from, as `recvfrom` or `getpeername` told the client.
    pub peers: BTreeSet<SocketAddr>,
}

impl Udp {
    /// 100 requests to `to` from sockets that are not connected.
    pub fn new(to: SocketAddr) -> Self {
        Self {
            to,
            requests: 100,
            connected: false,
            timeout: wait::patiently(Duration::from_secs(2)),
        }
    }

    fn request(&self, token: u32) -> Result<(Answer, SocketAddr)> {
        let any: IpAddr = if self.to.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).context("bind")?;
        socket.set_read_timeout(Some(self.timeout))?;
        let payload = token.to_be_bytes();
        let mut buffer = [0; 2048];
        let (count, peer) = if self.connected {
            socket.connect(self.to).context("connect")?;
            socket.send(&payload).context("send")?;
            (
                socket.recv(&mut buffer).context("receive")?,
                socket.peer_addr()?,
            )
        } else {
            socket.send_to(&payload, self.to).context("send")?;
            socket.recv_from(&mut buffer).context("receive")?
        };
        let mut parts = buffer[..count].splitn(2, |byte| *byte == b'\n');
        let answer = serde_json::from_slice(parts.next().unwrap_or_default());
        ensure!(
            parts.next() == Some(&payload),
            "the payload came back changed"
        );
        Ok((answer.context("decode the answer")?, peer))
    }
}

impl Traffic<'_, Udp> {
    /// With this many requests.
    #[must_use]
    pub fn requests(mut self, requests: u32) -> Self {
        self.job.requests = requests;
        self
    }

    /// From connected sockets.
    #[must_use]
    pub fn connected(mut self) -> Self {
        self.job.connected = true;
        self
    }
}

impl Job for Udp {
    type Report = UdpReport;
    const KIND: &'static str = "udp";

    fn longest(&self) -> Duration {
        self.timeout * self.requests
    }

    fn perform(&self, stop: &Stop) -> Result<UdpReport> {
        let mut report = UdpReport::default();
        for token in (0..self.requests).take_while(|_| !stop.is_set()) {
            report.requests += 1;
            match self.request(token) {
                Ok((answer, peer)) => {
                    *report.backends.entry(answer.local).or_default() += 1;
                    report.clients.insert(answer.peer.ip());
                    report.peers.insert(peer);
                }
                Err(error) => {
                    report.failed += 1;
                    report.failures.add(&error);
                }
            }
        }
        Ok(report)
    }
}
