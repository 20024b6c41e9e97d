//! Figures, for people and for programs.

use std::fmt;

use serde::Serialize;

use super::load::{Load, Measured};
use super::scale::Scale;

/// What rounds of a load came to, with one program.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<Measured>);

impl Samples {
    /// Adds a round.
    pub fn push(&mut self, measured: Measured) {
        self.0.push(measured);
    }
}

/// Figures of all loads.
#[derive(Debug, Serialize)]
pub struct Report {
    rounds: usize,
    rows: Vec<Row>,
    scale: Scale,
}

#[derive(Debug, Serialize)]
struct Row {
    load: &'static str,
    weir: Figures,
    boringtun: Figures,
    /// Weir's median throughput through that of boringtun: above 1 is faster.
    ratio: f64,
}

#[derive(Debug, Serialize)]
struct Figures {
    /// Least, median and most of all rounds.
    megabits_per_second: [f64; 3],
    /// Median; of both devices.
    cpu_seconds_per_gigabyte: f64,
}

impl Report {
    /// Figures of pairs of samples: Weir's first.
    pub fn new(rounds: usize, loads: &[(Load, [Samples; 2])], scale: Scale) -> Self {
        let rows = loads.iter().map(|(load, [weir, boringtun])| {
            let (weir, boringtun) = (Figures::of(weir), Figures::of(boringtun));
            Row {
                load: load.title(),
                ratio: weir.megabits_per_second[1] / boringtun.megabits_per_second[1],
                weir,
                boringtun,
            }
        });
        Self {
            rounds,
            rows: rows.collect(),
            scale,
        }
    }

    /// Of each load its name and Weir's median throughput through that of boringtun.
    pub fn ratios(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.rows.iter().map(|row| (row.load, row.ratio))
    }

    /// What an agent among many nodes took.
    pub fn scale(&self) -> &Scale {
        &self.scale
    }
}

impl Figures {
    fn of(samples: &Samples) -> Self {
        let sorted = |of: fn(Measured) -> f64| {
            let mut all: Vec<f64> = samples.0.iter().map(|measured| of(*measured)).collect();
            all.sort_unstable_by(f64::total_cmp);
            all
        };
        let speed = sorted(|it| it.bits_per_second() / 1e6);
        let cpu = sorted(Measured::cpu_seconds_per_gigabyte);
        Self {
            megabits_per_second: [speed[0], speed[speed.len() / 2], speed[speed.len() - 1]],
            cpu_seconds_per_gigabyte: cpu[cpu.len() / 2],
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Userspace device beside boringtun-cli, {} rounds: Mbit/s least median most, seconds \
             of a processor per 10^9 bytes",
            self.rounds
        )?;
        for row in &self.rows {
            let figures = |it: &Figures| {
                let [least, median, most] = it.megabits_per_second;
                let cpu = it.cpu_seconds_per_gigabyte;
                format!("{least:6.0} {median:6.0} {most:6.0}  {cpu:6.2} s/GB")
            };
            writeln!(
                f,
                "{:<22} weir {}   boringtun {}   ratio {:.2}",
                row.load,
                figures(&row.weir),
                figures(&row.boringtun),
                row.ratio,
            )?;
        }
        let Scale {
            peers,
            first_sync_ms,
            one_change_ms: [median, longest],
            flapping,
        } = &self.scale;
        writeln!(
            f,
            "{peers} peers: first sync {first_sync_ms:.0} ms; one change {median:.1} ms, longest \
             {longest:.1} ms"
        )?;
        writeln!(
            f,
            "{} nodes, {} changes in {:.0} s: {} steps, {:.1} % of a processor in them, {:.1} % in \
             the whole agent",
            flapping.nodes,
            flapping.changes,
            flapping.seconds,
            flapping.steps,
            flapping.share_of_steps * 100.0,
            flapping.share_of_agent * 100.0,
        )
    }
}
