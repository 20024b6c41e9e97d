//! `cargo xtask test`: unit tests, root suites on this machine, and the kernel matrix.

use std::process::ExitCode;

use crate::artifacts::{Binaries, Executable, Kind, Profile};
use crate::report::Report;
use crate::setup::manifest_tools::ManifestTools;
use crate::setup::{self, Need};
use crate::suites;
use crate::vm::{Matrix, Subject};
use crate::workspace::Workspace;

/// Runs everything and ends in one line; no failure keeps a later suite from running.
pub fn run(workspace: &Workspace, fast: bool, filter: Option<&str>) -> anyhow::Result<ExitCode> {
    let mut needs = vec![Need::EbpfToolchain, Need::NetworkTools, Need::ManifestTools];
    if !fast {
        needs.extend(setup::MACHINES);
    }
    setup::ensure(workspace, &needs)?;
    let binaries = Binaries::build_for_tests(workspace, Profile::Dev)?;
    let executables = suites::build(workspace)?;
    let tools = ManifestTools::find(&workspace.target, &setup::places());
    let tools = tools.map_err(anyhow::Error::msg)?;
    let environment: Vec<_> = binaries.environment().chain(tools.environment()).collect();

    let matrix = Matrix::load(workspace)?;
    let runs_here = |made: &&Executable| match made.kind {
        Kind::Program => false,
        Kind::UnitTest => true,
        Kind::IntegrationTest => !matrix.is_for_machines_only(&made.target),
    };
    let mut report = Report::default();
    for executable in executables.iter().filter(runs_here) {
        suites::run(workspace, executable, &environment, filter, &mut report)?;
    }
    suites::run_examples(workspace, filter, &mut report)?;
    if !fast {
        let subject = Subject {
            made: &executables,
            binaries: &binaries,
            filter,
        };
        report.merge(matrix.run(workspace, &subject)?);
    }
    println!();
    Ok(report.conclude())
}
