//! `cargo xtask vm`: the program tests and the core scenarios on other kernels, under QEMU.
//!
//! Per kernel: fetch it once (`fetch`), pack it with the test binaries into an initramfs
//! (`image`), boot that (`machine`), read the results from its second serial port. What runs is
//! data under `tests/vm/`: kernels, suites, modules, and the first process of the machine.
//!
//! The failures of all kernels are collected before the run fails.

mod cpio;
mod fetch;
mod image;
mod kernels;
mod machine;
mod mirror;
mod modules;
mod results;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::artifacts::{Binaries, Executable, Kind, Profile};
use crate::report::{Report, Skips};
use crate::setup::{self, Need};
use crate::suites;
use crate::vm::fetch::Kernel;
use crate::vm::image::Contents;
use crate::vm::kernels::{KernelSpec, SuiteSpec};
use crate::vm::machine::Verdict;
use crate::vm::results::Results;
use crate::workspace::Workspace;

/// The kernels to run on and the suites to run.
#[derive(Debug)]
pub struct Matrix {
    kernels: Vec<KernelSpec>,
    suites: Vec<SuiteSpec>,
}

/// What the machines run.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Test binaries and programs that cargo made.
    pub made: &'a [Executable],
    /// The agent and the command line.
    pub binaries: &'a Binaries,
    /// Run only tests whose name contains this.
    pub filter: Option<&'a str>,
}

/// The verb itself.
pub fn run(workspace: &Workspace, kernel: &str, filter: Option<&str>) -> anyhow::Result<ExitCode> {
    setup::ensure(workspace, &[Need::EbpfToolchain, Need::VmTools])?;
    let mut matrix = Matrix::load(workspace)?;
    matrix.select(kernel)?;
    matrix.fetch_all(workspace)?;
    let binaries = Binaries::build(workspace, Profile::Dev)?;
    let made = suites::build_root_suites(workspace)?;
    let subject = Subject {
        made: &made,
        binaries: &binaries,
        filter,
    };
    let report = matrix.run(workspace, &subject);
    println!();
    Ok(report.conclude())
}

impl Matrix {
    /// Reads `tests/vm/`.
    pub fn load(workspace: &Workspace) -> anyhow::Result<Self> {
        let folder = workspace.root.join("tests/vm");
        Ok(Self {
            kernels: kernels::read(&folder.join("kernels.json"))?,
            suites: kernels::read(&folder.join("suites.json"))?,
        })
    }

    /// Narrows the matrix to one kernel, or leaves it for `all`.
    fn select(&mut self, name: &str) -> anyhow::Result<()> {
        let known: Vec<String> = self
            .kernels
            .iter()
            .map(|kernel| kernel.name.clone())
            .collect();
        if name != "all" {
            self.kernels.retain(|kernel| kernel.name == name);
        }
        let known = known.join(", ");
        anyhow::ensure!(
            !self.kernels.is_empty(),
            "no kernel {name}; there are {known}, and all"
        );
        Ok(())
    }

    /// Which kernels are here, or else which are not.
    pub fn look(&self, workspace: &Workspace) -> Result<String, String> {
        let (mut here, mut lacking) = (Vec::new(), Vec::new());
        for spec in &self.kernels {
            match Kernel::cached(&workspace.target, spec) {
                Some(kernel) => here.push(kernel.release),
                None => lacking.push(spec.name.as_str()),
            }
        }
        if lacking.is_empty() {
            return Ok(here.join(", "));
        }
        Err(format!(
            "the tests on other kernels need {}",
            lacking.join(", ")
        ))
    }

    /// Downloads the kernels that are not here.
    pub fn fetch_all(&self, workspace: &Workspace) -> anyhow::Result<()> {
        for spec in &self.kernels {
            if Kernel::cached(&workspace.target, spec).is_none() {
                let kernel = Kernel::fetch(&workspace.target, spec)
                    .with_context(|| format!("cannot get kernel {}", spec.name))?;
                println!("setup: kernel {} is {}", spec.name, kernel.release);
            }
        }
        Ok(())
    }

    /// Runs the suites on every kernel, one after the other, with a result line for each.
    pub fn run(&self, workspace: &Workspace, subject: &Subject<'_>) -> Report {
        let mut all = Report::default();
        let mut lines = Vec::new();
        for spec in &self.kernels {
            let begun = Instant::now();
            let mut report = Report::default();
            let suite = format!("kernel {}", spec.name);
            if let Err(error) = self.run_one(workspace, spec, subject, &mut report) {
                report.fail(&suite, &format!("{error:#}"));
            }
            let verdict = if report.succeeded() { "ok" } else { "FAILED" };
            let seconds = begun.elapsed().as_secs();
            let line = format!("{suite}: {verdict}, {} ({seconds} s)", report.summary());
            println!("{line}");
            lines.push(line);
            all.merge(report);
        }
        println!("\n{}", lines.join("\n"));
        all
    }

    fn run_one(
        &self,
        workspace: &Workspace,
        spec: &KernelSpec,
        subject: &Subject<'_>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let kernel = Kernel::cached(&workspace.target, spec)
            .context("it is not here; `cargo xtask setup` fetches it")?;
        let release = &kernel.release;
        println!(
            "\n     kernel {} ({release}), at most {} minutes",
            spec.name, spec.minutes
        );
        let contents = self.contents(workspace, subject)?;
        let folder = workspace.target.join("vm").join("runs").join(&spec.name);
        let initramfs = folder.join("initramfs");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        image::write(&contents, &kernel, &initramfs)?;
        let limit = Duration::from_mins(spec.minutes);
        let verdict = machine::boot(&kernel.image, &initramfs, &folder, limit)?;
        let suite = format!("kernel {}", spec.name);
        let results = read_results(&folder)?;
        for line in &results.shown {
            println!("{line}");
        }
        if subject.filter.is_none() && results.done {
            for missed in self
                .suites
                .iter()
                .flat_map(|listed| listed.missed(&results.suites))
            {
                report.fail(&suite, &missed);
            }
        }
        self.judge(&suite, results, &verdict, &folder, report);
        Ok(())
    }

    /// Turns what a machine said and how it came to rest into outcomes.
    fn judge(
        &self,
        suite: &str,
        results: Results,
        verdict: &Verdict,
        folder: &Path,
        report: &mut Report,
    ) {
        let done = results.done;
        for (name, outcomes) in results.suites {
            let skips = if self.is_for_machines_only(&name) {
                Skips::Fail
            } else {
                Skips::Allowed
            };
            report.add(&format!("{suite}, {name}"), outcomes, skips);
        }
        for failure in results.failures {
            report.fail(suite, &failure);
        }
        let console = folder.join(machine::CONSOLE);
        let reason = match verdict {
            Verdict::PoweredOff if done => return,
            Verdict::PoweredOff => "qemu ended before the machine was done".to_owned(),
            Verdict::Panicked(line) => line.clone(),
            Verdict::TimedOut(limit) => format!("not done after {limit:?}"),
        };
        report.fail(suite, &format!("{reason}, see {}", console.display()));
    }

    /// True for an integration test that this machine is not expected to run itself.
    pub fn is_for_machines_only(&self, target: &str) -> bool {
        let suite = self.suites.iter().find(|suite| suite.target == target);
        suite.is_some_and(|suite| suite.machines_only)
    }

    /// What goes into the machine beside the kernel.
    fn contents(&self, workspace: &Workspace, subject: &Subject<'_>) -> anyhow::Result<Contents> {
        let mut suites = Vec::new();
        for suite in &self.suites {
            let path = suites::root_suite(workspace, subject.made, &suite.target);
            let path = path.with_context(|| {
                format!(
                    "tests/vm/suites.json names {}, which is no test",
                    suite.target
                )
            })?;
            suites.push((suite.clone(), path.to_path_buf()));
        }
        let programs = subject
            .made
            .iter()
            .filter(|made| made.kind == Kind::Program);
        Ok(Contents {
            workspace: workspace.root.clone(),
            suites,
            binaries: subject.binaries.clone(),
            programs: programs.map(|made| made.path.clone()).collect(),
            filter: subject.filter.map(str::to_owned),
        })
    }
}

fn read_results(folder: &Path) -> anyhow::Result<Results> {
    let log = folder.join(machine::RESULTS);
    let text = std::fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(results::parse(&String::from_utf8_lossy(&text)))
}
