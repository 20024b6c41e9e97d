//! `cargo xtask dist`: the programs as they are shipped, with what has to go with them.
//!
//! The image and the archives of a release hold the same files: the programs without debug
//! information, the licences of everything that is in them, and a list of it (SBOM).

mod graph;
mod licences;
mod sbom;
mod static_target;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{absolute, artifacts, process};

pub use graph::Graph;
pub use static_target::StaticTarget;

/// The profile in `Cargo.toml`.
const PROFILE: &str = "dist";
/// Packages whose programs are shipped.
const SHIPPED: [&str; 2] = ["weir-agent", "weir"];
/// Packages of the kernel programs, which the agent carries as bytes: cargo does not see that.
const EMBEDDED: [&str; 1] = ["ebpf-programs"];

/// What the user may ask of it.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Programs without any library of the machine, as the image needs them; fail if they cannot be
    /// made
    #[arg(long)]
    r#static: bool,
    /// Lay the files out below this folder, as below `/`
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What was made.
#[derive(Debug)]
pub struct Dist {
    /// Version of all of it.
    pub version: String,
    /// Rust's name of the machines it is for.
    pub target: String,
    /// The files, as below `/`.
    pub folder: PathBuf,
}

/// Where things lie below [`Dist::folder`].
pub const PROGRAMS: &str = "usr/bin";
/// Licences and the list of what is inside.
pub const DOCUMENTS: &str = "usr/share/doc/weir";
/// Name of that list.
pub const SBOM: &str = "sbom.cdx.json";

/// Makes the files and says what they weigh.
pub fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<ExitCode> {
    let out = options.out.as_deref().map(absolute).transpose()?;
    let dist = build(workspace, options.r#static, out)?;
    println!("weir {} for {}:", dist.version, dist.target);
    for program in fs::read_dir(dist.folder.join(PROGRAMS))? {
        let program = program?;
        let kib = program.metadata()?.len() / 1024;
        println!("{kib:>8} KiB  {}", program.path().display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the programs and lays them out with their papers.
pub fn build(
    workspace: &Workspace,
    only_static: bool,
    out: Option<PathBuf>,
) -> anyhow::Result<Dist> {
    let mut needs = vec![Need::EbpfToolchain];
    if only_static {
        needs.push(Need::StaticTarget);
    }
    setup::ensure(workspace, &needs)?;
    let target = Target::choose()?;
    let made = target.build(workspace)?;
    let contents = [&SHIPPED[..], &EMBEDDED].concat();
    let graph = Graph::of(workspace, &contents, &target.triple)?;
    let folder = out.unwrap_or_else(|| workspace.target.join("dist").join(&target.triple));
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    let documents = folder.join(DOCUMENTS);
    fs::create_dir_all(&documents)?;
    fs::create_dir_all(folder.join(PROGRAMS))?;
    for name in SHIPPED {
        let program = artifacts::program(&made, name)?;
        fs::copy(program, folder.join(PROGRAMS).join(name))?;
    }
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        fs::copy(workspace.root.join(licence), documents.join(licence))?;
    }
    fs::copy(
        workspace.root.join("ebpf-programs/LICENSE.md"),
        documents.join("LICENSE-KERNEL-PROGRAMS.md"),
    )?;
    let text = licences::of(&graph)?;
    fs::write(documents.join("THIRD-PARTY-LICENSES.txt"), text)?;
    fs::write(documents.join(SBOM), sbom::of(&graph)?)?;
    Ok(Dist {
        version: graph.version().to_owned(),
        target: target.triple,
        folder,
    })
}

/// What the programs are built for.
struct Target {
    triple: String,
    /// The variable that names the C compiler, and its value; none for that of the machine.
    compiler: Option<(String, &'static str)>,
}

impl Target {
    /// Static where Rust's library for it is there; else as the machine builds for itself.
    fn choose() -> anyhow::Result<Self> {
        if let Ok(own) = StaticTarget::own()
            && own.has_library()
        {
            return Ok(Self {
                triple: own.triple.to_owned(),
                compiler: Some(own.compiler_variable()),
            });
        }
        let about = process::read(Command::new("rustc").arg("-vV"))?;
        let host = about.lines().find_map(|line| line.strip_prefix("host: "));
        let triple = host.context("rustc does not say what it builds for")?;
        println!(
            "the programs will need the C library of the machine: Rust has none for musl here"
        );
        Ok(Self {
            triple: triple.to_owned(),
            compiler: None,
        })
    }

    fn build(&self, workspace: &Workspace) -> anyhow::Result<Vec<artifacts::Executable>> {
        let target = format!("--target={}", self.triple);
        let mut arguments = vec!["build", "--locked", "--profile", PROFILE, &target];
        let packages = SHIPPED.map(|name| format!("--package={name}"));
        arguments.extend(packages.iter().map(String::as_str));
        artifacts::build_with(workspace, &arguments, self.compiler.as_slice())
    }
}
