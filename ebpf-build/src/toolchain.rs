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

/// Everything needed to compile the kernel programs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Toolchain {
    /// Where the compiler comes from.
    pub flavor: Flavor,
    /// The cargo beside the compiler.
    pub cargo: PathBuf,
    /// The compiler.
    pub rustc: PathBuf,
    /// What the compiler says about itself, such as `rustc 1.96.0 (ac68faa20 2026-05-25)`.
    pub version: String,
    /// The linker that turns LLVM bitcode into one eBPF object.
    pub linker: PathBuf,
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
        let mut rejected = Vec::new();
        let compiler = find_compiler(places, &mut rejected);
        let linker = places.program("bpf-linker");
        match (compiler, linker) {
            (Some(compiler), Some(linker)) => Ok(Self { linker, ..compiler }),
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
        [&self.rustc, &self.linker]
    }
}

fn find_compiler(places: &Places, rejected: &mut Vec<String>) -> Option<Toolchain> {
    for root in rustup_nightlies(places) {
        if let Some(found) = candidate(Flavor::RustupNightly, &root, rejected) {
            return Some(found);
        }
    }
    candidate(Flavor::Distribution, &places.usr, rejected)
}

/// Judges one toolchain root; the linker is filled in by the caller.
fn candidate(flavor: Flavor, root: &Path, rejected: &mut Vec<String>) -> Option<Toolchain> {
    let (rustc, cargo) = (root.join("bin/rustc"), root.join("bin/cargo"));
    if !runs(&rustc) || !runs(&cargo) {
        return None;
    }
    if !root
        .join("lib/rustlib/src/rust/library/core/Cargo.toml")
        .is_file()
    {
        let sources = match flavor {
            Flavor::RustupNightly => "component rust-src",
            Flavor::Distribution => "package rust-web-src",
        };
        rejected.push(format!("{} lacks the {sources}", root.display()));
        return None;
    }
    let version = version_of(&rustc);
    match version.as_deref().and_then(parse_version) {
        Some(number) if number >= OLDEST_COMPILER => {
            let version = version.unwrap_or_default();
            Some(Toolchain {
                flavor,
                cargo,
                rustc,
                version,
                linker: PathBuf::new(),
            })
        }
        Some((major, minor)) => {
            let (oldest_major, oldest_minor) = OLDEST_COMPILER;
            rejected.push(format!(
                "{} is {major}.{minor}, and {oldest_major}.{oldest_minor} is the oldest that does",
                rustc.display()
            ));
            None
        }
        None => {
            rejected.push(format!("{} does not tell its version", rustc.display()));
            None
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

fn version_of(rustc: &Path) -> Option<String> {
    // The variable would make a rustup proxy answer for another toolchain.
    let output = Command::new(rustc)
        .arg("--version")
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("rustc ")?.split(['.', '-', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
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
