//! The handle through which sources write the tables and everybody else reads them.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::watch;

use super::ClusterState;

/// The one [`ClusterState`] of an agent, with a revision that rises with every change.
///
/// Clones share it. Readers take the lock for a lookup and never across an `await`; whoever must
/// act on changes waits for the next revision and reads everything anew, so that revisions may be
/// skipped and none is missed.
#[derive(Clone, Debug)]
pub struct SharedState {
    cluster: Arc<RwLock<ClusterState>>,
    revision: watch::Sender<u64>,
}

impl SharedState {
    /// Empty tables at revision 0.
    pub fn new() -> Self {
        Self {
            cluster: Arc::default(),
            revision: watch::Sender::new(0),
        }
    }

    /// Locks the tables for reading. Blocks only while an update is being applied.
    pub fn read(&self) -> RwLockReadGuard<'_, ClusterState> {
        // A panic inside an update leaves tables that are valid each, at worst without the rest of
        // that update; going on with them is better than to stop naming and balancing.
        self.cluster.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the tables in one step that no reader sees half of. `change` tells whether it did
    /// change anything; only then does the revision rise. Convert input before, outside the lock.
    pub fn update(&self, change: impl FnOnce(&mut ClusterState) -> bool) {
        let mut cluster = self.cluster.write().unwrap_or_else(PoisonError::into_inner);
        if change(&mut cluster) {
            // Under the lock, so that who sees a revision also reads it.
            self.revision.send_modify(|revision| *revision += 1);
        }
    }

    /// Follows the revision. The current one counts as seen.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}

impl Default for SharedState {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Change, Namespace, Object};

    fn namespace(name: &str) -> Vec<Change> {
        let name = name.to_owned();
        vec![Change::Upsert(Object::Namespace(Namespace {
            name,
            labels: [].into(),
        }))]
    }

    #[test]
    fn revision_rises_only_with_a_change() {
        let shared = SharedState::new();
        let mut revisions = shared.subscribe();
        assert!(!revisions.has_changed().unwrap());

        shared.update(|cluster| cluster.apply(namespace("shop")));
        assert!(revisions.has_changed().unwrap());
        assert_eq!(*revisions.borrow_and_update(), 1);

        shared.update(|cluster| cluster.apply(namespace("shop")));
        assert!(!revisions.has_changed().unwrap());
    }

    #[test]
    fn clones_share_the_tables() {
        let shared = SharedState::new();
        shared
            .clone()
            .update(|cluster| cluster.apply(namespace("shop")));
        assert!(shared.read().namespace("shop").is_some());
    }

    #[test]
    fn a_panic_in_an_update_does_not_stop_the_readers() {
        let shared = SharedState::new();
        let writer = shared.clone();
        let panicked = std::thread::spawn(move || writer.update(|_| panic!("on purpose"))).join();
        assert!(panicked.is_err());
        shared.update(|cluster| cluster.apply(namespace("shop")));
        assert_eq!(shared.read().namespaces().count(), 1);
    }
}
