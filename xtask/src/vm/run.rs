//! What came of one kernel: outcomes, the lines worth showing, and the result line.

use std::fmt;
use std::path::Path;

use crate::report::{Report, Skips};
use crate::vm::machine::Verdict;
use crate::vm::results::Results;

/// One machine's run.
#[derive(Debug)]
pub struct Run {
    kernel: String,
    shown: Vec<String>,
    /// The machine came to the end of its list.
    done: bool,
    /// Outcomes of all suites.
    pub report: Report,
    /// From packing to power-off.
    pub seconds: u64,
}

impl Run {
    /// A run of which nothing is known yet.
    pub fn of(kernel: &str) -> Self {
        Self {
            kernel: kernel.to_owned(),
            shown: Vec::new(),
            done: false,
            report: Report::default(),
            seconds: 0,
        }
    }

    /// Adds a line to show.
    pub fn show(&mut self, line: String) {
        self.shown.push(line);
    }

    /// Adds a failure that no single test stands for.
    pub fn fail(&mut self, what: &str) {
        self.report.fail(&self.title(), what);
    }

    /// Adds what a machine said. Suites that must run there may not skip tests.
    pub fn take(&mut self, results: Results, must_run: impl Fn(&str) -> bool) {
        self.done = results.done;
        self.shown.extend(results.shown);
        for (name, outcomes) in results.suites {
            let skips = if must_run(&name) {
                Skips::Fail
            } else {
                Skips::Allowed
            };
            let suite = format!("{}, {name}", self.title());
            self.report.add(&suite, outcomes, skips);
        }
        for failure in results.failures {
            self.fail(&failure);
        }
    }

    /// Adds a failure if the machine did not come to rest as it should.
    pub fn judge(&mut self, verdict: &Verdict, console: &Path) {
        let reason = match verdict {
            Verdict::PoweredOff if self.done => return,
            Verdict::PoweredOff => "qemu ended before the machine was done".to_owned(),
            Verdict::Panicked(line) => line.clone(),
            Verdict::TimedOut(limit) => format!("not done after {limit:?}"),
        };
        self.fail(&format!("{reason}, see {}", console.display()));
    }

    /// The result line.
    pub fn line(&self) -> String {
        let verdict = if self.report.succeeded() {
            "ok"
        } else {
            "FAILED"
        };
        let summary = self.report.summary();
        format!(
            "{}: {verdict}, {summary} ({} s)",
            self.title(),
            self.seconds
        )
    }

    fn title(&self) -> String {
        format!("kernel {}", self.kernel)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.shown {
            writeln!(f, "{line}")?;
        }
        f.write_str(&self.line())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::time::Duration;

    use super::Run;
    use crate::libtest::Outcome;
    use crate::vm::machine::Verdict;
    use crate::vm::results::Results;

    fn run(outcome: Outcome, done: bool) -> Run {
        let mut run = Run::of("5.10");
        let outcomes = BTreeMap::from([
            ("first".to_owned(), Outcome::Passed),
            ("second".to_owned(), outcome),
        ]);
        let results = Results {
            suites: vec![("tunnels".to_owned(), outcomes)],
            done,
            ..Results::default()
        };
        run.take(results, |target| target == "tunnels");
        run
    }

    #[test]
    fn a_suite_that_must_run_may_not_skip() {
        let skipped = run(Outcome::Skipped("no WireGuard".to_owned()), true);
        assert_eq!(
            skipped.line(),
            "kernel 5.10: FAILED, 1 passed, 1 failed (0 s)"
        );
        let passed = run(Outcome::Passed, true);
        assert_eq!(passed.line(), "kernel 5.10: ok, 2 passed, 0 failed (0 s)");
    }

    #[test]
    fn a_machine_that_did_not_finish_has_failed() {
        for (verdict, done) in [
            (Verdict::PoweredOff, false),
            (Verdict::Panicked("Oops: 0".to_owned()), true),
            (Verdict::TimedOut(Duration::from_mins(1)), false),
        ] {
            let mut run = run(Outcome::Passed, done);
            run.judge(&verdict, Path::new("console.log"));
            assert!(
                run.line().contains("FAILED, 2 passed, 1 failed"),
                "{verdict:?}"
            );
        }
        let mut good = run(Outcome::Passed, true);
        good.judge(&Verdict::PoweredOff, Path::new("console.log"));
        assert!(good.report.succeeded());
    }
}
