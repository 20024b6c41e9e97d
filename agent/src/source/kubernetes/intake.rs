//! Takes objects of one kind into the state.
//!
//! What is kept of an object is its row in the state's tables and nothing else. An object that
//! cannot be served leaves its row as it was: the last good state stays.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::sync::Notify;

use super::object::{self, ReadObject};
use crate::source::Findings;
use crate::source::finding::problem;
use crate::state::{Change, Kind, ObjectKey, ObjectName, Problem, Severity, SharedState};

/// Problems of one object that are listed; the others are counted.
const PROBLEMS_OF_OBJECT_MAX: usize = 10;
/// Objects of one kind whose problems are listed; the others are counted.
const OBJECTS_LISTED_MAX: usize = 100;
/// Problems that are logged at a time.
const LOGGED_MAX: usize = 20;

/// Objects that a list has shown so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    names: HashSet<ObjectName>,
    /// One could not even be named, so any that was there before may be it.
    lost_something: bool,
}

/// One step of a watch.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// The object is there, like this.
    Put(&'a RawValue),
    /// It is gone.
    Gone(ObjectName),
}

/// The objects of one kind.
#[derive(Debug)]
pub(super) struct Intake {
    kind: Kind,
    origin: String,
    state: SharedState,
    problems: BTreeMap<ObjectName, Vec<Problem>>,
    problems_changed: bool,
    /// Told when the table differs from what is kept on disk.
    changed: Arc<Notify>,
}

impl Seen {
    /// Number of objects.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

impl Intake {
    /// `origin` stands first in every problem; `changed` is told when something was.
    pub(super) fn new(
        kind: Kind,
        origin: String,
        state: SharedState,
        changed: Arc<Notify>,
    ) -> Self {
        Self {
            kind,
            origin,
            state,
            problems: BTreeMap::new(),
            problems_changed: false,
            changed,
        }
    }

    /// Takes one page of a list.
    pub(super) fn page(&mut self, items: &[&RawValue], seen: &mut Seen) {
        let mut changes = Vec::new();
        for item in items {
            match object::read(self.kind, item) {
                Ok(read) => {
                    seen.names.insert(read.key.name.clone());
                    changes.extend(self.put(read));
                }
                Err(error) => {
                    tracing::warn!(kind = ?self.kind, error, "an object without a name was listed");
                    seen.lost_something = true;
                }
            }
        }
        self.apply(changes);
    }

    /// The list is complete: what it did not show is gone.
    pub(super) fn complete(&mut self, seen: &Seen) {
        if seen.lost_something {
            return;
        }
        let is_gone = |name: &ObjectName| !seen.names.contains(name);
        let mut gone = self.state.read().names(self.kind);
        gone.retain(is_gone);
        let changes = gone.into_iter().map(|name| self.delete(name)).collect();
        let before = self.problems.len();
        self.problems.retain(|name, _| !is_gone(name));
        self.problems_changed |= self.problems.len() != before;
        self.apply(changes);
    }

    /// Takes steps of a watch, in their order, as one update. An error, in words, says that
    /// something came that cannot be attributed; the steps before it are taken.
    pub(super) fn steps(&mut self, steps: Vec<Step<'_>>) -> Result<(), String> {
        let mut changes = Vec::with_capacity(steps.len());
        let mut outcome = Ok(());
        for step in steps {
            match step {
                Step::Gone(name) => changes.push(self.delete(name)),
                Step::Put(text) => match object::read(self.kind, text) {
                    Ok(read) => changes.extend(self.put(read)),
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                },
            }
        }
        self.apply(changes);
        outcome
    }

    fn put(&mut self, read: ReadObject) -> Option<Change> {
        let ReadObject {
            key,
            object,
            findings,
        } = read;
        let served_as_before = object.is_none() && self.state.read().holds(&key);
        self.set_problems(&key, findings, served_as_before);
        object.map(Change::Upsert)
    }

    fn delete(&mut self, name: ObjectName) -> Change {
        self.problems_changed |= self.problems.remove(&name).is_some();
        let kind = self.kind;
        Change::Delete(ObjectKey { kind, name })
    }

    fn set_problems(&mut self, key: &ObjectKey, findings: Findings, served_as_before: bool) {
        let tell = |severity, field: &str, message: String| {
            problem(severity, self.origin.clone(), key, field, message)
        };
        let mut findings: Vec<_> = findings.into_iter().collect();
        // Stable: what was found first stays first among its like.
        findings.sort_by_key(|finding| is_harmless(finding.severity));
        let unlisted = findings.split_off(findings.len().min(PROBLEMS_OF_OBJECT_MAX));
        let mut problems: Vec<_> = findings
            .into_iter()
            .map(|finding| tell(finding.severity, &finding.field, finding.message))
            .collect();
        if let Some(worst) = unlisted.first() {
            let message = format!("{} further problems of it are not listed", unlisted.len());
            problems.push(tell(worst.severity, "", message));
        }
        if served_as_before {
            let message = "its last good state is served".to_owned();
            problems.push(tell(Severity::Warning, "", message));
        }
        let before = if problems.is_empty() {
            self.problems.remove(&key.name)
        } else {
            self.problems.insert(key.name.clone(), problems.clone())
        };
        let before = before.unwrap_or_default();
        if before != problems {
            self.problems_changed = true;
            let new = problems.iter().filter(|problem| !before.contains(problem));
            for problem in new.take(LOGGED_MAX) {
                tracing::warn!("{problem}");
            }
        }
    }

    fn apply(&mut self, changes: Vec<Change>) {
        let problems = std::mem::take(&mut self.problems_changed).then(|| self.listed());
        if changes.is_empty() && problems.is_none() {
            return;
        }
        let reporter = reporter(self.kind);
        let changed = &self.changed;
        self.state.update(|cluster| {
            let objects_changed = cluster.apply(changes);
            if objects_changed {
                changed.notify_one();
            }
            let told = problems.is_some_and(|all| cluster.set_problems(&reporter, all));
            objects_changed | told
        });
    }

    /// Objects that are not served come first: who gives up looking has to have seen those.
    fn listed(&self) -> Vec<Problem> {
        let is_harmless =
            |problems: &&Vec<Problem>| problems.iter().all(|problem| is_harmless(problem.severity));
        let (harmless, refused): (Vec<_>, Vec<_>) = self.problems.values().partition(is_harmless);
        let mut objects = refused.into_iter().chain(harmless);
        let mut listed: Vec<_> = objects
            .by_ref()
            .take(OBJECTS_LISTED_MAX)
            .flatten()
            .cloned()
            .collect();
        let mut unlisted = objects.peekable();
        if let Some(worst) = unlisted.peek() {
            let severity = if is_harmless(worst) {
                Severity::Warning
            } else {
                Severity::Error
            };
            let message = format!(
                "{} further objects of kind {:?} have problems that are not listed",
                unlisted.count(),
                self.kind
            );
            let origin = self.origin.clone();
            listed.push(problem(severity, origin, &"", "", message));
        }
        listed
    }
}

/// Nothing is refused for it.
fn is_harmless(severity: Severity) -> bool {
    severity != Severity::Error
}

/// Name under which the problems of a kind are kept in the state.
fn reporter(kind: Kind) -> String {
    format!("kubernetes {kind:?}")
}

#[cfg(test)]
mod tests;
