//! New connections at a steady rate, each with one HTTP request.
//!
//! Connections have due times; a slow one does not shift those after it as long as a worker is
//! free, so a stall of the data path shows as late and failed connections, not as a lower rate.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Failures, Job, Stop, Traffic, http};
use crate::wait;

/// A rate of connections to one address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// Where to.
    pub to: SocketAddr,
    /// Connections per second.
    pub per_second: u32,
    /// How long to go on, unless stopped before.
    pub length: Duration,
    /// Bound on each step of a connection.
    pub timeout: Duration,
    /// Connections open at a time, at most.
    pub workers: u32,
}

/// What came of the load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Connections tried.
    pub connections: u64,
    /// Connections without a good answer.
    pub failed: u64,
    /// Why.
    pub failures: Failures,
    /// Good connections on which the client had to send a segment again: a packet was lost.
    pub retransmitted: u64,
    /// The longest good connection.
    pub slowest: Duration,
    /// The most that a connection began after it was due.
    pub latest_start: Duration,
    /// Answers by server address.
    pub backends: BTreeMap<SocketAddr, u64>,
    /// Wall time of the whole.
    pub elapsed: Duration,
}

impl Load {
    /// `per_second` connections to `to`, for a minute at most.
    pub fn new(to: SocketAddr, per_second: u32) -> Self {
        let length = Duration::from_mins(1);
        Self {
            to,
            per_second,
            length,
            timeout: wait::patiently(Duration::from_secs(5)),
            workers: 32,
        }
    }

    fn work(&self, stop: &Stop, start: Instant, next: &AtomicU64) -> LoadReport {
        let mut report = LoadReport::default();
        while !stop.is_set() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let due = Duration::from_secs_f64(number as f64 / f64::from(self.per_second));
            if due >= self.length {
                break;
            }
            thread::sleep(due.saturating_sub(start.elapsed()));
            report.latest_start = report.latest_start.max(start.elapsed().saturating_sub(due));
            report.one(self);
        }
        report
    }
}

impl Traffic<'_, Load> {
    /// For this long, unless stopped before.
    #[must_use]
    pub fn length(mut self, length: Duration) -> Self {
        self.job.length = length;
        self
    }
}

impl Job for Load {
    type Report = LoadReport;
    const KIND: &'static str = "load";

    fn longest(&self) -> Duration {
        self.length + self.timeout * 2
    }

    fn perform(&self, stop: &Stop) -> Result<LoadReport> {
        ensure!(
            (1..=10_000).contains(&self.per_second),
            "between 1 and 10,000 connections/s"
        );
        ensure!(
            (1..=256).contains(&self.workers),
            "between 1 and 256 workers"
        );
        let (start, next) = (Instant::now(), AtomicU64::new(0));
        let total = Mutex::new(LoadReport::default());
        thread::scope(|scope| {
            for _ in 0..self.workers {
                scope.spawn(|| {
                    let own = self.work(stop, start, &next);
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

impl LoadReport {
    fn one(&mut self, load: &Load) {
        let start = Instant::now();
        self.connections += 1;
        match http::request(load.to, load.timeout) {
            Ok(exchange) => {
                *self.backends.entry(exchange.answer.local).or_default() += 1;
                self.retransmitted += u64::from(exchange.retransmits > 0);
                self.slowest = self.slowest.max(start.elapsed());
            }
            Err(error) => {
                self.failed += 1;
                self.failures.add(&error);
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.connections += other.connections;
        self.failed += other.failed;
        self.failures.merge(other.failures);
        self.retransmitted += other.retransmitted;
        self.slowest = self.slowest.max(other.slowest);
        self.latest_start = self.latest_start.max(other.latest_start);
        for (backend, count) in other.backends {
            *self.backends.entry(backend).or_default() += count;
        }
    }
}
