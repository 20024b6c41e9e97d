//! Numbered datagrams at a steady rate, each of which must come back: whatever is lost is counted.
//!
//! Nothing sends a datagram again, so the count is that of lost packets, there or back. Both ends
//! have room for what comes while a busy machine does not let them read.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};

use super::{Answer, Job, Stop, Traffic};

/// Receive buffer of a socket: seconds of traffic.
pub(super) const ROOM_BYTES: usize = 16 << 20;

/// Numbered datagrams to one address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Numbered {
    /// Where to.
    pub to: SocketAddr,
    /// Connections beside each other: sockets with a port of their own.
    pub sockets: u32,
    /// Datagrams per second, of all of them together.
    pub per_second: u32,
    /// How long to go on, unless stopped before.
    pub length: Duration,
    /// How long to wait for the last answers.
    pub timeout: Duration,
}

/// What came of numbered datagrams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberedReport {
    /// Datagrams sent.
    pub sent: u64,
    /// Those that did not come back.
    pub lost: u64,
    /// Those that came back more than once.
    pub repeated: u64,
    /// The first losses, as index of the socket, number, and time since the start.
    pub examples: Vec<(u32, u64, Duration)>,
    /// Answers by server address.
    pub backends: BTreeMap<SocketAddr, u64>,
    /// Sockets whose answers came from more than one server.
    pub moved: u32,
}

impl Numbered {
    /// `per_second` datagrams to `to` from 16 sockets, for a minute at most.
    pub fn new(to: SocketAddr, per_second: u32) -> Self {
        Self {
            to,
            sockets: 16,
            per_second,
            length: Duration::from_mins(1),
            timeout: Duration::from_secs(3),
        }
    }

    fn one(&self, stop: &Stop, index: u32) -> Result<NumberedReport> {
        let any: IpAddr = if self.to.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).context("bind")?;
        socket.connect(self.to).context("connect")?;
        make_room(&socket)?;
        socket.set_read_timeout(Some(self.timeout))?;
        let all_sent = Stop::default();
        thread::scope(|scope| {
            let reader = scope.spawn(|| read(&socket, &all_sent));
            let sent = self.send(&socket, stop, index);
            all_sent.set();
            let sent = sent?;
            let read = reader.join().expect("the reader returns its errors")?;
            Ok(read.judge(index, &sent))
        })
    }

    /// Sends until told otherwise and returns when each number was sent.
    fn send(&self, socket: &UdpSocket, stop: &Stop, index: u32) -> Result<Vec<Duration>> {
        let start = Instant::now();
        let period = Duration::from_secs(1) * self.sockets / self.per_second;
        let offset = period * index / self.sockets;
        let mut sent = Vec::new();
        while !stop.is_set() && start.elapsed() < self.length {
            let number = sent.len() as u64;
            let due = offset + period * u32::try_from(number).context("too many datagrams")?;
            thread::sleep(due.saturating_sub(start.elapsed()));
            match socket.send(&number.to_be_bytes()) {
                // An ICMP error for an earlier datagram, which is lost; this one was not sent.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
                sent => sent.context("send")?,
            };
            sent.push(start.elapsed());
        }
        Ok(sent)
    }
}

/// Reads until all is sent and then nothing has come for the socket's timeout. Only a whole timeout
/// after that counts: a machine that stands still must not look like losses.
fn read(socket: &UdpSocket, all_sent: &Stop) -> Result<Read> {
    let mut read = Read::default();
    let mut buffer = [0; 2048];
    loop {
        let is_last_wait = all_sent.is_set();
        let count = match socket.recv(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if is_last_wait {
                    return Ok(read);
                }
                continue;
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
            count => count.context("receive")?,
        };
        let (answer, number) = decode(&buffer[..count]).context("decode the answer")?;
        let number = usize::try_from(number).context("a number that was never sent")?;
        if number >= read.times.len() {
            read.times.resize(number + 1, 0);
        }
        read.times[number] += 1;
        *read.backends.entry(answer.local).or_default() += 1;
    }
}

/// Gives a socket a receive buffer for seconds of traffic.
pub(super) fn make_room(socket: &UdpSocket) -> Result<()> {
    setsockopt(socket, sockopt::RcvBufForce, &ROOM_BYTES).context("enlarge the receive buffer")
}

fn decode(bytes: &[u8]) -> Result<(Answer, u64)> {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let answer = serde_json::from_slice(parts.next().unwrap_or_default())?;
    let number = parts.next().unwrap_or_default().try_into()?;
    Ok((answer, u64::from_be_bytes(number)))
}

/// What one socket received.
#[derive(Debug, Default)]
struct Read {
    /// How often each number came back.
    times: Vec<u32>,
    backends: BTreeMap<SocketAddr, u64>,
}

impl Read {
    fn judge(self, index: u32, sent: &[Duration]) -> NumberedReport {
        const EXAMPLES: usize = 20;
        let times = |number: usize| self.times.get(number).copied().unwrap_or(0);
        let lost = || (0..sent.len()).filter(|number| times(*number) == 0);
        NumberedReport {
            sent: sent.len() as u64,
            lost: lost().count() as u64,
            repeated: self.times.iter().filter(|times| **times > 1).count() as u64,
            examples: lost()
                .take(EXAMPLES)
                .map(|number| (index, number as u64, sent[number]))
                .collect(),
            moved: u32::from(self.backends.len() > 1),
            backends: self.backends,
        }
    }
}

impl NumberedReport {
    fn merge(&mut self, other: Self) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.examples.extend(other.examples);
        self.moved += other.moved;
        for (backend, count) in other.backends {
            *self.backends.entry(backend).or_default() += count;
        }
    }
}

impl Traffic<'_, Numbered> {
    /// For this long, unless stopped before.
    #[must_use]
    pub fn length(mut self, length: Duration) -> Self {
        self.job.length = length;
        self
    }
}

impl Job for Numbered {
    type Report = NumberedReport;
    const KIND: &'static str = "numbered";

    fn longest(&self) -> Duration {
        self.length + self.timeout * 2
    }

    fn perform(&self, stop: &Stop) -> Result<NumberedReport> {
        ensure!(
            (1..=10_000).contains(&self.per_second),
            "between 1 and 10,000 datagrams/s"
        );
        ensure!(
            (1..=256).contains(&self.sockets),
            "between 1 and 256 sockets"
        );
        let mut total = NumberedReport::default();
        thread::scope(|scope| -> Result<()> {
            let threads: Vec<_> = (0..self.sockets)
                .map(|index| scope.spawn(move || self.one(stop, index)))
                .collect();
            for thread in threads {
                total.merge(thread.join().expect("a socket returns its errors")?);
            }
            Ok(())
        })?;
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_came_back_is_lost_and_what_came_twice_is_told() {
        let read = Read {
            times: vec![1, 0, 2],
            ..Read::default()
        };
        let sent: Vec<_> = (0..5).map(Duration::from_secs).collect();
        let report = read.judge(7, &sent);
        assert_eq!((report.sent, report.lost, report.repeated), (5, 3, 1));
        let examples = [1, 3, 4].map(|n| (7, n, Duration::from_secs(n)));
        assert_eq!(report.examples, examples);
    }
}
