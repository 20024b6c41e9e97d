//! The one door to the project's chores, for people and CI alike.
//!
//! Each verb makes sure by itself of what it needs (`setup`), builds, and hands over. What a verb
//! prints last is its result; its exit code says the same.

mod artifacts;
mod bench;
mod demo;
mod dist;
mod engine;
mod image;
mod kind;
mod libtest;
mod lint;
mod process;
mod release;
mod report;
mod setup;
mod suites;
mod test;
mod vm;
mod workspace;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// The project's chores.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Finds or installs everything this machine lacks, and says what and why
    Setup {
        /// Only tell what is missing; fail if anything is
        #[arg(long)]
        check: bool,
    },
    /// Builds a cluster of network namespaces and sends real requests through it
    Demo(demo::Options),
    /// Runs all tests, those in virtual machines included
    Test {
        /// Leave the virtual machines out
        #[arg(long)]
        fast: bool,
        /// Run only tests whose name contains this
        filter: Option<String>,
    },
    /// Runs the program tests and the core scenarios on other kernels
    Vm(vm::Options),
    /// Measures the data path, the table algorithm or encryption
    Bench(bench::Options),
    /// Checks format, lints and dependencies
    Lint,
    /// Builds the programs as they are shipped, with licences and the list of what is inside
    Dist(dist::Options),
    /// Builds the container image, where an engine answers
    Image(image::Options),
    /// Runs the connectivity suite in a kind cluster without kube-proxy, where Docker and kind are
    Kind(kind::Options),
    /// Makes everything that is published of this version
    Release,
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::locate()?;
    match verb {
        Verb::Setup { check } => setup::run(&workspace, check),
        Verb::Demo(options) => demo::run(&workspace, &options),
        Verb::Test { fast, filter } => test::run(&workspace, fast, filter.as_deref()),
        Verb::Vm(options) => vm::run(&workspace, &options),
        Verb::Bench(options) => bench::run(&workspace, &options),
        Verb::Lint => lint::run(&workspace),
        Verb::Dist(options) => dist::run(&workspace, &options),
        Verb::Image(options) => image::run(&workspace, &options),
        Verb::Kind(options) => kind::run(&workspace, &options),
        Verb::Release => release::run(&workspace),
    }
}

/// Makes a path given on the command line independent of the folder a child runs in.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))
}
