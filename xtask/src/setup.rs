//! `cargo xtask setup`: finds or installs what the other verbs need.
//!
//! Rules: nothing is touched and no network is used while nothing is missing; every installed
//! thing is announced with the reason; what only root may do is printed, all of it at once, for
//! an ordinary user to hand to root.

pub mod apt;
pub mod manifest_tools;
mod programs;
mod toolchain;

use std::process::ExitCode;

use ebpf_build::{Places, Toolchain};

use crate::dist::StaticTarget;
use crate::setup::apt::Apt;
use crate::vm;
use crate::vm::emulator::Emulator;
use crate::workspace::Workspace;

/// Something a verb cannot do without.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Need {
    /// Compiler and linker for the kernel programs.
    EbpfToolchain,
    /// What builds and inspects clusters of network namespaces.
    NetworkTools,
    /// What renders the manifests and the chart.
    ManifestTools,
    /// What builds programs for the image. Only asked for where one is built.
    StaticTarget,
    /// What looks at programs for images of the other architectures. Only asked for by lints.
    ForeignTarget,
    /// What boots virtual machines.
    Emulator,
    /// What goes into them.
    VmTools,
    /// The kernels they boot.
    VmKernels,
}

const ALL: [Need; 6] = [
    Need::EbpfToolchain,
    Need::NetworkTools,
    Need::ManifestTools,
    Need::Emulator,
    Need::VmTools,
    Need::VmKernels,
];

/// What the tests on other kernels need.
pub const MACHINES: [Need; 3] = [Need::Emulator, Need::VmTools, Need::VmKernels];

impl Need {
    fn title(self) -> &'static str {
        match self {
            Self::EbpfToolchain => "eBPF toolchain",
            Self::NetworkTools => "network tools",
            Self::ManifestTools => "manifest tools",
            Self::StaticTarget => "static target",
            Self::ForeignTarget => "foreign target",
            Self::Emulator => "emulator",
            Self::VmTools => "VM tools",
            Self::VmKernels => "VM kernels",
        }
    }

    /// What is there, or else what lacks.
    fn look(self, workspace: &Workspace, places: &Places) -> Result<String, String> {
        match self {
            Self::EbpfToolchain => match Toolchain::find_in(places) {
                Ok(found) => Ok(format!(
                    "{} ({}), {}",
                    found.compiler.version,
                    found.compiler.rustc.display(),
                    found.linker.path.display()
                )),
                Err(missing) => Err(missing.to_string()),
            },
            Self::NetworkTools => programs::look(places, &programs::NETWORK),
            Self::ManifestTools => manifest_tools::look(&workspace.target, places),
            Self::StaticTarget => match StaticTarget::own() {
                Ok(own) => own.look(places),
                Err(error) => Err(format!("{error:#}")),
            },
            Self::ForeignTarget => {
                let all: Result<Vec<_>, _> = StaticTarget::foreign()
                    .map(|target| target.look(places))
                    .collect();
                all.map(|found| found.join(", "))
            }
            Self::Emulator => Emulator::look(&workspace.target, places),
            Self::VmTools => programs::look(places, &programs::VM),
            Self::VmKernels => match vm::Matrix::load(workspace) {
                Ok(matrix) => matrix.look(workspace),
                Err(error) => Err(format!("{error:#}")),
            },
        }
    }
}

/// The verb itself: installs, then lists what there is. With `check` it only lists.
pub fn run(workspace: &Workspace, check: bool) -> anyhow::Result<ExitCode> {
    if !check {
        ensure(workspace, &ALL)?;
    }
    let places = places();
    let mut complete = true;
    for need in ALL {
        match need.look(workspace, &places) {
            Ok(found) => println!("{:<15} ok: {found}", need.title()),
            Err(lacks) => {
                complete = false;
                println!("{:<15} MISSING: {lacks}", need.title());
            }
        }
    }
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Makes sure that the given needs are met, or fails with what to do about it.
pub fn ensure(workspace: &Workspace, needs: &[Need]) -> anyhow::Result<()> {
    let mut apt = Apt::new();
    for &need in needs {
        let Err(lacks) = need.look(workspace, &places()) else {
            continue;
        };
        println!("setup: {}: {lacks}", need.title());
        match need {
            Need::EbpfToolchain => toolchain::install(&mut apt)?,
            Need::NetworkTools => programs::install(&mut apt, &places(), &programs::NETWORK)?,
            Need::ManifestTools => {
                manifest_tools::install(&workspace.target, &places(), &mut apt)?;
            }
            Need::StaticTarget => StaticTarget::own()?.install(&mut apt)?,
            Need::ForeignTarget => {
                StaticTarget::foreign().try_for_each(|target| target.install(&mut apt))?;
            }
            Need::Emulator => Emulator::install(&workspace.target, &mut apt)?,
            Need::VmTools => programs::install(&mut apt, &places(), &programs::VM)?,
            Need::VmKernels => vm::Matrix::load(workspace)?.fetch_all(workspace)?,
        }
    }
    apt.conclude()?;
    let places = places();
    for &need in needs {
        if let Err(lacks) = need.look(workspace, &places) {
            anyhow::bail!("{}: still missing after the set-up: {lacks}", need.title());
        }
    }
    Ok(())
}

/// The machine, with the folders of root's programs on the search path: `ip` and `bpftool` lie
/// there, and an ordinary user's shell does not look there.
pub fn places() -> Places {
    let mut places = Places::of_this_machine();
    places
        .path
        .extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Into::into));
    places
}
