//! Measures how long Maglev tables take to build, beside the paper's method in the same run.
//!
//! Two questions: one table of many backends, for 10, 100 and 1,000 backends and three sizes; and
//! the tables of ten thousand Services of three backends each, which an agent builds when it
//! starts. Rounds of both methods alternate, so that a change of the machine's speed meets both;
//! minimum and median are given, and ratios are of minima. Each round has other backends: a table
//! built again and again is learned by the processor's branch predictor, and no agent does that.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use maglev::{Backend, BuildError, Builder, TableSize, plain, table_size};
use serde::Serialize;

const BACKENDS: [usize; 3] = [10, 100, 1_000];
const SIZES: [u32; 3] = [16_381, 65_537, 655_373];
const SERVICES: usize = 10_000;
const BACKENDS_PER_SERVICE: usize = 3;
const LOAD_FACTOR: usize = 100;

/// Each case is repeated until this much time went by, and at least [`MIN_ROUNDS`] times.
const CASE_TIME: Duration = Duration::from_millis(700);
const MIN_ROUNDS: usize = 7;

/// All results of one run.
#[derive(Debug, Serialize)]
struct Report {
    tables: Vec<Case>,
    many_services: Case,
}

/// One row: the same tables built by both methods.
#[derive(Debug, Serialize)]
struct Case {
    /// Tables built in each round.
    tables: usize,
    /// Backends of each table.
    backends: usize,
    /// Slots of each table.
    slots: u32,
    rounds: usize,
    weir: Times,
    plain: Times,
    /// How many times as long as ours the plain method takes.
    speedup: f64,
}

/// Microseconds per round.
#[derive(Debug, Serialize)]
struct Times {
    min_us: f64,
    median_us: f64,
}

/// Runs all cases, prints a row for each and writes them to `json` if wanted.
pub fn run(json: Option<&Path>) -> anyhow::Result<()> {
    println!("Maglev tables: microseconds to build, minimum (median)\n");
    println!(
        "{:>8} {:>8} {:>8} {:>7} {:>22} {:>22} {:>8}",
        "tables", "backends", "slots", "rounds", "weir", "plain (the paper's)", "speed-up"
    );
    let mut tables = Vec::new();
    for backends in BACKENDS {
        for slots in SIZES {
            tables.push(measure(1, backends, TableSize::from_prime(slots)?)?);
        }
    }
    let adaptive = table_size(BACKENDS_PER_SERVICE, LOAD_FACTOR);
    let many_services = measure(SERVICES, BACKENDS_PER_SERVICE, adaptive)?;

    if let Some(path) = json {
        let report = serde_json::to_string_pretty(&Report {
            tables,
            many_services,
        })?;
        fs::write(path, report).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn measure(tables: usize, backends: usize, size: TableSize) -> anyhow::Result<Case> {
    let mut builder = Builder::default();
    let mut slots = Vec::new();
    let (mut ours, mut plains) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while ours.len() < MIN_ROUNDS || start.elapsed() < CASE_TIME {
        let first = ours.len() * tables;
        let names: Vec<_> = (first..first + tables)
            .map(|table| names(table, backends))
            .collect();
        let services: Vec<_> = names.iter().map(|names| equal_backends(names)).collect();
        ours.push(timed(|| {
            for service in &services {
                builder.build(black_box(service), size, &mut slots)?;
                black_box(&slots);
            }
            Ok(())
        })?);
        plains.push(timed(|| {
            for service in &services {
                black_box(plain::build_unweighted(black_box(service), size)?);
            }
            Ok(())
        })?);
    }
    let rounds = ours.len();
    let (weir, plain) = (Times::of(ours), Times::of(plains));
    let speedup = plain.min_us / weir.min_us;
    let case = Case {
        tables,
        backends,
        slots: size.get(),
        rounds,
        weir,
        plain,
        speedup,
    };
    print_row(&case);
    Ok(case)
}

fn print_row(case: &Case) {
    let cell = |times: &Times| format!("{:.0} ({:.0})", times.min_us, times.median_us);
    println!(
        "{:>8} {:>8} {:>8} {:>7} {:>22} {:>22} {:>7.1}x",
        case.tables,
        case.backends,
        case.slots,
        case.rounds,
        cell(&case.weir),
        cell(&case.plain),
        case.speedup
    );
}

/// Names of the form that the agent uses, different for each table.
fn names(table: usize, backends: usize) -> Vec<String> {
    let [_, .., a, b] = table.to_be_bytes();
    (0..backends)
        .map(|i| format!("10.{a}.{b}.{}:{}", i % 256, 8_000 + i / 256))
        .collect()
}

fn equal_backends(names: &[String]) -> Vec<Backend<'_>> {
    names
        .iter()
        .map(|name| Backend {
            name: name.as_bytes(),
            weight: 1,
        })
        .collect()
}

fn timed(work: impl FnOnce() -> Result<(), BuildError>) -> anyhow::Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

impl Times {
    fn of(mut rounds: Vec<Duration>) -> Self {
        rounds.sort_unstable();
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        Self {
            min_us: us(rounds[0]),
            median_us: us(rounds[rounds.len() / 2]),
        }
    }
}
