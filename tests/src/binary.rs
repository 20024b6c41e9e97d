//! Finding the programs under test and the one that makes traffic.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};

/// Says where Cargo put a program of this crate, which an integration test knows for sure.
///
/// The variable of the program still comes first.
pub fn announce(binary: Binary, path: &str) {
    announced().insert(binary.file_and_variable().0, path.into());
}

fn announced() -> MutexGuard<'static, BTreeMap<&'static str, PathBuf>> {
    static ANNOUNCED: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
    ANNOUNCED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program of this workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `weir-agent`; `WEIR_AGENT_BIN` overrides.
    Agent,
    /// `weir-agent` with maps of another layout; `WEIR_OTHER_AGENT_BIN` overrides.
    OtherAgent,
    /// `weir-agent` with other programs and the same maps; `WEIR_OTHER_PROGRAMS_BIN` overrides.
    OtherPrograms,
    /// `weir`; `WEIR_CLI_BIN` overrides.
    Cli,
    /// `weir-traffic` of this crate; `WEIR_TRAFFIC_BIN` overrides.
    Traffic,
    /// `weir-cluster` of this crate; `WEIR_CLUSTER_BIN` overrides.
    Cluster,
}

impl Binary {
    fn file_and_variable(self) -> (&'static str, &'static str) {
        match self {
            Self::Agent => ("weir-agent", "WEIR_AGENT_BIN"),
            Self::OtherAgent => ("weir-agent-other-layout", "WEIR_OTHER_AGENT_BIN"),
            Self::OtherPrograms => ("weir-agent-other-programs", "WEIR_OTHER_PROGRAMS_BIN"),
            Self::Cli => ("weir", "WEIR_CLI_BIN"),
            Self::Traffic => ("weir-traffic", "WEIR_TRAFFIC_BIN"),
            Self::Cluster => ("weir-cluster", "WEIR_CLUSTER_BIN"),
        }
    }

    /// Path of the program: from its variable, else as announced, else beside the running executable or, as Cargo puts
    /// test executables into `deps/`, one directory above.
    ///
    /// # Errors
    ///
    /// When it is nowhere; the text says how to build it.
    pub fn path(self) -> Result<PathBuf> {
        let (file, variable) = self.file_and_variable();
        if let Some(path) = env::var_os(variable) {
            return Ok(path.into());
        }
        let announced = announced().get(file).cloned();
        if let Some(path) = announced {
            return Ok(path);
        }
        let own = env::current_exe().context("find the running executable")?;
        let found = own
            .ancestors()
            .skip(1)
            .take(2)
            .map(|dir| dir.join(file))
            .find(|p| p.is_file());
        let Some(path) = found else {
            bail!(
                "no {file} near {}: build it with `cargo build` or name it in {variable}",
                own.display()
            )
        };
        Ok(path)
    }
}
