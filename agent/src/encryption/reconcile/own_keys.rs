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
pub(super) struct Announcement(Option<Seen>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    key: PublicKey,
    since: Instant,
    at: SystemTime,
}

impl Announcement {
    /// It was seen where the others read it.
    pub(super) fn seen(&mut self, key: PublicKey) {
        if self.of(key).is_none() {
            self.0 = Some(Seen {
                key,
                since: Instant::now(),
                at: SystemTime::now(),
            });
        }
    }

    fn of(&self, key: PublicKey) -> Option<&Seen> {
        self.0.as_ref().filter(|seen| seen.key == key)
    }

    /// Whether the others have had so long to hear of a key.
    fn is_over(&self, key: PublicKey, grace: Duration) -> bool {
        self.of(key)
            .is_some_and(|seen| seen.since.elapsed() >= grace)
    }

    /// When a key comes into use; if nobody has seen it yet, when it should have.
    fn in_use_from(&self, next: &StoredKey, grace: Duration) -> SystemTime {
        let seen = self.of(next.key.public());
        seen.map_or(next.created, |seen| seen.at) + grace
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
            let grace = wireguard.rotation_grace.duration();
            if !self.announcement.is_over(current.key.public(), grace) {
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
            in_use_from: self.in_use_from(next),
        })
    }

    fn in_use_from(&self, next: &StoredKey) -> SystemTime {
        let grace = self.config.wireguard.rotation_grace.duration();
        self.announcement.in_use_from(next, grace)
    }

    /// Begins to replace the key. The next step makes the new one known.
    pub(super) fn begin_rotation(&self) -> Result<Rotation, RotateError> {
        let current = self.keys.load_or_create()?;
        let next = match self.keys.rotate() {
            Ok(next) => next,
            Err(KeyStoreError::RotationUnfinished { .. }) => {
                return Err(RotateError::InProgress {
                    new: current.key.public(),
                    in_use_from: self.in_use_from(&current),
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
        let created = SystemTime::now() - Duration::from_secs(100);
        let [one, other] = [(); 2].map(|()| StoredKey {
            key: PrivateKey::generate(),
            created,
        });
        let [first, second] = [&one, &other].map(|it| it.key.public());
        let mut announcement = Announcement::default();
        let grace = Duration::from_millis(20);
        std::thread::sleep(grace);
        assert!(!announcement.is_over(first, grace));
        assert_eq!(
            announcement.in_use_from(&one, grace),
            created + grace,
            "it is late"
        );
        announcement.seen(first);
        let planned = announcement.in_use_from(&one, grace);
        assert!(
            planned > created + Duration::from_secs(90),
            "from when it was seen"
        );
        std::thread::sleep(grace);
        announcement.seen(first);
        assert_eq!(announcement.in_use_from(&one, grace), planned);
        assert!(announcement.is_over(first, grace));
        assert!(!announcement.is_over(second, grace));
        announcement.seen(second);
        assert!(!announcement.is_over(second, Duration::from_mins(1)));
        assert!(!announcement.is_over(first, grace));
    }
}
