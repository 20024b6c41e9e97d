//! What came of a step, for readiness, the log, and those who look at snapshots.

use std::sync::Arc;

use tokio::sync::watch;

use super::findings::problem;
use super::publish;
use crate::encryption::snapshot::Snapshot;
use crate::lifecycle::InStep;
use crate::state::Problem;

/// Of the last step.
pub(super) struct Outcome {
    ready: InStep,
    snapshots: watch::Sender<Arc<Snapshot>>,
    /// Why it failed; empty if it did not.
    failure: String,
}

impl Outcome {
    /// Before the first step.
    pub(super) fn new(ready: InStep, snapshots: watch::Sender<Arc<Snapshot>>) -> Self {
        Self {
            ready,
            snapshots,
            failure: String::new(),
        }
    }

    /// Everything is as `snapshot` says.
    pub(super) fn succeeded(&mut self, mut snapshot: Snapshot) {
        self.ready.succeeded();
        self.failure.clear();
        snapshot.failed_steps = self.snapshots.borrow().failed_steps;
        self.snapshots.send_replace(Arc::new(snapshot));
    }

    /// Not everything could be done. The log has each reason once.
    pub(super) fn failed(&mut self, error: &anyhow::Error) -> Problem {
        self.ready.failed();
        let reason = format!("{error:#}");
        if reason != self.failure {
            tracing::error!(
                reason,
                "encryption is not in step; what needs it is dropped"
            );
            self.failure.clone_from(&reason);
        }
        let told = publish::failed(&self.snapshots.borrow(), &reason);
        self.snapshots.send_replace(told);
        problem(
            String::new(),
            format!("encryption is not in step: {reason}"),
        )
    }

    /// Whether the last step failed.
    pub(super) fn is_failure(&self) -> bool {
        !self.failure.is_empty()
    }
}
