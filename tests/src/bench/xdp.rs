//! Measures what the XDP program costs a packet, in nanoseconds, through `BPF_PROG_TEST_RUN`.
//!
//! A program that rewrites its packet would see its own output when the kernel runs it again. So
//! what runs is a small program that writes the frame anew, of the next flow if the case has
//! several, and goes on to the balancer. What that costs is measured with an empty program in the
//! balancer's place, and taken off. `tests/bench_paths.rs` proves of every case that its packets
//! take the path it is named after.
//!
//! Rounds of all cases alternate, so that a change of the machine's speed meets all of them. Of a
//! case's rounds the minimum is the figure to compare: whatever else runs only ever adds. A
//! difference below a tenth is a tie.
//!
//! - [`cases`]: what is measured.
//! - `frame`: packets.
//! - [`network`]: addresses and routes.
//! - [`rig`]: the programs, and one measurement.
//! - `report`: figures.

pub mod cases;
mod frame;
pub mod network;
mod report;
pub mod rig;

use std::path::Path;

use anyhow::Context;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use cases::{Case, Tables, cases};
use report::{Report, Samples};
use rig::{Callee, Rig};

/// Rounds, each of which measures every case once.
const ROUNDS: usize = 25;
/// Runs of the program in each round: two and a half million for each case in all.
const RUNS: u32 = 100_000;

/// Runs all cases, prints a row for each and writes them to `json` if wanted.
pub fn run(json: Option<&Path>) -> anyhow::Result<()> {
    let report = network::inside(measure)?;
    print!("{report}");
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn measure() -> anyhow::Result<Report> {
    let cpu = pin()?;
    let mut rigs = Vec::new();
    for tables in Tables::ALL {
        rigs.push(Rig::new(tables)?);
    }
    let mut cases: Vec<(Case, Samples)> = cases()
        .into_iter()
        .map(|case| (case, Samples::default()))
        .collect();
    for (case, _) in &mut cases {
        rigs[case.tables as usize].fill(case)?;
    }
    let (mut pass, mut transmit) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        pass.push(rigs[0].run_alone(Callee::Pass, RUNS)?.nanoseconds);
        transmit.push(rigs[0].run_alone(Callee::Transmit, RUNS)?.nanoseconds);
        for (case, samples) in &mut cases {
            let rig = &mut rigs[case.tables as usize];
            rig.warm(case)?;
            let empty = rig.run(case, case.verdict.empty(), RUNS)?;
            let balancer = rig.run(case, case.path.callee(), RUNS)?;
            anyhow::ensure!(
                balancer.verdict == case.verdict as u32,
                "{}: the program returned {} instead of {:?}",
                case.name,
                balancer.verdict,
                case.verdict,
            );
            samples.push(empty.nanoseconds, balancer.nanoseconds);
        }
    }
    Ok(Report::new(cpu, ROUNDS, RUNS, [&pass, &transmit], &cases))
}

/// Keeps this thread on the last CPU, which interrupts and other work prefer least.
fn pin() -> anyhow::Result<usize> {
    let cpu = std::thread::available_parallelism()?.get() - 1;
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("cannot pin to CPU {cpu}"))?;
    Ok(cpu)
}
