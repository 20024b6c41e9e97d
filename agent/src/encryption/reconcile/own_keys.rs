//! The keys of this node: the one in use, and while it is being replaced, the one made known.

use std::time::{Duration, Instant, SystemTime};

use super::Encryption;
use crate::encryption::key::{KeyStoreError, PublicKey, StoredKey};
use crate::encryption::snapshot::Rotation;
use crate::encryption::snapshot::handle::RotateError;

/// The keys of this node.
pub(super) struct OwnKeys {
    /// That of the device.
    pub(super) active: StoredKey,
    /// Made known and not used yet.
    pub(super) next: Option<StoredKey>,
}

/// Since when the other nodes can know of the key that comes.
///
/// Not kept over a restart: the time begins anew, and a key that nobody could hear of is never used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Announcement(Option<(PublicKey, Instant)>);

impl Announcement {
    /// It was seen where the others read it.
    pub(super) fn seen(&mut self, key: PublicKey) {
        if self.0.is_none_or(|(known, _)| known != key) {
            self.0 = Some((key, Instant::now()));
        }
    }

    /// How long it is to be known before it is used.
    fn left(&self, key: PublicKey, grace: Duration) -> Duration {
        match self.0 {
            Some((known, since)) if known == key => grace.saturating_sub(since.elapsed()),
            _ => grace,
        }
    }
}

impl<A> Encryption<A> {
    /// The key in use and the one announced. A new key is announced for a while before it is used.
    pub(super) fn own_keys(&self) -> anyhow::Result<OwnKeys> {
        let wireguard = &self.config.wireguard;
        let now = SystemTime::now();
        let age = |key: &StoredKey| now.duration_since(key.created).unwrap_or_default();
        let current = self.keys.load_or_create()?;
        if let Some(previous) = self.keys.previous()? {
            if !self.time_to_use(current.key.public()).is_zero() {
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
            in_use_from: SystemTime::now() + self.time_to_use(next.key.public()),
        })
    }

    /// How long the others still have to hear of a key before it is used.
    fn time_to_use(&self, next: PublicKey) -> Duration {
        let grace = self.config.wireguard.rotation_grace.duration();
        self.announcement.left(next, grace)
    }

    /// Begins to replace the key. The next step makes the new one known.
    pub(super) fn begin_rotation(&self) -> Result<Rotation, RotateError> {
        let current = self.keys.load_or_create()?;
        let next = match self.keys.rotate() {
            Ok(next) => next,
            Err(KeyStoreError::RotationUnfinished { .. }) => {
                let new = current.key.public();
                return Err(RotateError::InProgress {
                    new,
                    in_use_from: SystemTime::now() + self.time_to_use(new),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::key::PrivateKey;

    #[test]
    fn time_passes_only_for_a_key_that_was_seen() {
        let [one, other] = [(); 2].map(|()| PrivateKey::generate().public());
        let mut announcement = Announcement::default();
        let grace = Duration::from_millis(20);
        std::thread::sleep(grace);
        assert_eq!(announcement.left(one, grace), grace);
        announcement.seen(one);
        std::thread::sleep(grace);
        announcement.seen(one);
        assert_eq!(announcement.left(one, grace), Duration::ZERO);
        assert_eq!(announcement.left(other, grace), grace);
        announcement.seen(other);
        assert!(announcement.left(other, Duration::from_mins(1)) > Duration::from_secs(50));
        assert_eq!(announcement.left(one, grace), grace);
    }
}
