//! How a machine comes by a compiler and a linker for the kernel programs.
//!
//! [`next`] decides, from what was seen, the one next step; [`install`] takes it and looks again.
//! Each step is tried once, so the loop ends.
//!
//! A compiler is of use only if an LLVM as new as its own can be had for the linker. For the
//! distribution's compiler that holds by construction, so root takes that one where it is on
//! offer. An ordinary user asks rustup first, because rustup needs no root; so does everybody
//! where the distribution has nothing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use ebpf_build::{Compiler, Flavor, Places, Toolchain};

use crate::process::{self, End};
use crate::setup::apt::{self, Apt};
use crate::setup::places;

/// The release this project is tested with, and the LLVM releases it can be built for.
const LINKER_VERSION: &str = "0.13.0";
const LINKER_LLVMS: std::ops::RangeInclusive<u32> = 21..=23;

/// The distribution's compiler, its cargo, the sources of `core`, and its linter.
const COMPILER_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"];

/// rustup answers at once or not at all; an unreachable server must not hold the set-up for long.
const FETCH_LIMIT: Duration = Duration::from_mins(5);

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Step {
    /// Let rustup fetch `rust-src`, and a nightly if there is none.
    FetchWithRustup,
    /// Install the distribution's compiler.
    InstallCompiler,
    /// Build bpf-linker for this LLVM.
    BuildLinker(u32),
}

/// What the decision rests on.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Flavor and LLVM of each usable compiler, the best first.
    compilers: Vec<(Flavor, Option<u32>)>,
    rustup: bool,
    /// The distribution offers its compiler.
    packages: bool,
    /// We may install packages.
    root: bool,
    /// LLVM releases whose development files are installed or on offer.
    llvms: Vec<u32>,
    tried: Vec<Step>,
}

/// The next step towards a complete toolchain, or none when there is nothing left to try.
fn next(seen: &Seen) -> Option<Step> {
    let has = |flavor| seen.compilers.iter().any(|(found, _)| *found == flavor);
    let linkers = seen.compilers.iter().filter_map(|(_, llvm)| *llvm);
    let linkers = linkers
        .filter(|llvm| seen.llvms.contains(llvm))
        .map(Step::BuildLinker);
    let fetch = (seen.rustup && !has(Flavor::RustupNightly)).then_some(Step::FetchWithRustup);
    let install = (seen.packages && !has(Flavor::Distribution)).then_some(Step::InstallCompiler);
    let compilers = if seen.root {
        [install, fetch]
    } else {
        [fetch, install]
    };
    linkers
        .chain(compilers.into_iter().flatten())
        .find(|step| !seen.tried.contains(step))
}

/// Takes steps until the toolchain is complete, or only root can go on.
pub fn install(apt: &mut Apt) -> anyhow::Result<()> {
    let mut tried = Vec::new();
    loop {
        let places = places();
        if Toolchain::find_in(&places).is_ok() {
            return Ok(());
        }
        let seen = look(&places, apt, tried.clone())?;
        let Some(step) = next(&seen) else {
            return stuck(&places, &tried);
        };
        tried.push(step);
        let done = match step {
            Step::FetchWithRustup => fetch_with_rustup(&places)?,
            Step::InstallCompiler => install_compiler(apt)?,
            Step::BuildLinker(llvm) => build_linker(apt, llvm)?,
        };
        if !done && step != Step::FetchWithRustup {
            // Noted for root; there is nothing to build before that.
            return Ok(());
        }
    }
}

fn look(places: &Places, apt: &mut Apt, tried: Vec<Step>) -> anyhow::Result<Seen> {
    let (compilers, _) = Compiler::find_in(places);
    let mut llvms = Vec::new();
    for llvm in LINKER_LLVMS {
        if llvm_installed(llvm) || apt.offers(&format!("llvm-{llvm}-dev"))? {
            llvms.push(llvm);
        }
    }
    Ok(Seen {
        compilers: compilers
            .iter()
            .map(|found| (found.flavor, found.llvm))
            .collect(),
        rustup: places.program("rustup").is_some(),
        packages: apt.offers(COMPILER_PACKAGES[0])?,
        root: apt.root(),
        llvms,
        tried,
    })
}

fn stuck(places: &Places, tried: &[Step]) -> anyhow::Result<()> {
    let missing = Toolchain::find_in(places)
        .err()
        .map(|missing| missing.to_string());
    anyhow::bail!(
        "no way is left to a complete eBPF toolchain ({}); tried: {tried:?}. What serves: a \
         rustup nightly with rust-src, or the packages {}; and the development files of an LLVM \
         between {} and {} that is not older than the one of the compiler",
        missing.unwrap_or_default(),
        COMPILER_PACKAGES.join(", "),
        LINKER_LLVMS.start(),
        LINKER_LLVMS.end()
    )
}

/// Tells whether rustup brought the sources; not being able to fetch is no error.
fn fetch_with_rustup(places: &Places) -> anyhow::Result<bool> {
    let rustup = places
        .program("rustup")
        .context("rustup has just been here")?;
    let installed = process::read(Command::new(&rustup).args(["toolchain", "list"]))?;
    let mut command = Command::new(&rustup);
    command.env_remove("RUSTUP_TOOLCHAIN");
    let nightly = installed.lines().find(|line| line.starts_with("nightly-"));
    if let Some(name) = nightly.and_then(|line| line.split_whitespace().next()) {
        command.args([
            "component",
            "add",
            "rust-src",
            "clippy",
            "--toolchain",
            name,
        ]);
    } else {
        command.args(["toolchain", "install", "nightly"]);
        command.args(["--profile=minimal", "--component=rust-src,clippy"]);
        // The user's rustup is not ours to replace.
        command.arg("--no-self-update");
    }
    println!("setup: the eBPF compiler needs the sources of `core`; asking rustup for them");
    println!("+ {}", process::line_of(&command));
    let end = process::follow(&mut command, FETCH_LIMIT, |line| {
        println!("{line}");
        true
    })?;
    let fetched = matches!(end, End::Exited(status) if status.success());
    if !fetched {
        println!("setup: rustup cannot fetch them here");
    }
    Ok(fetched)
}

fn install_compiler(apt: &mut Apt) -> anyhow::Result<bool> {
    let why = "the compiler of the kernel programs, with the sources of `core`";
    if apt.install(&COMPILER_PACKAGES, why)? {
        return Ok(true);
    }
    // Root shall be asked once, not again for the linker.
    if let Some(llvm) = apt::llvm_behind(COMPILER_PACKAGES[0]) {
        install_llvm(apt, llvm)?;
    }
    Ok(false)
}

fn build_linker(apt: &mut Apt, llvm: u32) -> anyhow::Result<bool> {
    if !install_llvm(apt, llvm)? {
        return Ok(false);
    }
    println!("setup: building bpf-linker {LINKER_VERSION} for LLVM {llvm}, about a minute");
    let prefix = llvm_prefix(llvm);
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .env("LLVM_PREFIX", &prefix)
        .env(format!("LLVM_SYS_{llvm}1_PREFIX"), &prefix)
        .args([
            "install",
            "bpf-linker",
            "--version",
            LINKER_VERSION,
            "--locked",
            "--force",
        ])
        .args([
            "--no-default-features",
            "--features",
            &format!("llvm-{llvm}"),
        ]);
    process::run(&mut command)?;
    Ok(true)
}

fn install_llvm(apt: &mut Apt, llvm: u32) -> anyhow::Result<bool> {
    if llvm_installed(llvm) && places().program("g++").is_some() {
        return Ok(true);
    }
    let (llvm_dev, polly_dev) = (format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"));
    let packages = ["g++", "zlib1g-dev", "libzstd-dev", &llvm_dev, &polly_dev];
    apt.install(
        &packages,
        "bpf-linker is built against the LLVM of the compiler",
    )
}

fn llvm_installed(llvm: u32) -> bool {
    let prefix = llvm_prefix(llvm);
    let prefix = Path::new(&prefix);
    prefix.join("bin/llvm-config").exists() && prefix.join("lib/libPolly.a").exists()
}

fn llvm_prefix(llvm: u32) -> String {
    format!("/usr/lib/llvm-{llvm}")
}

#[cfg(test)]
mod tests {
    use ebpf_build::Flavor::{Distribution, RustupNightly};

    use super::{Seen, Step, next};

    fn seen() -> Seen {
        Seen {
            rustup: true,
            packages: true,
            llvms: vec![22],
            ..Seen::default()
        }
    }

    #[test]
    fn ordinary_user_asks_rustup_first() {
        assert_eq!(next(&seen()), Some(Step::FetchWithRustup));
    }

    #[test]
    fn root_takes_the_packages_where_they_are_on_offer() {
        let root = Seen {
            root: true,
            ..seen()
        };
        assert_eq!(next(&root), Some(Step::InstallCompiler));
        assert_eq!(
            next(&Seen {
                packages: false,
                ..root
            }),
            Some(Step::FetchWithRustup)
        );
    }

    #[test]
    fn packaged_compiler_that_is_too_old_gives_way_to_rustup() {
        let tried = vec![Step::InstallCompiler];
        assert_eq!(
            next(&Seen {
                root: true,
                tried,
                ..seen()
            }),
            Some(Step::FetchWithRustup)
        );
    }

    #[test]
    fn packages_serve_where_rustup_is_absent_or_cannot_fetch() {
        let absent = Seen {
            rustup: false,
            ..seen()
        };
        let failed = Seen {
            tried: vec![Step::FetchWithRustup],
            ..seen()
        };
        assert_eq!(next(&absent), Some(Step::InstallCompiler));
        assert_eq!(next(&failed), Some(Step::InstallCompiler));
    }

    #[test]
    fn linker_follows_the_compiler() {
        let nightly = Seen {
            compilers: vec![(RustupNightly, Some(22))],
            ..seen()
        };
        assert_eq!(next(&nightly), Some(Step::BuildLinker(22)));
    }

    #[test]
    fn nightly_whose_llvm_is_not_to_be_had_gives_way_to_packages() {
        let nightly = Seen {
            compilers: vec![(RustupNightly, Some(24))],
            ..seen()
        };
        assert_eq!(next(&nightly), Some(Step::InstallCompiler));
        let both = vec![(RustupNightly, Some(24)), (Distribution, Some(22))];
        assert_eq!(
            next(&Seen {
                compilers: both,
                ..seen()
            }),
            Some(Step::BuildLinker(22))
        );
    }

    #[test]
    fn no_step_is_tried_twice() {
        let mut seen = Seen {
            compilers: vec![(Distribution, Some(22))],
            ..seen()
        };
        let mut steps = Vec::new();
        while let Some(step) = next(&seen) {
            assert!(steps.len() < 4, "{steps:?}");
            steps.push(step);
            seen.tried.push(step);
        }
        assert_eq!(steps, [Step::BuildLinker(22), Step::FetchWithRustup]);
    }
}
