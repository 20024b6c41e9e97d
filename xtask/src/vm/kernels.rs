//! The data under `tests/vm/`: which kernels, which suites.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A kernel of the matrix, as `tests/vm/kernels.json` names it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelSpec {
    /// How people call it, and how its release begins: `6.12`.
    pub name: String,
    /// The Debian suite that carries it.
    pub suite: String,
    /// The archive that carries the suite.
    pub archive: Archive,
    /// The package that depends on the newest build.
    pub package: String,
    /// How long a run may take, boot included.
    pub minutes: u64,
}

/// The two archives of Debian.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Archive {
    /// Releases.
    Main,
    /// Security updates.
    Security,
}

/// A suite to run on each kernel, as `tests/vm/suites.json` names it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteSpec {
    /// Integration test of the tests package.
    pub target: String,
    /// Tests to run, each by a part of its name; all when empty.
    #[serde(default)]
    pub only: Vec<String>,
}

/// Reads one list.
pub fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is malformed", path.display()))
}
