//! QEMU: the machine's own, or one unpacked under `target/` where apt cannot install it without
//! removing something else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use ebpf_build::Places;

use crate::process;
use crate::setup::apt::{self, Apt};
use crate::vm::fetch;

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
const WHY: &str = "qemu-system-x86_64 boots the kernels";

/// Where Debian's packages put libraries, below the folder they are unpacked in.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// A QEMU that can be started.
#[derive(Clone, Debug)]
pub struct Emulator {
    program: PathBuf,
    /// Folder it was unpacked in; none if it is installed.
    unpacked: Option<PathBuf>,
}

impl Emulator {
    /// The one of this machine, or the one that an earlier set-up unpacked.
    pub fn find(target: &Path, places: &Places) -> Option<Self> {
        if let Some(program) = places.program(PROGRAM) {
            return Some(Self {
                program,
                unpacked: None,
            });
        }
        let folder = folder(target);
        let program = folder.join("usr/bin").join(PROGRAM);
        program.exists().then_some(Self {
            program,
            unpacked: Some(folder),
        })
    }

    /// What is there, or else what lacks and why it is wanted.
    pub fn look(target: &Path, places: &Places) -> Result<String, String> {
        match Self::find(target, places) {
            Some(found) => Ok(found.program.display().to_string()),
            None => Err(format!("no {PROGRAM} (boots the kernels)")),
        }
    }

    /// Installs it, or notes it for root. It is unpacked instead if other packages of this machine
    /// would have to go, as a QEMU of another version breaks its companions.
    pub fn install(target: &Path, apt: &mut Apt) -> anyhow::Result<()> {
        let plan = apt.plan(PACKAGE)?;
        match plan {
            Some(plan) if !plan.removed.is_empty() => {
                println!(
                    "setup: unpacking {PACKAGE} below target/, as installing it would remove {}: \
                     {WHY}",
                    plan.removed.join(" ")
                );
                unpack(&folder(target), &plan)
            }
            _ => apt.install(&[PACKAGE], WHY).map(drop),
        }
    }

    /// Starts it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(folder) = &self.unpacked {
            let libraries = LIBRARIES.map(|library| folder.join(library).display().to_string());
            command.env("LD_LIBRARY_PATH", libraries.join(":"));
        }
        command
    }
}

fn folder(target: &Path) -> PathBuf {
    target.join("vm").join("qemu")
}

/// Downloads and unpacks the packages of a plan. The folder appears once it is complete.
fn unpack(folder: &Path, plan: &apt::Plan) -> anyhow::Result<()> {
    let draft = folder.with_extension("part");
    if draft.exists() {
        fs::remove_dir_all(&draft)?;
    }
    fs::create_dir_all(&draft).with_context(|| format!("cannot make {}", draft.display()))?;
    let mut download = Command::new("apt-get");
    // Only root can become the download user, and that one cannot write here.
    download
        .args(["-o", "APT::Sandbox::User=root", "--quiet=2", "download"])
        .args(&plan.installed)
        .current_dir(&draft);
    process::run(&mut download)?;
    fetch::unpack(&draft)?;
    fs::rename(&draft, folder).with_context(|| format!("cannot make {}", folder.display()))
}
