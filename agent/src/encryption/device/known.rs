//! What is known of a device without asking it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::DeviceState;
use crate::encryption::peers::{self, PeerChange};

/// The state that was read last, with what was changed since; nothing if it has to be read.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<Arc<DeviceState>>>);

impl Known {
    pub fn state(&self) -> Option<Arc<DeviceState>> {
        self.lock().clone()
    }

    pub fn set(&self, state: Arc<DeviceState>) {
        *self.lock() = Some(state);
    }

    pub fn forget(&self) {
        *self.lock() = None;
    }

    /// The device has made these changes.
    pub fn follow(&self, changes: &[PeerChange]) {
        if let Some(state) = &mut *self.lock() {
            let state = Arc::make_mut(state);
            peers::follow(&mut state.peers, changes);
            let peers = &state.peers;
            state.traffic.retain(|peer, _| peers.contains_key(peer));
        }
    }

    /// What is behind the lock is replaced as a whole, or changed by code that does not panic.
    fn lock(&self) -> MutexGuard<'_, Option<Arc<DeviceState>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
