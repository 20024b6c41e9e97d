//! What came of a run.

use serde::Serialize;

use crate::check::Check;
use crate::flows::Flow;

/// A run, case by case.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// In the order in which they ran.
    pub results: Vec<CaseResult>,
}

/// What came of one case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaseResult {
    /// Of which check.
    pub check: Check,
    /// Who asked.
    pub from: String,
    /// Who was asked.
    pub to: String,
    /// Protocol and family.
    pub how: String,
    /// Time that the connections took, in milliseconds.
    pub millis: f64,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// All is as it must be.
    Passed {
        /// What was found.
        note: String,
    },
    /// Something is not.
    Failed {
        /// What.
        why: String,
        /// What the agents saw of it, with the name of the node in each.
        flows: Vec<Flow>,
        /// Agents that could not be asked for flows, and why.
        silent: Vec<String>,
    },
    /// It could not be tried.
    Skipped {
        /// Why not.
        why: String,
    },
}

impl Outcome {
    /// A failure of which no flows are known.
    pub(crate) fn failed(why: String) -> Self {
        Self::Failed {
            why,
            flows: Vec::new(),
            silent: Vec::new(),
        }
    }
}

impl CaseResult {
    /// True for what failed.
    pub fn is_failure(&self) -> bool {
        matches!(self.outcome, Outcome::Failed { .. })
    }
}

/// Results that differ in protocol and family alone: a row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Group<'a> {
    /// At least one.
    pub results: Vec<&'a CaseResult>,
}

impl Group<'_> {
    /// How many passed.
    pub fn passed(&self) -> usize {
        let passed = |it: &&&CaseResult| matches!(it.outcome, Outcome::Passed { .. });
        self.results.iter().filter(passed).count()
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.results.iter().filter(|it| it.is_failure()).count()
    }

    /// Time that all took together, in milliseconds.
    pub fn millis(&self) -> f64 {
        self.results.iter().map(|it| it.millis).sum()
    }
}

impl Report {
    /// The rows of the table.
    pub fn groups(&self) -> Vec<Group<'_>> {
        let of_one_row =
            |a: &CaseResult, b: &CaseResult| (a.check, &a.from, &a.to) == (b.check, &b.from, &b.to);
        let rows = self.results.chunk_by(of_one_row);
        rows.map(|row| Group {
            results: row.iter().collect(),
        })
        .collect()
    }

    /// What failed.
    pub fn failures(&self) -> impl Iterator<Item = &CaseResult> {
        self.results.iter().filter(|result| result.is_failure())
    }

    /// How many passed, failed and were skipped.
    pub fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for result in &self.results {
            counts[match result.outcome {
                Outcome::Passed { .. } => 0,
                Outcome::Failed { .. } => 1,
                Outcome::Skipped { .. } => 2,
            }] += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_all_that_one_asks_of_another() {
        let result = |to: &str, how: &str, outcome: Outcome| CaseResult {
            check: Check::PodToPod,
            from: "a".into(),
            to: to.into(),
            how: how.into(),
            millis: 1.5,
            outcome,
        };
        let passed = || Outcome::Passed { note: "3".into() };
        let report = Report {
            results: vec![
                result("b", "TCP IPv4", passed()),
                result("b", "UDP IPv4", Outcome::failed("refused".into())),
                result("c", "TCP IPv4", passed()),
            ],
        };
        assert_eq!(report.counts(), [2, 1, 0]);
        let groups = report.groups();
        let counts: Vec<_> = groups
            .iter()
            .map(|row| (row.passed(), row.failed()))
            .collect();
        assert_eq!(counts, [(1, 1), (1, 0)]);
        assert!((groups[0].millis() - 3.0).abs() < f64::EPSILON);
        let json = serde_json::to_value(&report.results[1]).unwrap();
        assert_eq!(json["check"], "pod-to-pod");
        assert_eq!(
            (&json["result"], &json["why"]),
            (&"failed".into(), &"refused".into())
        );
    }
}
