//! The data under `tests/vm/`: which kernels, which suites.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::libtest::Outcome;

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
    /// Name of an integration test.
    pub target: String,
    /// Folder of the package it belongs to.
    #[serde(default = "tests_package")]
    pub package: String,
    /// Tests to run, each by a part of its name; all when empty.
    #[serde(default)]
    pub only: Vec<String>,
    /// True for a suite that asks for more than the machine under `cargo xtask test` may have: it
    /// runs in these machines alone, and a skipped test of it counts as failed.
    #[serde(default)]
    pub machines_only: bool,
    /// True for a suite that measures: it takes its time, so it runs when it is asked for, and then
    /// alone. It is also one for machines only.
    #[serde(default)]
    pub measures: bool,
}

fn tests_package() -> String {
    "tests".to_owned()
}

impl SuiteSpec {
    /// What the list asks for and no test answered to: a test that was renamed must not drop out
    /// of the matrix unseen.
    pub fn missed(&self, ran: &[(String, BTreeMap<String, Outcome>)]) -> Vec<String> {
        let names = |name: &str| {
            let suites = ran.iter().filter(|(suite, _)| *suite == self.target);
            suites
                .flat_map(|(_, outcomes)| outcomes.keys())
                .any(|test| test.contains(name))
        };
        let missed = self.only.iter().filter(|name| !names(name));
        missed
            .map(|name| format!("suite {} has no test {name}", self.target))
            .collect()
    }
}

/// Reads one list.
pub fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is malformed", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{KernelSpec, SuiteSpec, read};
    use crate::libtest::Outcome;

    #[test]
    fn a_listed_test_that_is_gone_is_noticed() {
        let suite = SuiteSpec {
            target: "cluster".into(),
            package: "tests".into(),
            only: vec!["tcp".into(), "udp".into()],
            machines_only: false,
            measures: false,
        };
        let outcomes = |name: &str| BTreeMap::from([(name.to_owned(), Outcome::Passed)]);
        let ran = [
            ("cluster".to_owned(), outcomes("balancing::over_tcp")),
            ("packets".to_owned(), outcomes("forward::over_udp")),
        ];
        assert_eq!(suite.missed(&ran), ["suite cluster has no test udp"]);
    }

    #[test]
    fn lists_of_this_repository_can_be_read() {
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vm"));
        let kernels: Vec<KernelSpec> = read(&folder.join("kernels.json")).unwrap();
        let names: Vec<&str> = kernels.iter().map(|kernel| kernel.name.as_str()).collect();
        assert_eq!(names, ["5.10", "6.1", "6.12", "7.2"]);
        assert!(
            !read::<SuiteSpec>(&folder.join("suites.json"))
                .unwrap()
                .is_empty()
        );
    }
}
