//! boringtun's own program, which `cargo xtask bench encryption` measures beside Weir's device.

use std::path::PathBuf;
use std::process::Command;

use crate::process;
use crate::workspace::Workspace;

/// The variable through which the bench finds the program.
pub const VARIABLE: &str = "WEIR_BORINGTUN";

/// Of the release whose protocol code Weir's device uses.
const VERSION: &str = "0.7.1";

/// The program; built below `target/`, if that was not done before.
pub fn ensure(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let root = workspace.target.join(format!("boringtun-{VERSION}"));
    let program = root.join("bin/boringtun-cli");
    if program.exists() {
        return Ok(program);
    }
    println!("setup: building boringtun-cli {VERSION}, to measure beside it; about a minute");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["install", "boringtun-cli", "--locked", "--version", VERSION])
        .arg("--root")
        .arg(&root);
    process::run(&mut command)?;
    Ok(program)
}
