//! `cargo xtask vm`: the program tests and the core scenarios on other kernels, under QEMU.
//!
//! Per kernel: fetch it once (`fetch`), pack it with the test binaries into an initramfs
//! (`image`), boot that (`machine`), read the results from its second serial port. What runs is
//! data under `tests/vm/`: kernels, suites, modules, and the first process of the machine.
//!
//! The failures of all kernels are collected before the run fails.

mod cpio;
pub mod emulator;
mod fetch;
mod image;
mod kernels;
mod machine;
mod mirror;
mod modules;
mod results;
mod run;

pub use kernels::SuiteSpec;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::artifacts::{Binaries, Executable, Profile};
use crate::report::Report;
use crate::setup::{self, Need};
use crate::suites;
use crate::vm::emulator::Emulator;
use crate::vm::fetch::Kernel;
use crate::vm::image::{Contents, Image};
use crate::vm::kernels::KernelSpec;
use crate::vm::machine::Clock;
use crate::vm::results::Results;
use crate::vm::run::Run;
use crate::workspace::Workspace;

/// The kernels to run on and the suites to run.
#[derive(Debug)]
pub struct Matrix {
    kernels: Vec<KernelSpec>,
    suites: Vec<SuiteSpec>,
    /// Run the suites that measure, instead of all others.
    measure: bool,
}

/// What the user may ask of a run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which kernel: a name in tests/vm/kernels.json, or all
    #[arg(long, default_value = "all")]
    kernel: String,
    /// Measure instead of testing: figures of an emulated machine, good for ratios alone
    #[arg(long)]
    bench: bool,
    /// Run only tests whose name contains this
    filter: Option<String>,
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
pub fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<ExitCode> {
    let needs = [Need::EbpfToolchain, Need::Emulator, Need::VmTools];
    setup::ensure(workspace, &needs)?;
    let mut matrix = Matrix::load(workspace)?;
    matrix.measure = options.bench;
    matrix.select(&options.kernel)?;
    matrix.fetch_all(workspace)?;
    let (binaries, profile) = if options.bench {
        let profile = Profile::Release;
        (Binaries::build_with_tests(workspace, profile)?, profile)
    } else {
        let profile = Profile::Dev;
        (Binaries::build_for_tests(workspace, profile)?, profile)
    };
    let made = suites::build_some(workspace, profile, matrix.chosen())?;
    let subject = Subject {
        made: &made,
        binaries: &binaries,
        filter: options.filter.as_deref(),
    };
    let report = matrix.run(workspace, &subject)?;
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
            measure: false,
        })
    }

    /// The suites to run.
    fn chosen(&self) -> impl Iterator<Item = &SuiteSpec> {
        self.suites
            .iter()
            .filter(|suite| suite.measures == self.measure)
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

    /// Runs the suites on every kernel, with a result line for each.
    ///
    /// Machines have one processor each, and as many run at a time as there are processors here:
    /// emulation shares nothing between machines, but much between the processors of one.
    pub fn run(&self, workspace: &Workspace, subject: &Subject<'_>) -> anyhow::Result<Report> {
        let common = image::common(&self.contents(workspace, subject)?)?;
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let at_a_time = processors.min(self.kernels.len());
        println!(
            "\n     {} kernels, {at_a_time} at a time",
            self.kernels.len()
        );
        let queue = Mutex::new(self.kernels.iter().enumerate());
        let next = || queue.lock().expect("no holder of this lock panics").next();
        let runs = Mutex::new(BTreeMap::new());
        thread::scope(|scope| {
            for _ in 0..at_a_time {
                scope.spawn(|| {
                    while let Some((index, spec)) = next() {
                        let run = self.run_kernel(workspace, spec, &common, subject);
                        let mut runs = runs.lock().expect("no holder of this lock panics");
                        println!("{run}");
                        runs.insert(index, run);
                    }
                });
            }
        });
        let runs = runs.into_inner().expect("no holder of this lock panics");
        println!();
        let mut all = Report::default();
        for run in runs.into_values() {
            println!("{}", run.line());
            all.merge(run.report);
        }
        Ok(all)
    }

    fn run_kernel(
        &self,
        workspace: &Workspace,
        spec: &KernelSpec,
        common: &Image,
        subject: &Subject<'_>,
    ) -> Run {
        let begun = Instant::now();
        let mut run = Run::of(&spec.name);
        if let Err(error) = self.boot(workspace, spec, common, subject, &mut run) {
            run.fail(&format!("{error:#}"));
        }
        run.seconds = begun.elapsed().as_secs();
        run
    }

    fn boot(
        &self,
        workspace: &Workspace,
        spec: &KernelSpec,
        common: &Image,
        subject: &Subject<'_>,
        run: &mut Run,
    ) -> anyhow::Result<()> {
        let kernel = Kernel::cached(&workspace.target, spec)
            .context("it is not here; `cargo xtask setup` fetches it")?;
        let folder = workspace.target.join("vm").join("runs").join(&spec.name);
        let initramfs = folder.join("initramfs");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        image::write(common, &kernel, &workspace.root, &initramfs)?;
        let limit = Duration::from_mins(spec.minutes);
        let emulator = Emulator::find(&workspace.target, &setup::places())
            .context("no emulator is here; `cargo xtask setup` fetches it")?;
        let clock = if self.measure {
            Clock::Instructions
        } else {
            Clock::Outside
        };
        let verdict = machine::boot(&emulator, &kernel.image, &initramfs, &folder, clock, limit)?;
        run.show(format!("\n     kernel {} ({})", spec.name, kernel.release));
        let results = read_results(&folder)?;
        if subject.filter.is_none() && results.done {
            for suite in self.chosen() {
                suite
                    .missed(&results.suites)
                    .iter()
                    .for_each(|missed| run.fail(missed));
            }
        }
        run.take(results, |target| self.is_for_machines_only(target));
        run.judge(&verdict, &folder.join(machine::CONSOLE));
        Ok(())
    }

    /// True for an integration test that this machine is not expected to run itself.
    pub fn is_for_machines_only(&self, target: &str) -> bool {
        let suite = self.suites.iter().find(|suite| suite.target == target);
        suite.is_some_and(|suite| suite.machines_only || suite.measures)
    }

    /// What goes into the machine beside the kernel.
    fn contents(&self, workspace: &Workspace, subject: &Subject<'_>) -> anyhow::Result<Contents> {
        let mut suites = Vec::new();
        for suite in self.chosen() {
            let path = suites::find(workspace, subject.made, suite);
            let path = path.with_context(|| {
                format!(
                    "tests/vm/suites.json names {}, which is no test of {}",
                    suite.target, suite.package
                )
            })?;
            suites.push((suite.clone(), path.to_path_buf()));
        }
        let programs = suites::programs(workspace, subject.made);
        Ok(Contents {
            workspace: workspace.root.clone(),
            suites,
            binaries: subject.binaries.clone(),
            programs: programs.into_iter().map(Path::to_path_buf).collect(),
            filter: subject.filter.map(str::to_owned),
        })
    }
}

fn read_results(folder: &Path) -> anyhow::Result<Results> {
    let log = folder.join(machine::RESULTS);
    let text = std::fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(results::parse(&String::from_utf8_lossy(&text)))
}
