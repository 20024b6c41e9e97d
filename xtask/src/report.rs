//! Adds the outcomes of all suites up to one line and one exit code.

use std::collections::BTreeMap;
use std::env;
use std::process::ExitCode;

use crate::libtest::Outcome;

/// Set to `1` where every test is expected to run: a skipped test then counts as failed.
const NO_SKIP: &str = "WEIR_NO_SKIP";

/// Characters of a line that is printed again at the end.
const LONGEST: usize = 300;

/// What a suite may do with tests that could not run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Skips {
    /// Count them apart.
    Allowed,
    /// Count them as failed.
    Fail,
}

impl Skips {
    /// As the environment asks for on this machine.
    pub fn of_environment() -> Self {
        match env::var(NO_SKIP).as_deref() {
            Ok("1") => Self::Fail,
            _ => Self::Allowed,
        }
    }
}

/// The outcomes so far.
#[derive(Debug, Default)]
pub struct Report {
    passed: usize,
    /// Full names, with the reason.
    failed: Vec<String>,
    /// Full names with reasons.
    skipped: Vec<String>,
}

impl Report {
    /// Adds the tests of one suite.
    pub fn add(&mut self, suite: &str, outcomes: BTreeMap<String, Outcome>, skips: Skips) {
        for (name, outcome) in outcomes {
            match outcome {
                Outcome::Passed => self.passed += 1,
                Outcome::Failed(last) => {
                    let last = last.iter().map(|line| format!("\n    {}", shortened(line)));
                    let last: String = last.collect();
                    self.failed.push(format!("{suite}: {name}{last}"));
                }
                Outcome::Skipped(reason) if skips == Skips::Fail => self.failed.push(format!(
                    "{suite}: {name} (skipped, which counts as failed here: {reason})"
                )),
                Outcome::Skipped(reason) => {
                    self.skipped.push(format!("{suite}: {name}: {reason}"));
                }
            }
        }
    }

    /// Adds a failure that no single test stands for.
    pub fn fail(&mut self, suite: &str, what: &str) {
        self.failed.push(format!("{suite}: {what}"));
    }

    /// Takes over everything another report holds.
    pub fn merge(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }

    /// `N passed, N failed[, N skipped]`.
    pub fn summary(&self) -> String {
        let counts = format!("{} passed, {} failed", self.passed, self.failed.len());
        match self.skipped.len() {
            0 => counts,
            skipped => format!("{counts}, {skipped} skipped"),
        }
    }

    /// Tells whether something ran and nothing failed.
    pub fn succeeded(&self) -> bool {
        self.failed.is_empty() && self.passed > 0
    }

    /// Prints names and reasons, then the summary as the very last line.
    pub fn conclude(&self) -> ExitCode {
        for line in &self.skipped {
            println!("skipped: {line}");
        }
        for line in &self.failed {
            println!("FAILED: {line}");
        }
        if self.passed + self.failed.len() == 0 {
            println!("no test ran, and a run without tests proves nothing");
        }
        println!("{}", self.summary());
        if self.succeeded() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// A line without the end of one that is very long.
fn shortened(line: &str) -> &str {
    line.char_indices()
        .nth(LONGEST)
        .map_or(line, |(end, _)| &line[..end])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Report, Skips};
    use crate::libtest::Outcome;

    fn outcomes() -> BTreeMap<String, Outcome> {
        BTreeMap::from([
            ("a".to_owned(), Outcome::Passed),
            ("b".to_owned(), Outcome::Skipped("no TCX".to_owned())),
        ])
    }

    #[test]
    fn nothing_run_is_no_success() {
        let report = Report::default();
        assert_eq!(report.summary(), "0 passed, 0 failed");
        assert!(!report.succeeded());
    }

    #[test]
    fn skipped_tests_alone_are_no_success() {
        let mut report = Report::default();
        let skipped = outcomes()
            .into_iter()
            .filter(|(name, _)| name == "b")
            .collect();
        report.add("unit", skipped, Skips::Allowed);
        assert!(!report.succeeded());
    }

    #[test]
    fn skipped_tests_are_counted_apart() {
        let mut report = Report::default();
        report.add("unit", outcomes(), Skips::Allowed);
        assert_eq!(report.summary(), "1 passed, 0 failed, 1 skipped");
        assert!(report.succeeded());
    }

    #[test]
    fn skipped_tests_fail_where_none_may_be() {
        let mut report = Report::default();
        report.add("unit", outcomes(), Skips::Fail);
        assert_eq!(report.summary(), "1 passed, 1 failed");
        assert!(report.failed[0].contains("no TCX"));
    }

    #[test]
    fn failures_of_merged_reports_count() {
        let (mut all, mut one) = (Report::default(), Report::default());
        all.add("unit", outcomes(), Skips::Allowed);
        one.fail("5.10", "kernel panic");
        all.merge(one);
        assert_eq!(all.summary(), "1 passed, 1 failed, 1 skipped");
        assert!(!all.succeeded());
    }
}
