//! Measures the userspace device that encrypts beside boringtun's own program, and the device
//! under a cluster of a thousand and of five thousand nodes.
//!
//! Both programs serve a pair of network namespaces of their own, with the same addresses, MTU and
//! routes, and are configured over the same control protocol. Rounds alternate between them, so
//! that a change of the machine's speed meets both. Of the rounds of a load the median and the best
//! are told. A difference below a twentieth is a tie.
//!
//! - [`pair`]: two nodes and the devices between them.
//! - [`load`]: what is sent.
//! - `report`: figures.
//! - [`scale`]: an agent among many nodes.
//! - `bounds`: what the figures have to keep to.

mod bounds;
pub mod load;
pub mod pair;
mod report;
pub mod scale;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use load::Load;
use pair::{Pair, Program};
use report::{Report, Samples};

/// Rounds, each of which measures every load once with each program.
const ROUNDS: usize = 7;
/// Length of one measurement.
const LENGTH: Duration = Duration::from_secs(1);

/// Runs all loads, prints a row for each and writes them to `json` if wanted. Fails if a figure does
/// not keep to its bound.
pub fn run(json: Option<&Path>) -> Result<()> {
    let report = measure()?;
    print!("{report}");
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let exceeded = bounds::exceeded(&report);
    ensure!(exceeded.is_empty(), "{}", exceeded.join("; "));
    Ok(())
}

fn measure() -> Result<Report> {
    let pairs = [
        Pair::start(Program::Weir)?,
        Pair::start(Program::Boringtun)?,
    ];
    let mut rows: Vec<(Load, [Samples; 2])> = Load::ALL
        .into_iter()
        .map(|load| (load, Default::default()))
        .collect();
    for pair in &pairs {
        // The handshake, and whatever else happens once.
        pair.measure(Load::Tcp, LENGTH)?;
    }
    for round in 0..ROUNDS {
        for (load, samples) in &mut rows {
            // Whoever is first may find the machine busier with what was before.
            for at in [round % 2, (round + 1) % 2] {
                samples[at].push(pairs[at].measure(*load, LENGTH)?);
            }
        }
    }
    drop(pairs);
    Ok(Report::new(ROUNDS, &rows, scale::measure()?))
}
