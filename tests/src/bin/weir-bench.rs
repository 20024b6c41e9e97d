//! Measures one thing: `weir-bench NAME [--json FILE]`, started by `cargo xtask bench`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use weir_tests::bench;

/// Measures Weir beside a reference in the same run
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Bench {
    /// Nanoseconds per packet of the XDP program
    Xdp,
    /// Time to build Maglev tables
    Maglev,
    /// Throughput of the device that encrypts
    Encryption,
    /// What following a large cluster costs
    Source,
    /// The part of an agent that is measured by `source`
    #[command(hide = true)]
    Follow(bench::source::follower::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json.as_deref();
    let result = match arguments.bench {
        Bench::Xdp => bench::xdp::run(json),
        Bench::Maglev => bench::maglev::run(json),
        Bench::Encryption => bench::encryption::run(json),
        Bench::Source => bench::source::run(json),
        Bench::Follow(options) => bench::source::follower::follow(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
