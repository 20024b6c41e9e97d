//! `cargo xtask bench`: builds in release profile, then hands over to the program `weir-bench` of
//! the tests package.

mod boringtun;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::ValueEnum;

use crate::artifacts::{self, Binaries, Profile};
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{absolute, process};

/// What the user may ask of a measurement.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// What to measure
    name: Name,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The measurements there are.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// Nanoseconds per packet in the XDP program
    Xdp,
    /// Time to build Maglev tables
    Maglev,
    /// Throughput of the device that encrypts, beside boringtun's own program; time and processor
    /// time of changes with a thousand peers and more
    Encryption,
    /// What following 1,000 nodes with 30,000 pods costs an agent and its API server
    Source,
}

/// Runs the measurement; its exit code is ours.
pub fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<ExitCode> {
    setup::ensure(workspace, &[Need::EbpfToolchain])?;
    let programs = ["--bin=weir-bench", "--bin=weir-traffic"];
    let (binaries, made) = Binaries::build(workspace, Profile::Release, &programs)?;
    let mut command = Command::new(artifacts::program(&made, "weir-bench")?);
    command
        .current_dir(&workspace.root)
        .envs(binaries.environment());
    command.arg(match options.name {
        Name::Xdp => "xdp",
        Name::Maglev => "maglev",
        Name::Encryption => "encryption",
        Name::Source => "source",
    });
    if matches!(options.name, Name::Encryption) {
        command.env(boringtun::VARIABLE, boringtun::ensure(workspace)?);
    }
    if let Some(file) = &options.json {
        command.arg("--json").arg(absolute(file)?);
    }
    process::hand_over(&mut command)
}
