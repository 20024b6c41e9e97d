//! Figures out of samples, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use super::cases::{Case, Flows};

/// Two figures whose ratio is closer to one than this are a tie.
const TIE: f64 = 0.1;
/// Case that the others are compared to.
const REFERENCE: &str = "tcp_hit";

/// Nanoseconds per run, one sample for each round.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    feeding: Vec<u32>,
    total: Vec<u32>,
}

impl Samples {
    /// Adds a round: the empty program fed, and the balancer fed.
    pub fn push(&mut self, feeding: u32, total: u32) {
        self.feeding.push(feeding);
        self.total.push(total);
    }
}

/// Nanoseconds per packet.
#[derive(Clone, Copy, Debug, Serialize)]
struct Times {
    min_ns: u32,
    median_ns: u32,
}

impl Times {
    fn of(samples: &[u32]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        Self {
            min_ns: sorted[0],
            median_ns: sorted[sorted.len() / 2],
        }
    }

    fn without(self, other: Self) -> Self {
        Self {
            min_ns: self.min_ns.saturating_sub(other.min_ns),
            median_ns: self.median_ns.saturating_sub(other.median_ns),
        }
    }
}

/// All results of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    cpu: usize,
    rounds: usize,
    runs_per_round: u32,
    /// The empty programs by themselves.
    empty_pass: Times,
    empty_tx: Times,
    cases: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    title: &'static str,
    /// Known flows visited in turn; nothing if every packet opens one.
    flows: Option<u32>,
    verdict: String,
    /// Restoring the frame, choosing the flow and calling an empty program.
    harness: Times,
    /// The same with the balancer.
    total: Times,
    /// The balancer alone.
    net: Times,
    /// Minimum of the balancer alone over the minimum of the harness.
    net_by_harness: f64,
    /// Minimum of the balancer alone over that of an established TCP connection.
    net_by_tcp_hit: f64,
}

impl Report {
    /// Takes the samples together.
    pub fn new(
        cpu: usize,
        rounds: usize,
        runs_per_round: u32,
        [pass, transmit]: [&[u32]; 2],
        cases: &[(Case, Samples)],
    ) -> Self {
        let mut cases: Vec<Row> = cases
            .iter()
            .map(|(case, samples)| row(case, samples))
            .collect();
        let reference = cases.iter().find(|row| row.name == REFERENCE);
        let reference = reference.map_or(0, |row| row.net.min_ns);
        for row in &mut cases {
            row.net_by_tcp_hit = ratio(row.net.min_ns, reference);
        }
        Self {
            cpu,
            rounds,
            runs_per_round,
            empty_pass: Times::of(pass),
            empty_tx: Times::of(transmit),
            cases,
        }
    }
}

fn row(case: &Case, samples: &Samples) -> Row {
    let harness = Times::of(&samples.feeding);
    let total = Times::of(&samples.total);
    let net = total.without(harness);
    Row {
        name: case.name,
        title: case.title,
        flows: match case.flows {
            Flows::One => Some(1),
            Flows::Many(flows) | Flows::Scattered(flows) => Some(flows),
            Flows::New => None,
        },
        verdict: format!("{:?}", case.verdict).to_lowercase(),
        harness,
        total,
        net,
        net_by_harness: ratio(net.min_ns, harness.min_ns),
        net_by_tcp_hit: 0.0,
    }
}

/// Ratio to two decimals.
fn ratio(ns: u32, to: u32) -> f64 {
    (f64::from(ns) / f64::from(to.max(1)) * 100.0).round() / 100.0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cell = |times: &Times| format!("{} ({})", times.min_ns, times.median_ns);
        writeln!(
            f,
            "xdp_uplink: nanoseconds per packet, minimum (median) of {} rounds of {} packets\n\n\
             {:<40} {:>8} {:>10} {:>10} {:>10} {:>10} {:>10}",
            self.rounds,
            self.runs_per_round,
            "case",
            "verdict",
            "harness",
            "total",
            "net",
            "by harness",
            "by tcp_hit"
        )?;
        for row in &self.cases {
            let tie = (row.net_by_tcp_hit - 1.0).abs() < TIE && row.name != REFERENCE;
            writeln!(
                f,
                "{:<40} {:>8} {:>10} {:>10} {:>10} {:>10.2} {:>9.2}{}",
                row.title,
                row.verdict,
                cell(&row.harness),
                cell(&row.total),
                cell(&row.net),
                row.net_by_harness,
                row.net_by_tcp_hit,
                if tie { "=" } else { " " },
            )?;
        }
        writeln!(
            f,
            "\nalone: empty XDP_PASS {}, empty XDP_TX {}; CPU {}; net is total less harness; \
             = is a tie",
            cell(&self.empty_pass),
            cell(&self.empty_tx),
            self.cpu
        )
    }
}
