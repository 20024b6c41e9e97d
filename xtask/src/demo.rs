//! `cargo xtask demo`: builds, then hands over to the program `weir-demo` of the tests package.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::artifacts::{self, Binaries, Profile};
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{absolute, process};

/// What the user may ask of the demo.
#[derive(Debug, clap::Args)]
pub struct Options {
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

/// Names the folder with etcd and kube-apiserver.
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// The folder of the API server: looked for before anything is built.
fn assets() -> anyhow::Result<PathBuf> {
    let folder = env::var_os(ASSETS).with_context(|| {
        format!(
            "{ASSETS} is not set: set it to a folder with etcd and kube-apiserver, as for the tests \
             of operators"
        )
    })?;
    absolute(Path::new(&folder))
}

/// Runs the demo; its exit code is ours.
pub fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<ExitCode> {
    let assets = options.kubernetes.then(assets).transpose()?;
    setup::ensure(workspace, &[Need::EbpfToolchain, Need::NetworkTools])?;
    let programs = [
        "--bin=weir-demo",
        "--bin=weir-cluster",
        "--bin=weir-traffic",
    ];
    let (binaries, made) = Binaries::build(workspace, Profile::Dev, &programs)?;
    let mut command = Command::new(artifacts::program(&made, "weir-demo")?);
    command
        .current_dir(&workspace.root)
        .envs(binaries.environment());
    if options.keep {
        command.arg("--keep");
    }
    if options.encrypt {
        command.arg("--encrypt");
    }
    if let Some(assets) = assets {
        command.arg("--kubernetes").env(ASSETS, assets);
    }
    if let Some(file) = &options.json {
        command.arg("--json").arg(absolute(file)?);
    }
    process::hand_over(&mut command)
}
