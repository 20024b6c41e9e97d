//! Long-lived TCP streams that notice a lost, changed or delayed byte, a reset and a stall.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Answer, Job, Stop, Traffic, tcp_info};
use crate::wait;

/// Streams to one address, each sending a running number and awaiting it back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stream {
    /// Where to.
    pub to: SocketAddr,
    /// How many streams beside each other.
    pub streams: u32,
    /// Pause between two numbers.
    pub pause: Duration,
    /// How long to go on, unless stopped before.
    pub length: Duration,
    /// The longest wait for a number to come back.
    pub timeout: Duration,
}

/// What came of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// The server, once the stream was open.
    pub server: Option<Answer>,
    /// Numbers that came back.
    pub rounds: u64,
    /// The longest time a number took.
    pub longest: Duration,
    /// Segments sent again.
    pub retransmits: u32,
    /// What ended the stream before its time.
    pub error: Option<String>,
}

impl Stream {
    /// One stream to `to`, a number every 5 ms, for a minute at most.
    pub fn new(to: SocketAddr) -> Self {
        Self {
            to,
            streams: 1,
            pause: Duration::from_millis(5),
            length: Duration::from_mins(1),
            timeout: wait::patiently(Duration::from_secs(10)),
        }
    }

    fn one(&self, stop: &Stop) -> StreamReport {
        let mut report = StreamReport {
            server: None,
            rounds: 0,
            longest: Duration::ZERO,
            retransmits: 0,
            error: None,
        };
        report.error = self
            .exchange(stop, &mut report)
            .err()
            .map(|error| format!("{error:#}"));
        report
    }

    fn exchange(&self, stop: &Stop, report: &mut StreamReport) -> Result<()> {
        let start = Instant::now();
        let stream = TcpStream::connect_timeout(&self.to, self.timeout).context("connect")?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(&stream);
        let mut line = String::new();
        reader
            .read_line(&mut line)
            .context("read the introduction")?;
        report.server = Some(serde_json::from_str(&line).context("decode the introduction")?);
        while !stop.is_set() && start.elapsed() < self.length {
            let (sent, number) = (Instant::now(), report.rounds.to_be_bytes());
            (&stream).write_all(&number).context("send")?;
            let mut back = [0; 8];
            reader.read_exact(&mut back).context("receive")?;
            ensure!(back == number, "{number:?} came back as {back:?}");
            report.longest = report.longest.max(sent.elapsed());
            report.rounds += 1;
            thread::sleep(self.pause);
        }
        report.retransmits = tcp_info::retransmits(&stream).context("read TCP_INFO")?;
        Ok(())
    }
}

impl Traffic<'_, Stream> {
    /// With this many streams beside each other.
    #[must_use]
    pub fn streams(mut self, streams: u32) -> Self {
        self.job.streams = streams;
        self
    }

    /// With this pause between two numbers.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.job.pause = pause;
        self
    }

    /// For this long, unless stopped before.
    #[must_use]
    pub fn length(mut self, length: Duration) -> Self {
        self.job.length = length;
        self
    }
}

impl Job for Stream {
    type Report = Vec<StreamReport>;
    const KIND: &'static str = "stream";

    fn longest(&self) -> Duration {
        self.length + self.timeout * 2
    }

    fn perform(&self, stop: &Stop) -> Result<Vec<StreamReport>> {
        ensure!(
            (1..=256).contains(&self.streams),
            "between 1 and 256 streams"
        );
        let reports = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.streams)
                .map(|_| scope.spawn(|| self.one(stop)))
                .collect();
            threads
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect::<Result<_, _>>()
        });
        Ok(reports.expect("a stream reports its errors and does not panic"))
    }
}
