//! `cargo xtask image`: the container image, by whatever engine answers.

use std::path::Path;
use std::process::ExitCode;

use crate::engine::Engine;
use crate::process;
use crate::workspace::Workspace;

/// What the user may ask of it.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Name of the image
    #[arg(long, default_value = "weir")]
    name: String,
    /// Tag of the image; the version if not given
    #[arg(long)]
    tag: Option<String>,
    /// Platforms such as linux/amd64,linux/arm64; that of the engine if not given
    #[arg(long)]
    platform: Option<String>,
}

/// Builds it, and says how large it is. Fails where no engine answers.
pub fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<ExitCode> {
    let engine = match Engine::find() {
        Ok(engine) => engine,
        Err(reason) => {
            println!("NOT BUILT: {reason}");
            println!("`cargo xtask dist --static` builds the files that would be in it");
            return Ok(ExitCode::FAILURE);
        }
    };
    let tag = options.tag.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"));
    let reference = format!("{}:{tag}", options.name);
    build(workspace, &engine, &reference, options.platform.as_deref())?;
    let mut command = engine.command();
    command.args(["image", "inspect", "--format={{.Size}}", &reference]);
    let bytes: u64 = process::read(&mut command)?.trim().parse()?;
    println!("{reference}: {} KiB", bytes / 1024);
    Ok(ExitCode::SUCCESS)
}

/// Builds the image under this name.
pub fn build(
    workspace: &Workspace,
    engine: &Engine,
    reference: &str,
    platform: Option<&str>,
) -> anyhow::Result<()> {
    let mut command = engine.command();
    command
        .current_dir(&workspace.root)
        .args(["build", "--file", DOCKERFILE, "--tag", reference]);
    if let Some(platform) = platform {
        command.args(["--platform", platform]);
    }
    process::run(command.arg("."))
}

/// Writes an image that was built to a file, as engines load it.
pub fn save(engine: &Engine, reference: &str, file: &Path) -> anyhow::Result<()> {
    let mut command = engine.command();
    command.args(["save", "--output"]).arg(file).arg(reference);
    process::run(&mut command)
}

/// Below the root of the workspace.
pub const DOCKERFILE: &str = "deploy/image/Dockerfile";
