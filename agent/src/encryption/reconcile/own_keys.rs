//! The keys of this node: the one in use, and while it is being replaced, the one made known.

use std::time::SystemTime;

use super::Encryption;
use crate::encryption::key::{KeyStoreError, StoredKey};
use crate::encryption::snapshot::Rotation;
use crate::encryption::snapshot::handle::RotateError;

/// The keys of this node.
pub(super) struct OwnKeys {
    /// That of the device.
    pub(super) active: StoredKey,
    /// Made known and not used yet.
    pub(super) next: Option<StoredKey>,
}

impl<A> Encryption<A> {
    /// The key in use and the one announced. A new key is announced for a while before it is used.
    pub(super) fn own_keys(&self) -> anyhow::Result<OwnKeys> {
        let wireguard = &self.config.wireguard;
        let now = SystemTime::now();
        let age = |key: &StoredKey| now.duration_since(key.created).unwrap_or_default();
        let current = self.keys.load_or_create()?;
        if let Some(previous) = self.keys.previous()? {
            if age(&current) < wireguard.rotation_grace.duration() {
                return Ok(OwnKeys {
                    active: previous,
                    next: Some(current),
                });
            }
            self.keys.drop_previous()?;
            tracing::info!(key = %current.key.public(), "the new key is in use");
        }
        let limit = wireguard.rotate_after.duration();
        if !limit.is_zero() && age(&current) >= limit {
            let next = self.keys.rotate()?;
            tracing::info!(key = %next.key.public(), "a new key is being made known");
            return Ok(OwnKeys {
                active: current,
                next: Some(next),
            });
        }
        Ok(OwnKeys {
            active: current,
            next: None,
        })
    }

    /// The change of key that is under way.
    pub(super) fn rotation(&self, own: &OwnKeys) -> Option<Rotation> {
        let next = own.next.as_ref()?;
        Some(Rotation {
            old: own.active.key.public(),
            new: next.key.public(),
            began: next.created,
            in_use_from: next.created + self.config.wireguard.rotation_grace.duration(),
        })
    }

    /// Begins to replace the key. The next step makes the new one known.
    pub(super) fn begin_rotation(&self) -> Result<Rotation, RotateError> {
        let current = self.keys.load_or_create()?;
        let next = match self.keys.rotate() {
            Ok(next) => next,
            Err(KeyStoreError::RotationUnfinished { .. }) => {
                let grace = self.config.wireguard.rotation_grace.duration();
                return Err(RotateError::InProgress {
                    new: current.key.public(),
                    in_use_from: current.created + grace,
                });
            }
            Err(error) => return Err(error.into()),
        };
        tracing::info!(key = %next.key.public(), "a new key is being made known, as asked for");
        let own = OwnKeys {
            active: current,
            next: Some(next),
        };
        Ok(self.rotation(&own).expect("there is a next key"))
    }
}
