//! The demo: a cluster of nodes on this machine, real requests to a Service, the flows seen.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use weir_tests::demo;

/// Balances real HTTP requests between network namespaces and shows the flows
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Leave the cluster up, and print how to enter it
    #[arg(long)]
    keep: bool,
    /// Encrypt between the nodes, and look at the wire
    #[arg(long)]
    encrypt: bool,
    /// Take everything from a real API server: that of the folder in `KUBEBUILDER_ASSETS`
    #[arg(long)]
    kubernetes: bool,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = demo::Options {
        keep: arguments.keep,
        encrypt: arguments.encrypt,
        kubernetes: arguments.kubernetes,
        json: arguments.json,
    };
    match demo::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
