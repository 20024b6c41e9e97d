//! Reads what a Rust test binary prints.
//!
//! A test that cannot run prints `SKIPPED: <reason>` and returns. The harness calls that passed
//! and shows its output only with `--show-output`, so test binaries are run with that flag, and
//! the marker, not the harness, has the last word here.

use std::collections::{BTreeMap, VecDeque};

/// What became of one test.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It ran and held.
    Passed,
    /// It ran and did not hold; the last lines that it printed, which say why.
    Failed(VecDeque<String>),
    /// It did not run, for this reason.
    Skipped(String),
}

/// The part of the output a line stands in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Section {
    Running,
    /// Output of tests that passed; only there because of `--show-output`.
    Successes,
    Failures,
}

/// Collects outcomes from the output of one or several test binaries, line by line.
#[derive(Debug)]
pub struct Parser {
    outcomes: BTreeMap<String, Outcome>,
    section: Section,
    /// Whose captured output the current lines are.
    speaker: Option<String>,
    /// It has said that it panicked.
    has_panicked: bool,
}

const SKIP_MARKER: &str = "SKIPPED:";
/// Lines that are kept of a failed test.
const LAST_LINES: usize = 12;

impl Default for Parser {
    fn default() -> Self {
        Self {
            outcomes: BTreeMap::new(),
            section: Section::Running,
            speaker: None,
            has_panicked: false,
        }
    }
}

impl Parser {
    /// Takes one line; tells whether a person following the run should see it.
    pub fn line(&mut self, line: &str) -> bool {
        let line = line.trim_end();
        match line {
            "successes:" => self.section = Section::Successes,
            // The second time it is the list of names.
            "failures:" => {
                self.section = Section::Failures;
                self.speaker = None;
            }
            _ if line.starts_with("test result: ") || line.starts_with("running ") => {
                self.section = Section::Running;
                self.speaker = None;
            }
            _ if self.section == Section::Running => self.result(line),
            _ => self.captured(line),
        }
        self.section != Section::Successes
    }

    /// The outcome of every test seen, by name.
    pub fn finish(self) -> BTreeMap<String, Outcome> {
        self.outcomes
    }

    fn result(&mut self, line: &str) {
        let Some((name, word)) = line
            .strip_prefix("test ")
            .and_then(|l| l.rsplit_once(" ... "))
        else {
            return;
        };
        let outcome = match word
            .split_once(", ")
            .map_or((word, None), |(w, r)| (w, Some(r)))
        {
            ("ok", None) => Outcome::Passed,
            ("ignored", reason) => Outcome::Skipped(reason.unwrap_or("ignored").to_owned()),
            ("FAILED", _) => Outcome::Failed(VecDeque::new()),
            _ => return,
        };
        self.outcomes.insert(plain(name), outcome);
    }

    fn captured(&mut self, line: &str) {
        if let Some(name) = line
            .strip_prefix("---- ")
            .and_then(|l| l.strip_suffix(" stdout ----"))
        {
            self.speaker = Some(plain(name));
            self.has_panicked = false;
            return;
        }
        let speaker = self.speaker.as_ref();
        match speaker.and_then(|name| self.outcomes.get_mut(name)) {
            // What follows says where, and is longer than why.
            Some(Outcome::Failed(_)) if line.eq_ignore_ascii_case("stack backtrace:") => {
                self.speaker = None;
            }
            Some(Outcome::Failed(last)) if !line.is_empty() => {
                if line.contains(" panicked at ") {
                    last.clear();
                    self.has_panicked = true;
                }
                if last.len() < LAST_LINES {
                    last.push_back(line.to_owned());
                } else if !self.has_panicked {
                    // Otherwise it is what values say that go while the panic unwinds.
                    last.pop_front();
                    last.push_back(line.to_owned());
                }
            }
            Some(outcome @ Outcome::Passed) => {
                if let Some(reason) = line.trim_start().strip_prefix(SKIP_MARKER) {
                    *outcome = Outcome::Skipped(reason.trim().to_owned());
                }
            }
            _ => {}
        }
    }
}

/// The name without what the harness adds to it.
fn plain(name: &str) -> String {
    name.trim_end_matches(" - should panic").to_owned()
}

#[cfg(test)]
mod tests {
    use super::{LAST_LINES, Outcome, Parser};

    fn parse(text: &str) -> Vec<(String, Outcome)> {
        let mut parser = Parser::default();
        for line in text.lines() {
            parser.line(line);
        }
        parser.finish().into_iter().collect()
    }

    const RUN: &str = "
running 5 tests
test slow ... ignored, needs an hour
test never ... ignored
test a::holds ... ok
test a::panics - should panic ... ok
test b::breaks ... FAILED
test c::cannot_run ... ok

successes:

---- a::holds stdout ----
test fake ... FAILED
---- c::cannot_run stdout ----
probing
SKIPPED: no TCX on this kernel

successes:
    a::holds
    c::cannot_run

failures:

---- b::breaks stdout ----
SKIPPED: not really
thread 'b::breaks' panicked at src/lib.rs:1:1

failures:
    b::breaks

test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn outcomes_are_read_from_a_whole_run() {
        let skipped = |reason: &str| Outcome::Skipped(reason.to_owned());
        let last = ["thread 'b::breaks' panicked at src/lib.rs:1:1"];
        let failed = Outcome::Failed(last.map(str::to_owned).into());
        let expected = [
            ("a::holds", Outcome::Passed),
            ("a::panics", Outcome::Passed),
            ("b::breaks", failed),
            ("c::cannot_run", skipped("no TCX on this kernel")),
            ("never", skipped("ignored")),
            ("slow", skipped("needs an hour")),
        ];
        assert_eq!(
            parse(RUN),
            expected.map(|(name, outcome)| (name.to_owned(), outcome))
        );
    }

    #[test]
    fn the_last_lines_of_a_failed_test_are_kept() {
        let mut parser = Parser::default();
        parser.line("test long ... FAILED");
        parser.line("failures:");
        parser.line("---- long stdout ----");
        for number in 0..100 {
            parser.line(&format!("line {number}"));
            parser.line("");
        }
        parser.line("Stack backtrace:");
        parser.line("   0: somewhere");
        let Outcome::Failed(last) = &parser.finish()["long"] else {
            panic!("it failed");
        };
        assert_eq!(last.len(), LAST_LINES);
        assert_eq!(last.back().map(String::as_str), Some("line 99"));
    }

    #[test]
    fn what_a_panic_said_is_kept_whatever_is_told_while_it_unwinds() {
        let mut parser = Parser::default();
        parser.line("test long ... FAILED");
        parser.line("failures:");
        parser.line("---- long stdout ----");
        parser.line("before");
        parser.line("thread 'long' (7) panicked at src/lib.rs:1:1:");
        for number in 0..100 {
            parser.line(&format!("line {number}"));
        }
        let Outcome::Failed(last) = &parser.finish()["long"] else {
            panic!("it failed");
        };
        assert_eq!(last.len(), LAST_LINES);
        assert!(last[0].contains("panicked"), "{last:?}");
    }

    #[test]
    fn output_of_passed_tests_is_not_shown() {
        let mut parser = Parser::default();
        let shown: Vec<&str> = RUN.lines().filter(|line| parser.line(line)).collect();
        assert!(shown.contains(&"thread 'b::breaks' panicked at src/lib.rs:1:1"));
        assert!(!shown.contains(&"probing"));
    }

    #[test]
    fn several_binaries_may_follow_each_other() {
        let text = format!("{RUN}\nrunning 1 test\r\ntest d::last ... ok\r\n");
        assert!(parse(&text).contains(&("d::last".to_owned(), Outcome::Passed)));
    }

    #[test]
    fn lines_that_only_look_like_results_do_not_count() {
        let text = "running 1 test\ntest x has been running for over 60 seconds\ntest y ... what\n";
        assert_eq!(parse(text), []);
    }
}
