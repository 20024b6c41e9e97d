//! `cargo xtask lint`: format, clippy, and the dependency policy of `deny.toml`.

use std::process::{Command, ExitCode};

use ebpf_build::Places;

use crate::process;
use crate::workspace::Workspace;

/// Runs all checks, and fails after the last one if any failed.
pub fn run(workspace: &Workspace) -> ExitCode {
    let mut checks = vec![
        arguments(workspace, &["fmt", "--all", "--check"]),
        // The kernel programs compile for another target only: the default members are the rest.
        arguments(
            workspace,
            &["clippy", "--all-targets", "--", "--deny=warnings"],
        ),
    ];
    if Places::of_this_machine().program("cargo-deny").is_some() {
        checks.push(arguments(
            workspace,
            &["deny", "check", "licenses", "bans", "sources"],
        ));
    } else {
        println!("cargo-deny is not installed: the policy in deny.toml was not checked");
    }
    let mut failed = 0;
    for check in &mut checks {
        if let Err(error) = process::run(check) {
            eprintln!("error: {error:#}");
            failed += 1;
        }
    }
    println!("{} checks, {failed} failed", checks.len());
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn arguments(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = workspace.cargo();
    command.args(arguments);
    command
}
