//! `cargo xtask lint`: format, clippy on both sides of the kernel line, whether static programs compile for
//! each architecture, and the dependency policy of `deny.toml`.

use std::process::{Command, ExitCode};

use ebpf_build::{Places, Request, Toolchain};

use crate::dist::StaticTarget;
use crate::process;
use crate::setup::{self, Need};
use crate::workspace::Workspace;

/// Runs all checks, and fails after the last one if any failed.
pub fn run(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let needs = [Need::EbpfToolchain, Need::StaticTarget, Need::ForeignTarget];
    setup::ensure(workspace, &needs)?;
    let mut checks = vec![
        cargo(workspace, &["fmt", "--all", "--check"]),
        // The kernel programs compile for another target only: the default members are the rest.
        cargo(
            workspace,
            &["clippy", "--all-targets", "--", "--deny=warnings"],
        ),
    ];
    checks.push(StaticTarget::own()?.check(workspace));
    checks.extend(StaticTarget::foreign().map(|target| target.check(workspace)));
    let mut left_out = Vec::new();
    match programs(workspace) {
        Ok(check) => checks.push(check),
        Err(reason) => left_out.push(format!("clippy on the kernel programs: {reason}")),
    }
    match Places::of_this_machine().program("cargo-deny") {
        // Advisories want a database from the network, and a lint must not depend on one.
        Some(_) => checks.push(cargo(
            workspace,
            &["deny", "check", "licenses", "bans", "sources"],
        )),
        None => left_out.push("deny.toml: cargo-deny is not installed".to_owned()),
    }
    let mut failed = Vec::new();
    for check in &mut checks {
        if let Err(error) = process::run(check) {
            failed.push(format!("{error:#}"));
        }
    }
    for line in &left_out {
        println!("not checked: {line}");
    }
    for line in &failed {
        println!("FAILED: {line}");
    }
    println!(
        "{} checks passed, {} failed",
        checks.len() - failed.len(),
        failed.len()
    );
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = workspace.cargo();
    command.args(arguments);
    command
}

/// Clippy by the compiler that builds the kernel programs, or why there is none.
fn programs(workspace: &Workspace) -> Result<Command, String> {
    let toolchain = Toolchain::find().map_err(|missing| missing.to_string())?;
    let target_dir = workspace.target.join("ebpf");
    let request = Request {
        workspace: &workspace.root,
        target_dir: &target_dir,
        arch: std::env::consts::ARCH,
        // The lines, too, are to be clean.
        features: &["log"],
    };
    let command = ebpf_build::clippy(&toolchain, request);
    command.ok_or_else(|| format!("no clippy beside {}", toolchain.compiler.rustc.display()))
}
