//! Runs test binaries one after the other and adds their outcomes up.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::artifacts::{self, Executable, Kind, Profile};
use crate::libtest::{Outcome, Parser};
use crate::process::{self, End};
use crate::report::{Report, Skips};
use crate::vm::SuiteSpec;
use crate::workspace::Workspace;

/// No suite is meant to take longer, not even on two busy cores.
const LIMIT: Duration = Duration::from_mins(25);

/// Clusters of network namespaces share the machine's two cores.
pub const ROOT_SUITE_THREADS: &str = "--test-threads=2";

/// Makes tests say why they were skipped (see `libtest`).
pub const SHOW_OUTPUT: &str = "--show-output";

/// Lets tests print figures while they run.
pub const NO_CAPTURE: &str = "--nocapture";

/// The folder of the package whose suites drive the kernel.
fn root_suites(workspace: &Workspace) -> PathBuf {
    workspace.root.join("tests")
}

/// Builds every test binary of the userspace packages, and the programs their tests start.
pub fn build(workspace: &Workspace) -> anyhow::Result<Vec<Executable>> {
    let mut made = artifacts::build(workspace, Profile::Dev, &["test", "--no-run"])?;
    // Cargo tells them in the order they were ready.
    made.sort_by(|a, b| (&a.package, &a.target).cmp(&(&b.package, &b.target)));
    Ok(made)
}

/// Builds some integration tests, and the programs that they start.
pub fn build_some<'a>(
    workspace: &Workspace,
    profile: Profile,
    suites: impl Iterator<Item = &'a SuiteSpec>,
) -> anyhow::Result<Vec<Executable>> {
    // Programs are told of only if they are asked for.
    let mut arguments = ["build", "--bin=weir-cluster", "--bin=weir-traffic"]
        .map(str::to_owned)
        .to_vec();
    for suite in suites {
        arguments.push(format!("--test={}", suite.target));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    artifacts::build(workspace, profile, &arguments)
}

/// Runs one test binary on this machine, with more variables.
pub fn run(
    workspace: &Workspace,
    executable: &Executable,
    environment: &[(&str, &Path)],
    filter: Option<&str>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut command = Command::new(&executable.path);
    command
        .current_dir(&executable.package)
        .env("CARGO_MANIFEST_DIR", &executable.package)
        .envs(environment.iter().copied())
        .arg(SHOW_OUTPUT)
        .args(filter);
    if executable.package == root_suites(workspace) {
        command.arg(ROOT_SUITE_THREADS);
    }
    println!("\n     suite {}", executable.title());
    run_command(&executable.title(), &mut command, report)
}

/// Runs the examples in the documentation.
pub fn run_examples(
    workspace: &Workspace,
    filter: Option<&str>,
    report: &mut Report,
) -> anyhow::Result<()> {
    println!("\n     suite examples in the documentation");
    let mut command = workspace.cargo();
    command
        .args([
            "test",
            "--quiet",
            "--doc",
            "--",
            "--format=pretty",
            SHOW_OUTPUT,
        ])
        .args(filter);
    run_command("examples", &mut command, report)
}

/// Follows a command that prints test results, and judges its end as well.
fn run_command(title: &str, command: &mut Command, report: &mut Report) -> anyhow::Result<()> {
    let mut parser = Parser::default();
    let end = process::follow(command, LIMIT, |line| {
        if parser.line(line) {
            println!("{line}");
        }
        true
    })?;
    let outcomes = parser.finish();
    let failed = outcomes
        .values()
        .any(|outcome| matches!(outcome, Outcome::Failed(_)));
    report.add(title, outcomes, Skips::of_environment());
    match end {
        End::TimedOut => report.fail(title, &format!("did not end within {LIMIT:?}")),
        // A harness that fails without a failed test has crashed.
        End::Exited(status) if !status.success() && !failed => {
            report.fail(title, &format!("ended early ({status})"));
        }
        End::Exited(_) | End::Stopped => {}
    }
    Ok(())
}

/// Finds an integration test by its package's folder and its name.
pub fn find<'a>(
    workspace: &Workspace,
    made: &'a [Executable],
    suite: &SuiteSpec,
) -> Option<&'a Path> {
    let folder = workspace.root.join(&suite.package);
    made.iter()
        .find(|made| {
            made.kind == Kind::IntegrationTest
                && made.package == folder
                && made.target == suite.target
        })
        .map(|made| made.path.as_path())
}

/// The programs that suites of the tests package start by the path they were built at.
pub fn programs<'a>(workspace: &Workspace, made: &'a [Executable]) -> Vec<&'a Path> {
    let folder = root_suites(workspace);
    let programs = made
        .iter()
        .filter(|made| made.kind == Kind::Program && made.package == folder);
    programs.map(|made| made.path.as_path()).collect()
}
