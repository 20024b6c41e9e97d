//! Keeps the last good state of every file beyond the life of the agent.
//!
//! Writing happens beside reading, in the order in which files changed, and never makes a change
//! wait: what the reader hands over is a queue with one place per file. What is still in it when
//! the agent is killed is missing from the copies, and made up for by the next agent's first read.

use std::collections::BTreeMap;
use std::io;
use std::panic;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task;
use tokio_util::sync::CancellationToken;

use super::copies::{Copies, CopyWriter, Held};
use crate::source::finding::problem;
use crate::state::{Problem, Severity, SharedState};

/// Name under which problems of keeping are in the state.
const REPORTER: &str = "copies of manifests";

/// The queue of what is to be kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Keeper {
    pending: Arc<Mutex<BTreeMap<String, Held>>>,
    wake: Arc<Notify>,
}

impl Keeper {
    /// A file holds this now; nothing, if it is gone.
    pub(super) fn put(&self, name: &str, mut held: Held) {
        let mut pending = self.pending();
        let mut before = pending.remove(name).unwrap_or_default();
        for (key, manifest) in held.iter_mut().filter(|(_, manifest)| manifest.is_none()) {
            *manifest = before.remove(key).flatten();
        }
        pending.insert(name.to_owned(), held);
        self.wake.notify_one();
    }

    fn pending(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<(String, Held)> {
        self.pending().pop_first()
    }

    /// Writes until `stop` is cancelled, and then what is left.
    pub(super) async fn run(self, copies: Copies, state: SharedState, stop: CancellationToken) {
        let mut work = Work {
            keeper: self,
            writer: CopyWriter::new(copies.clone()),
            failed: BTreeMap::new(),
        };
        let mut is_last = false;
        while !is_last {
            tokio::select! {
                () = stop.cancelled() => is_last = true,
                () = work.keeper.wake.notified() => {}
            }
            let written = task::spawn_blocking(move || {
                work.write_all();
                work
            });
            work = match written.await {
                Ok(work) => work,
                Err(error) => panic::resume_unwind(error.into_panic()),
            };
            let problems = work.problem(&copies).into_iter().collect();
            state.update(|cluster| cluster.set_problems(REPORTER, problems));
        }
    }
}

/// The blocking half.
struct Work {
    keeper: Keeper,
    writer: CopyWriter,
    /// Files whose state could not be kept, and why.
    failed: BTreeMap<String, io::Error>,
}

impl Work {
    fn write_all(&mut self) {
        while let Some((name, held)) = self.keeper.next() {
            self.failed.remove(&name);
            if let Err(error) = self.writer.keep(&name, held) {
                tracing::warn!(file = name, %error, "its last good state cannot be kept");
                self.failed.insert(name, error);
            }
        }
    }

    fn problem(&self, copies: &Copies) -> Option<Problem> {
        let (name, error) = self.failed.first_key_value()?;
        let more = match self.failed.len() - 1 {
            0 => String::new(),
            more => format!(" and of {more} more"),
        };
        let message = format!(
            "the last good state of {name}{more} cannot be kept here ({error}): should such a file \
             be broken when the agent starts, its objects will be gone"
        );
        let origin = copies.folder().display().to_string();
        Some(problem(Severity::Warning, origin, &"", "", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Kind, ObjectKey, ObjectName};

    #[test]
    fn what_is_kept_outlives_a_change_that_comes_before_it_was_written() {
        let key = |name: &str| ObjectKey {
            kind: Kind::Pod,
            name: ObjectName::new("default", name),
        };
        let keeper = Keeper::default();
        keeper.put(
            "a",
            [(key("x"), Some("1".to_owned())), (key("y"), None)].into(),
        );
        keeper.put("a", [(key("x"), None), (key("y"), None)].into());
        let (name, held) = keeper.next().unwrap();
        assert_eq!((name.as_str(), keeper.next().is_none()), ("a", true));
        assert_eq!(held[&key("x")].as_deref(), Some("1"));
        assert_eq!(held[&key("y")], None);
    }
}
