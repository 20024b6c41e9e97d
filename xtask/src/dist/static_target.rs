//! What static programs are built with, for the architecture of this machine and for the other one that
//! images are made for.
//!
//! Types of the C library differ in musl, and those of C between architectures (`char` has no sign on
//! arm64): what compiles for one target need not for another.

use std::env::consts::ARCH;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use ebpf_build::Places;

use super::SHIPPED;
use crate::process;
use crate::setup::{self, apt::Apt};
use crate::workspace::Workspace;

/// A target of Rust that makes programs without any library of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticTarget {
    /// Rust's name.
    pub triple: &'static str,
    /// The C compiler for it on a machine of another architecture, where nothing is linked.
    cross_compiler: &'static str,
    /// Packages of Debian with that one.
    cross_packages: &'static [&'static str],
}

/// Those that images are made for.
const ALL: [StaticTarget; 2] = [
    StaticTarget {
        triple: "x86_64-unknown-linux-musl",
        cross_compiler: "x86_64-linux-gnu-gcc",
        cross_packages: &["gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"],
    },
    StaticTarget {
        triple: "aarch64-unknown-linux-musl",
        cross_compiler: "aarch64-linux-gnu-gcc",
        cross_packages: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
    },
];

impl StaticTarget {
    /// That of this machine.
    ///
    /// # Errors
    /// No image is made for machines like this one.
    pub fn own() -> anyhow::Result<Self> {
        let own = ALL.into_iter().find(|target| target.is_own());
        own.with_context(|| format!("no image is made for {ARCH}"))
    }

    /// Those of the other machines that images are made for.
    pub fn foreign() -> impl Iterator<Item = Self> {
        ALL.into_iter().filter(|target| !target.is_own())
    }

    fn is_own(self) -> bool {
        self.triple.split('-').next() == Some(ARCH)
    }

    /// Has C and assembly of the cryptography built for it, too.
    fn compiler(self) -> &'static str {
        if self.is_own() {
            "musl-gcc"
        } else {
            self.cross_compiler
        }
    }

    /// The variable that names the compiler, as the `cc` crate reads it, and its value.
    pub fn compiler_variable(self) -> (String, &'static str) {
        let variable = format!("CC_{}", self.triple.replace('-', "_"));
        (variable, self.compiler())
    }

    /// Looks whether the programs that the image holds compile.
    pub fn check(self, workspace: &Workspace) -> Command {
        let mut command = workspace.cargo();
        command.args(["check", "--locked", "--target", self.triple]);
        command.args(SHIPPED.map(|name| format!("--package={name}")));
        let (variable, compiler) = self.compiler_variable();
        command.env(variable, compiler);
        command
    }

    /// Whether Rust's library for it is here.
    pub fn has_library(self) -> bool {
        let mut command = Command::new("rustc");
        command.args(["--print", "target-libdir", "--target", self.triple]);
        let folder = process::read(&mut command);
        folder.is_ok_and(|folder| Path::new(folder.trim()).is_dir())
    }

    /// What is there to build with, or what lacks.
    pub fn look(self, places: &Places) -> Result<String, String> {
        if !self.has_library() {
            return Err(format!("no standard library of Rust for {}", self.triple));
        }
        let compiler = places.program(self.compiler());
        let compiler = compiler.ok_or_else(|| format!("no {}", self.compiler()))?;
        Ok(format!("{}, {}", self.triple, compiler.display()))
    }

    /// Fetches what lacks.
    pub fn install(self, apt: &mut Apt) -> anyhow::Result<()> {
        if !self.has_library() {
            println!(
                "setup: the image holds static programs; asking rustup for their library for {}",
                self.triple
            );
            process::run(Command::new("rustup").args(["target", "add", self.triple]))?;
        }
        if setup::places().program(self.compiler()).is_none() {
            let packages = if self.is_own() {
                &["musl-tools"]
            } else {
                self.cross_packages
            };
            apt.install(packages, "the C compiler of static programs")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::StaticTarget;

    #[test]
    fn both_architectures_are_looked_at_on_each() {
        let own = StaticTarget::own().expect("tests run where images are made");
        let mut all: Vec<_> = StaticTarget::foreign().chain([own]).collect();
        all.sort_by_key(|target| target.triple);
        let triples = all.iter().map(|target| target.triple);
        assert!(triples.eq(["aarch64-unknown-linux-musl", "x86_64-unknown-linux-musl"]));
        assert_eq!(
            all[0].compiler_variable().0,
            "CC_aarch64_unknown_linux_musl"
        );
    }
}
