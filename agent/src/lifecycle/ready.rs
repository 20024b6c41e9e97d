//! Readiness: every part that has something to finish first holds a named guard.
//!
//! The agent is ready while no guard is held. Parts drop theirs when their work is done; the names
//! of those still held answer the question "why not ready?". A part that fails drops its guard too,
//! but ends its task with an error as well, and that stops the agent (see [`super::drain`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A part that fails for longer is not ready any more; what failed once is tried again before.
const FAILING_MAX: Duration = Duration::from_secs(10);

/// Hands out guards and knows which are still held.
#[derive(Clone, Debug)]
pub struct Readiness {
    pending: watch::Sender<Vec<&'static str>>,
    has_started: Arc<AtomicBool>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// Without guards, and so ready: take all guards before telling anyone about it.
    pub fn new() -> Self {
        Self {
            pending: watch::Sender::new(Vec::new()),
            has_started: Arc::default(),
        }
    }

    /// Makes the agent wait for `name`, such as "load programs".
    pub fn guard(&self, name: &'static str) -> ReadyGuard {
        self.pending.send_modify(|pending| pending.push(name));
        ReadyGuard {
            name,
            readiness: self.clone(),
        }
    }

    /// Names of the guards still held, in the order they were taken.
    pub fn pending(&self) -> Vec<&'static str> {
        self.pending.borrow().clone()
    }

    /// Follows the names of the guards still held.
    pub fn subscribe(&self) -> watch::Receiver<Vec<&'static str>> {
        self.pending.subscribe()
    }

    /// Whether no guard is held.
    pub fn is_ready(&self) -> bool {
        self.pending.borrow().is_empty()
    }

    /// Returns once no guard is held.
    pub async fn wait(&self) {
        let mut watcher = self.pending.subscribe();
        watcher
            .wait_for(Vec::is_empty)
            .await
            .expect("`self` holds the sender");
        self.has_started.store(true, Ordering::Relaxed);
    }

    /// Whether the agent was ready before: somebody has waited for it. Then a guard that is held is that
    /// of a part which fails.
    pub fn has_started(&self) -> bool {
        self.has_started.load(Ordering::Relaxed)
    }
}

/// Keeps the agent from being ready until it is dropped.
#[must_use = "dropping it says that the work is done"]
#[derive(Debug)]
pub struct ReadyGuard {
    name: &'static str,
    readiness: Readiness,
}

impl ReadyGuard {
    /// Says that the work is done. The same as dropping it, but readable.
    pub fn done(self) {}
}

impl Drop for ReadyGuard {
    fn drop(&mut self) {
        self.readiness.pending.send_modify(|pending| {
            if let Some(index) = pending.iter().position(|name| *name == self.name) {
                pending.remove(index);
            }
        });
        tracing::debug!(part = self.name, pending = ?self.readiness.pending(), "part is ready");
    }
}

/// A part that is brought in step again and again: not ready before the first success, nor when
/// it has failed for a while.
#[derive(Debug)]
pub struct InStep {
    name: &'static str,
    readiness: Readiness,
    guard: Option<ReadyGuard>,
    failing_since: Option<Instant>,
}

impl From<ReadyGuard> for InStep {
    fn from(guard: ReadyGuard) -> Self {
        Self {
            name: guard.name,
            readiness: guard.readiness.clone(),
            guard: Some(guard),
            failing_since: None,
        }
    }
}

impl InStep {
    /// It is in step.
    pub fn succeeded(&mut self) {
        self.failing_since = None;
        self.guard = None;
    }

    /// An attempt failed, and is repeated.
    pub fn failed(&mut self) {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if self.guard.is_none() && since.elapsed() >= FAILING_MAX {
            self.guard = Some(self.readiness.guard(self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pending_names_say_why_it_is_not_ready() {
        let readiness = Readiness::new();
        let load = readiness.guard("load programs");
        let snapshot = readiness.guard("first snapshot");
        assert_eq!(readiness.pending(), ["load programs", "first snapshot"]);
        load.done();
        assert_eq!(readiness.pending(), ["first snapshot"]);
        assert!(!readiness.is_ready());
        drop(snapshot);
        assert!(readiness.is_ready());
    }

    #[test]
    fn two_guards_of_one_name_both_count() {
        let readiness = Readiness::new();
        let first = readiness.guard("attach");
        let second = readiness.guard("attach");
        drop(first);
        assert_eq!(readiness.pending(), ["attach"]);
        drop(second);
        assert!(readiness.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_fails_for_long_is_not_ready_until_it_succeeds() {
        let readiness = Readiness::new();
        let mut part = InStep::from(readiness.guard("encrypt"));
        part.failed();
        tokio::time::advance(FAILING_MAX).await;
        part.failed();
        assert_eq!(readiness.pending(), ["encrypt"], "once, from the start");
        assert!(!readiness.has_started());
        part.succeeded();
        assert!(readiness.is_ready());
        readiness.wait().await;
        part.failed();
        tokio::time::advance(FAILING_MAX / 2).await;
        part.failed();
        assert!(readiness.is_ready(), "not yet");
        tokio::time::advance(FAILING_MAX / 2).await;
        part.failed();
        part.failed();
        assert_eq!(readiness.pending(), ["encrypt"]);
        assert!(readiness.has_started());
        part.succeeded();
        assert!(readiness.is_ready());
    }

    #[tokio::test]
    async fn dropping_the_last_guard_wakes_those_who_wait() {
        let readiness = Readiness::new();
        let guard = readiness.guard("load programs");
        let waiting = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.wait().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(guard);
        tokio::time::timeout(Duration::from_secs(5), waiting)
            .await
            .unwrap()
            .unwrap();
    }
}
