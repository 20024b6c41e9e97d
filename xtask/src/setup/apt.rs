//! The distribution's packages: asked about by anybody, installed by root.

use std::path::Path;
use std::process::Command;

use crate::process;

/// What apt would do to install a package.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// `NAME=VERSION` of what it would install.
    pub installed: Vec<String>,
    /// Names of what it would remove to make room.
    pub removed: Vec<String>,
}

/// One conversation with apt.
#[derive(Debug)]
pub struct Apt {
    present: bool,
    root: bool,
    /// Package lists are fetched once, and only when something must be installed.
    updated: bool,
    /// What an ordinary user has to ask root for.
    pending: Vec<String>,
}

impl Apt {
    /// Looks whether there is an apt, and who we are.
    pub fn new() -> Self {
        Self {
            present: Path::new("/usr/bin/apt-get").exists(),
            root: nix::unistd::geteuid().is_root(),
            updated: false,
            pending: Vec::new(),
        }
    }

    /// Tells whether packages can be installed at once.
    pub fn root(&self) -> bool {
        self.root
    }

    /// Tells whether a package is installed or can be.
    pub fn offers(&mut self, package: &str) -> anyhow::Result<bool> {
        if !self.present {
            return Ok(false);
        }
        self.update()?;
        let policy = process::read(Command::new("apt-cache").args(["policy", package]))?;
        Ok(has_candidate(&policy))
    }

    /// What installing a package would do. None if nothing can be installed now.
    pub fn plan(&mut self, package: &str) -> anyhow::Result<Option<Plan>> {
        if !(self.present && self.root) {
            return Ok(None);
        }
        self.update()?;
        let mut command = Command::new("apt-get");
        command.args([
            "install",
            "--simulate",
            "--quiet=2",
            "--no-install-recommends",
            package,
        ]);
        Ok(Some(parse_plan(&process::read(&mut command)?)))
    }

    /// Installs packages, or notes them for root.
    ///
    /// Tells whether they are there now. Never removes another package to make room.
    pub fn install(&mut self, packages: &[&str], why: &str) -> anyhow::Result<bool> {
        if !(self.present && self.root) {
            for package in packages {
                if !self.pending.iter().any(|pending| pending == package) {
                    self.pending.push((*package).to_owned());
                }
            }
            return Ok(false);
        }
        self.update()?;
        println!("setup: installing {}: {why}", packages.join(" "));
        let mut command = install_command();
        process::run(
            command
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(packages),
        )?;
        Ok(true)
    }

    /// Fails with the commands for root if some were noted.
    pub fn conclude(self) -> anyhow::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(
            self.present,
            "this machine has no apt; install what these Debian packages hold, then run this \
             command again:\n\n    {}",
            self.pending.join(" ")
        );
        let install = process::line_of(install_command().args(&self.pending));
        anyhow::bail!(
            "only root can install what is missing; run these as root, then this command again:\n\
             \n    apt-get update\n    {install}"
        )
    }

    fn update(&mut self) -> anyhow::Result<()> {
        if !self.updated && self.root {
            println!("setup: fetching the package lists");
            process::run(Command::new("apt-get").args(["update", "--quiet=2"]))?;
            self.updated = true;
        }
        Ok(())
    }
}

/// The major version of the LLVM that a package brings along, as far as apt knows.
pub fn llvm_behind(package: &str) -> Option<u32> {
    let mut command = Command::new("apt-cache");
    command.args(["depends", "--recurse", "--important", package]);
    parse_llvm_package(&process::read(&mut command).ok()?)
}

fn install_command() -> Command {
    let mut command = Command::new("apt-get");
    command.args([
        "install",
        "--yes",
        "--quiet=2",
        "--no-install-recommends",
        "--no-remove",
    ]);
    command
}

/// Reads `apt-cache policy`: a package nobody offers has no section, or no candidate in it.
fn has_candidate(policy: &str) -> bool {
    policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))
        .is_some_and(|candidate| candidate != "(none)")
}

/// Reads what `apt-get --simulate` prints: `Inst NAME [OLD] (VERSION ORIGIN [ARCH])`, `Remv NAME ...`.
fn parse_plan(simulated: &str) -> Plan {
    let mut plan = Plan::default();
    for line in simulated.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("Inst"), Some(name)) => {
                let version = words.find_map(|word| word.strip_prefix('('));
                plan.installed
                    .extend(version.map(|version| format!("{name}={version}")));
            }
            (Some("Remv"), Some(name)) => plan.removed.push(name.to_owned()),
            _ => {}
        }
    }
    plan
}

/// Finds the newest `libllvmN` among dependencies.
fn parse_llvm_package(depends: &str) -> Option<u32> {
    depends
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("libllvm")?.parse().ok())
        .max()
}

#[cfg(test)]
mod tests {
    use super::{Apt, Plan, has_candidate, parse_llvm_package, parse_plan};

    #[test]
    fn a_simulation_tells_what_comes_and_what_goes() {
        let simulated = "Remv tools [1:10.0+b1]\n\
                         Inst data (1:7.2 Debian:12.15/oldstable [all])\n\
                         Inst library [1.0] (1.1-2 Debian:12.15/oldstable [amd64])\n\
                         Conf data (1:7.2 Debian:12.15/oldstable [all])\n";
        let expected = Plan {
            installed: vec!["data=1:7.2".to_owned(), "library=1.1-2".to_owned()],
            removed: vec!["tools".to_owned()],
        };
        assert_eq!(parse_plan(simulated), expected);
        assert_eq!(parse_plan(""), Plan::default());
    }

    #[test]
    fn an_ordinary_user_gets_the_exact_commands_for_root() {
        let mut apt = Apt {
            present: true,
            root: false,
            updated: false,
            pending: Vec::new(),
        };
        for packages in [
            &["rustc-web", "rust-web-src"][..],
            &["iproute2"],
            &["iproute2"],
        ] {
            assert!(!apt.install(packages, "a test").unwrap());
        }
        assert_eq!(
            apt.conclude().unwrap_err().to_string(),
            "only root can install what is missing; run these as root, then this command again:\n\n    \
             apt-get update\n    \
             apt-get install --yes --quiet=2 --no-install-recommends --no-remove rustc-web \
             rust-web-src iproute2"
        );
    }

    #[test]
    fn candidates_are_read_from_policy() {
        assert!(has_candidate(
            "tc:\n  Installed: (none)\n  Candidate: 1.2-3\n"
        ));
        assert!(!has_candidate(
            "tc:\n  Installed: (none)\n  Candidate: (none)\n"
        ));
        assert!(!has_candidate(""));
    }

    #[test]
    fn llvm_is_found_among_dependencies() {
        let depends = "rustc-web\n  Depends: gcc\nlibstd-rust-web-1.96\n  Depends: libllvm22\n";
        assert_eq!(parse_llvm_package(depends), Some(22));
        assert_eq!(parse_llvm_package("gcc\n  Depends: cpp\n"), None);
    }
}
