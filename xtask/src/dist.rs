//! `cargo xtask dist`: the programs as they are shipped, with what has to go with them.
//!
//! The image and the archives of a release hold the same files: the programs without debug
//! information, the licences of everything that is in them, and a list of it (SBOM).

mod graph;
mod licences;
mod sbom;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{absolute, artifacts, process};

pub use graph::Graph;

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
    is_static: bool,
}

impl Target {
    /// Static where Rust's library for it is there; else as the machine builds for itself.
    fn choose() -> anyhow::Result<Self> {
        let triple = static_triple();
        if has_library(&triple) {
            return Ok(Self {
                triple,
                is_static: true,
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
            is_static: false,
        })
    }

    fn build(&self, workspace: &Workspace) -> anyhow::Result<Vec<artifacts::Executable>> {
        let target = format!("--target={}", self.triple);
        let mut arguments = vec!["build", "--locked", "--profile", PROFILE, &target];
        let packages = SHIPPED.map(|name| format!("--package={name}"));
        arguments.extend(packages.iter().map(String::as_str));
        let variables = self.is_static.then(|| compiler_of(&self.triple));
        artifacts::build_with(workspace, &arguments, variables.as_slice())
    }
}

/// Has C and assembly of the cryptography built for musl, too.
fn compiler_of(triple: &str) -> (String, &'static str) {
    (format!("CC_{}", triple.replace('-', "_")), MUSL_COMPILER)
}

/// Looks whether the programs that the image holds compile: types of the C library differ in musl.
pub fn check_static(workspace: &Workspace) -> Command {
    let triple = static_triple();
    let mut command = workspace.cargo();
    command.args(["check", "--locked", "--target", &triple]);
    command.args(SHIPPED.map(|name| format!("--package={name}")));
    let (variable, compiler) = compiler_of(&triple);
    command.env(variable, compiler);
    command
}

/// The C compiler for static programs.
const MUSL_COMPILER: &str = "musl-gcc";

fn static_triple() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

fn has_library(triple: &str) -> bool {
    let mut command = Command::new("rustc");
    command.args(["--print", "target-libdir", "--target", triple]);
    let folder = process::read(&mut command);
    folder.is_ok_and(|folder| Path::new(folder.trim()).is_dir())
}

/// Whether static programs can be built, or what lacks.
pub fn look_static(places: &ebpf_build::Places) -> Result<String, String> {
    let triple = static_triple();
    if !has_library(&triple) {
        return Err(format!("no standard library of Rust for {triple}"));
    }
    let compiler = places.program(MUSL_COMPILER);
    let compiler = compiler.ok_or_else(|| format!("no {MUSL_COMPILER}"))?;
    Ok(format!("{triple}, {}", compiler.display()))
}

/// Fetches what static programs are built with.
pub fn install_static(apt: &mut setup::apt::Apt) -> anyhow::Result<()> {
    if !has_library(&static_triple()) {
        println!("setup: the image holds static programs; asking rustup for their library");
        process::run(Command::new("rustup").args(["target", "add", &static_triple()]))?;
    }
    if setup::places().program(MUSL_COMPILER).is_none() {
        apt.install(&["musl-tools"], "the C compiler of static programs")?;
    }
    Ok(())
}
