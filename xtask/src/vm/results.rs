//! Reads what a machine says over its second serial port (see `tests/vm/init`).

use std::collections::BTreeMap;

use crate::libtest::{Outcome, Parser};

/// What came out of a machine.
#[derive(Debug, Default)]
pub struct Results {
    /// Outcomes per suite, in the order the suites ran.
    pub suites: Vec<(String, BTreeMap<String, Outcome>)>,
    /// Failures that no single test stands for.
    pub failures: Vec<String>,
    /// Lines worth showing to a person.
    pub shown: Vec<String>,
    /// The machine came to the end of its list.
    pub done: bool,
}

/// A suite that has begun and not ended.
struct Running {
    name: String,
    parser: Parser,
}

/// Reads a whole log; one that breaks off counts as a failure of the suite it broke off in.
pub fn parse(log: &str) -> Results {
    let mut results = Results::default();
    let mut running: Option<Running> = None;
    for line in log.lines() {
        let line = line.trim_end_matches('\r');
        if let Some(name) = line.strip_prefix("weir-vm: begin ") {
            results.shown.push(format!("\n     suite {name}"));
            running = Some(Running {
                name: name.to_owned(),
                parser: Parser::default(),
            });
        } else if let Some(end) = line.strip_prefix("weir-vm: end ") {
            let status = end.rsplit(' ').next().unwrap_or_default();
            results.end(running.take(), status);
        } else if line == "weir-vm: done" {
            results.done = true;
        } else if let Some(running) = &mut running
            && running.parser.line(line)
        {
            results.shown.push(line.to_owned());
        }
    }
    if let Some(running) = running {
        results
            .failures
            .push(format!("suite {} did not end", running.name));
        results.suites.push((running.name, running.parser.finish()));
    }
    results
}

impl Results {
    fn end(&mut self, running: Option<Running>, status: &str) {
        let Some(Running { name, parser }) = running else {
            self.failures
                .push("a suite ended that had not begun".to_owned());
            return;
        };
        let outcomes = parser.finish();
        let failed = outcomes
            .values()
            .any(|outcome| matches!(outcome, Outcome::Failed(_)));
        if status != "0" && !failed {
            self.failures
                .push(format!("suite {name} ended early (status {status})"));
        }
        self.suites.push((name, outcomes));
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::libtest::Outcome;

    #[test]
    fn suites_and_their_outcomes_are_read() {
        let results = parse(
            "weir-vm: begin packets\r\nrunning 2 tests\r\ntest a ... ok\r\ntest b ... FAILED\r\n\
             weir-vm: end packets 101\nweir-vm: begin cluster\nrunning 1 test\n\
             test c ... ok\nweir-vm: end cluster 0\nweir-vm: done\n",
        );
        assert!(results.done);
        assert!(results.failures.is_empty(), "{:?}", results.failures);
        assert_eq!(results.suites[0].0, "packets");
        assert!(matches!(results.suites[0].1["b"], Outcome::Failed(_)));
        assert_eq!(results.suites[1].1["c"], Outcome::Passed);
    }

    #[test]
    fn crashed_suite_is_a_failure() {
        let results = parse("weir-vm: begin packets\ntest a ... ok\nweir-vm: end packets 139\n");
        assert_eq!(results.failures, ["suite packets ended early (status 139)"]);
    }

    #[test]
    fn log_that_breaks_off_keeps_what_it_had() {
        let results = parse("weir-vm: begin packets\nrunning 2 tests\ntest a ... ok\ntest b ...");
        assert!(!results.done);
        assert_eq!(results.failures, ["suite packets did not end"]);
        assert_eq!(results.suites[0].1.len(), 1);
    }
}
