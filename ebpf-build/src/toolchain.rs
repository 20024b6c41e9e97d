//! The search for a compiler that can build `core` for the kernel, and for its linker.
//!
//! Decides from files alone, except for one question to each candidate: its version. A compiler
//! that is too old for the workspace is as good as none, and is named in the error.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::places::{Places, runs};

/// The oldest compiler the workspace's `rust-version` admits, as (major, minor).
pub const OLDEST_COMPILER: (u32, u32) = (1, 91);

/// Where a toolchain comes from; it decides how cargo is called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flavor {
    /// A rustup nightly with the `rust-src` component.
    RustupNightly,
    /// The distribution's stable compiler with packaged sources. It takes the unstable
    /// `-Z build-std` only when told so by `RUSTC_BOOTSTRAP`.
    Distribution,
}

/// A compiler that can build `core` for the kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Compiler {
    /// Where it comes from.
    pub flavor: Flavor,
    /// The cargo beside it.
    pub cargo: PathBuf,
    /// The compiler itself.
    pub rustc: PathBuf,
    /// What it says about itself, such as `rustc 1.96.0 (ac68faa20 2026-05-25)`.
    pub version: String,
    /// Major version of the LLVM inside it, if it tells.
    pub llvm: Option<u32>,
}

/// The program that turns LLVM bitcode into one eBPF object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Linker {
    /// Where it lies.
    pub path: PathBuf,
    /// Major version of the LLVM library it loads; none when it carries its own.
    pub llvm: Option<u32>,
}

/// Everything needed to compile the kernel programs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Toolchain {
    /// Compiles the programs and `core`.
    pub compiler: Compiler,
    /// Links them; reads the bitcode of that compiler.
    pub linker: Linker,
}

/// A part of the toolchain that this machine does not have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Missing {
    /// No compiler with the sources of `core`; what was looked at and why it does not do.
    Compiler {
        /// One line per candidate.
        rejected: Vec<String>,
    },
    /// No `bpf-linker` on `PATH` or in cargo's `bin` folder.
    Linker,
}

/// The kernel programs cannot be compiled on this machine.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}", describe(missing))]
pub struct MissingToolchain {
    /// What lacks; never empty.
    pub missing: Vec<Missing>,
    /// Existing files and folders whose change may mean that the parts came.
    pub watch: Vec<PathBuf>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler { rejected } => {
                f.write_str("no Rust compiler with the sources of `core`")?;
                if !rejected.is_empty() {
                    write!(f, " ({})", rejected.join("; "))?;
                }
                Ok(())
            }
            Self::Linker => f.write_str("no bpf-linker on PATH or in cargo's bin folder"),
        }
    }
}

impl Missing {
    /// What `cargo xtask setup` does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Compiler { .. } => {
                "adds `rust-src` to a rustup nightly, or installs the packages rustc-web, \
                 cargo-web and rust-web-src where rustup cannot fetch it"
            }
            Self::Linker => "builds bpf-linker with `cargo install`, against a matching LLVM",
        }
    }
}

fn describe(missing: &[Missing]) -> String {
    let lacks: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let remedies: Vec<&str> = missing.iter().map(Missing::remedy).collect();
    format!(
        "the eBPF toolchain is incomplete: {}. Run `cargo xtask setup`, which {}",
        lacks.join(", and "),
        remedies.join(", and "),
    )
}

impl Toolchain {
    /// Finds a complete toolchain on this machine.
    pub fn find() -> Result<Self, MissingToolchain> {
        Self::find_in(&Places::of_this_machine())
    }

    /// Finds a complete toolchain in the given places.
    pub fn find_in(places: &Places) -> Result<Self, MissingToolchain> {
        let linker = Linker::find_in(places);
        let (compilers, mut rejected) = Compiler::find_in(places);
        let fitting = compilers.into_iter().find(|compiler| match &linker {
            Some(linker) if !linker.reads(compiler) => {
                rejected.push(format!(
                    "{} is made with a newer LLVM than {}",
                    compiler.rustc.display(),
                    linker.path.display()
                ));
                false
            }
            _ => true,
        });
        match (fitting, linker) {
            (Some(compiler), Some(linker)) => Ok(Self { compiler, linker }),
            (compiler, linker) => {
                let mut missing = Vec::new();
                if compiler.is_none() {
                    missing.push(Missing::Compiler { rejected });
                }
                if linker.is_none() {
                    missing.push(Missing::Linker);
                }
                Err(MissingToolchain {
                    missing,
                    watch: signs_of_change(places),
                })
            }
        }
    }

    /// The files whose change means another toolchain, hence another object.
    pub fn watch(&self) -> [&Path; 2] {
        [&self.compiler.rustc, &self.linker.path]
    }
}

impl Linker {
    /// Finds `bpf-linker` on `PATH` or in cargo's `bin` folder.
    pub fn find_in(places: &Places) -> Option<Self> {
        let path = places.program("bpf-linker")?;
        let llvm = Command::new("ldd")
            .arg(&path)
            .output()
            .ok()
            .and_then(|output| parse_llvm_library(&String::from_utf8_lossy(&output.stdout)));
        Some(Self { path, llvm })
    }

    /// Tells whether this linker understands the bitcode of a compiler: LLVM reads what older
    /// releases wrote, never what newer ones did.
    pub fn reads(&self, compiler: &Compiler) -> bool {
        match (self.llvm, compiler.llvm) {
            (Some(reads), Some(writes)) => reads >= writes,
            _ => true,
        }
    }
}

impl Compiler {
    /// Finds all usable compilers, the best first, and says why the other ones are not.
    pub fn find_in(places: &Places) -> (Vec<Self>, Vec<String>) {
        let mut roots: Vec<(Flavor, PathBuf)> = rustup_nightlies(places)
            .into_iter()
            .map(|root| (Flavor::RustupNightly, root))
            .collect();
        roots.push((Flavor::Distribution, places.usr.clone()));
        let (mut found, mut rejected) = (Vec::new(), Vec::new());
        for (flavor, root) in roots {
            if !runs(&root.join("bin/rustc")) || !runs(&root.join("bin/cargo")) {
                continue;
            }
            match Self::judge(flavor, &root) {
                Ok(compiler) => found.push(compiler),
                Err(reason) => rejected.push(reason),
            }
        }
        (found, rejected)
    }

    fn judge(flavor: Flavor, root: &Path) -> Result<Self, String> {
        if !root
            .join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .is_file()
        {
            let sources = match flavor {
                Flavor::RustupNightly => "component rust-src",
                Flavor::Distribution => "package rust-web-src",
            };
            return Err(format!("{} lacks the {sources}", root.display()));
        }
        let rustc = root.join("bin/rustc");
        let told = ask_version(&rustc).unwrap_or_default();
        let version = told.lines().next().unwrap_or_default().to_owned();
        match parse_version(&version) {
            Some(number) if number >= OLDEST_COMPILER => Ok(Self {
                flavor,
                cargo: root.join("bin/cargo"),
                rustc,
                version,
                llvm: parse_llvm_version(&told),
            }),
            Some((major, minor)) => Err(format!(
                "{} is {major}.{minor}, and {}.{} is the oldest that does",
                rustc.display(),
                OLDEST_COMPILER.0,
                OLDEST_COMPILER.1
            )),
            None => Err(format!("{} does not tell its version", rustc.display())),
        }
    }
}

/// The nightlies of rustup: the undated one first, then the newest date.
fn rustup_nightlies(places: &Places) -> Vec<PathBuf> {
    let Some(home) = &places.rustup_home else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = home
        .join("toolchains")
        .read_dir()
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| name_of(path).starts_with("nightly-"))
        .collect();
    let dated = |path: &Path| {
        name_of(path)
            .as_bytes()
            .get(8)
            .is_some_and(u8::is_ascii_digit)
    };
    found.sort_by(|a, b| dated(a).cmp(&dated(b)).then_with(|| b.cmp(a)));
    found
}

fn name_of(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// What `rustc --version --verbose` prints.
fn ask_version(rustc: &Path) -> Option<String> {
    let output = Command::new(rustc).arg("-vV").output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse_version(line: &str) -> Option<(u32, u32)> {
    let mut numbers = line.strip_prefix("rustc ")?.split(['.', '-', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Reads the line `LLVM version: 22.1.8`.
fn parse_llvm_version(told: &str) -> Option<u32> {
    let version = told
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.trim().parse().ok()
}

/// Finds `libLLVM.so.22.1` or `libLLVM-16.so.1` among the libraries `ldd` lists.
fn parse_llvm_library(libraries: &str) -> Option<u32> {
    let name = libraries
        .lines()
        .find_map(|line| line.trim().strip_prefix("libLLVM"))?;
    let digits = name
        .trim_start_matches(".so")
        .trim_start_matches(['.', '-']);
    digits
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// Small files and folders that change when a part of the toolchain is installed.
///
/// Only what exists is named: cargo takes a watched path that does not exist for changed, at
/// every build.
fn signs_of_change(places: &Places) -> Vec<PathBuf> {
    let mut signs = vec![places.package_database.clone()];
    if let Some(home) = &places.cargo_home {
        signs.push(home.join(".crates.toml"));
        signs.push(home.join("bin"));
    }
    if let Some(home) = &places.rustup_home {
        signs.push(home.join("update-hashes"));
    }
    let components = rustup_nightlies(places)
        .into_iter()
        .map(|t| t.join("lib/rustlib/components"));
    signs.extend(components);
    signs.retain(|path| path.exists());
    signs
}

#[cfg(test)]
mod tests;
