//! Whether the API server answers, in words for `weir status`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::source::finding::problem;
use crate::state::{Kind, Problem, Severity, SharedState};

/// Name under which these problems are kept in the state.
const REPORTER: &str = "kubernetes";

/// Failures in a row from which one is told: a single one is a connection that was cut.
const TOLD_FROM: u32 = 2;

/// How each kind is followed.
#[derive(Clone, Debug)]
pub(super) struct Health {
    /// URL of the API server.
    origin: String,
    state: SharedState,
    failing: Arc<Mutex<BTreeMap<Kind, Failing>>>,
    /// What is served while not all was listed.
    stand_in: Arc<Mutex<Option<String>>>,
    returned: Arc<Notify>,
}

#[derive(Debug)]
struct Failing {
    since: Timestamp,
    failures: u32,
    error: String,
}

impl Health {
    pub(super) fn new(origin: String, state: SharedState) -> Self {
        Self {
            origin,
            state,
            failing: Arc::default(),
            stand_in: Arc::default(),
            returned: Arc::default(),
        }
    }

    /// Waits until a kind that could not be followed is answered again.
    pub(super) fn returned(&self) -> Notified<'_> {
        self.returned.notified()
    }

    /// The server answered as it should.
    pub(super) fn answered(&self, kind: Kind) {
        let failing = self.failing().remove(&kind);
        let Some(failing) = failing.filter(|it| it.failures >= TOLD_FROM) else {
            return;
        };
        tracing::info!(?kind, since = %failing.since, "the API server answers again");
        self.returned.notify_waiters();
        self.tell();
    }

    /// It did not.
    pub(super) fn failed(&self, kind: Kind, error: &str) {
        let failures = {
            let mut all = self.failing();
            let failing = all.entry(kind).or_insert_with(|| Failing {
                since: now(),
                failures: 0,
                error: String::new(),
            });
            failing.failures = failing.failures.saturating_add(1);
            error.clone_into(&mut failing.error);
            failing.failures
        };
        if failures == TOLD_FROM {
            tracing::warn!(?kind, error, "the API server does not answer as it should");
        }
        if failures >= TOLD_FROM {
            self.tell();
        }
    }

    /// Says what is served before all was listed; `None` when it was.
    pub(super) fn stand_in(&self, what: Option<String>) {
        *self.stand_in.lock().unwrap_or_else(PoisonError::into_inner) = what;
        self.tell();
    }

    fn failing(&self) -> MutexGuard<'_, BTreeMap<Kind, Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        // All under one lock, so that what is told last is what holds.
        let failing = self.failing();
        let mut problems = problems(&failing, &self.origin);
        let stand_in = self
            .stand_in
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        problems.extend(
            stand_in.map(|what| problem(Severity::Warning, self.origin.clone(), &"", "", what)),
        );
        self.state
            .update(|cluster| cluster.set_problems(REPORTER, problems));
    }
}

/// One problem for all kinds that fail in the same way.
fn problems(failing: &BTreeMap<Kind, Failing>, origin: &str) -> Vec<Problem> {
    let mut by_error: BTreeMap<&str, (Timestamp, Vec<Kind>)> = BTreeMap::new();
    for (kind, one) in failing.iter().filter(|(_, one)| one.failures >= TOLD_FROM) {
        let (since, kinds) = by_error
            .entry(&one.error)
            .or_insert((one.since, Vec::new()));
        *since = one.since.min(*since);
        kinds.push(*kind);
    }
    let told = by_error.into_iter().map(|(error, (since, kinds))| {
        let names: Vec<_> = kinds.iter().map(|kind| format!("{kind:?}")).collect();
        let message = format!(
            "cannot be followed since {since} ({}): {error}; everything stays as it was, and is \
             served",
            names.join(", ")
        );
        problem(Severity::Error, origin.to_owned(), &"", "", message)
    });
    told.collect()
}

/// Why a client could not be made, as a problem of this reporter.
pub(super) fn unconnected(state: &SharedState, error: &str) {
    let message = format!(
        "there is no way to ask the API server: {error}; everything stays as it was, and is served"
    );
    let problem = problem(Severity::Error, String::new(), &"", "", message);
    state.update(|cluster| cluster.set_problems(REPORTER, vec![problem]));
}

/// What a client's error means, with the reason that lies beneath.
pub(super) fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => {
            let reason = [&*status.reason, &*status.message];
            let words: Vec<_> = reason.into_iter().filter(|it| !it.is_empty()).collect();
            let mut text = format!("status {} {}", status.code, words.join(": "));
            if status.code == 403 || status.code == 401 {
                text.push_str("; apply the role in deploy/daemonset/base/rbac.yaml");
            }
            text
        }
        other => crate::error_chain(other),
    }
}

/// To the second, for display.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt as _;

    use super::*;

    fn told(state: &SharedState) -> Vec<String> {
        state.read().problems().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn who_waits_is_woken_when_the_server_is_back_and_not_by_each_answer() {
        let health = Health::new("https://api/".to_owned(), SharedState::new());
        let mut returned = pin!(health.returned());
        returned.as_mut().enable();
        health.failed(Kind::Pod, "connection was cut");
        health.answered(Kind::Pod);
        assert!(returned.as_mut().now_or_never().is_none());
        for _ in 0..2 {
            health.failed(Kind::Pod, "connection refused");
        }
        health.answered(Kind::Pod);
        assert!(returned.now_or_never().is_some());
    }

    #[test]
    fn one_failure_is_not_told_and_equal_ones_are_told_once() {
        let state = SharedState::new();
        let health = Health::new("https://api/".to_owned(), state.clone());
        health.failed(Kind::Pod, "connection refused");
        assert_eq!(told(&state), [""; 0]);
        for kind in [Kind::Pod, Kind::Node, Kind::Node] {
            health.failed(kind, "connection refused");
        }
        for _ in 0..2 {
            health.failed(Kind::Service, "status 403 Forbidden");
        }
        let lines = told(&state);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].contains("(Pod, Node): connection refused"),
            "{lines:?}"
        );
        let revision = *state.subscribe().borrow();
        health.failed(Kind::Pod, "connection refused");
        assert_eq!(
            *state.subscribe().borrow(),
            revision,
            "nothing new was said"
        );
        for kind in [Kind::Pod, Kind::Node, Kind::Service] {
            health.answered(kind);
        }
        assert_eq!(told(&state), [""; 0]);
    }
}
