//! The keys of this node: the one in use, and while it is being replaced, the one made known.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;

use super::Encryption;
use crate::config::WireGuard;
use crate::encryption::key::{KeyStore, KeyStoreError, PublicKey, StoredKey};
use crate::encryption::snapshot::Rotation;
use crate::encryption::snapshot::handle::RotateError;
use crate::state::SharedState;

/// The keys of this node.
pub(super) struct OwnKeys {
    /// That of the device.
    pub(super) active: StoredKey,
    /// Made known and not used yet.
    pub(super) next: Option<StoredKey>,
    /// Why the first is not being replaced, though it is old enough.
    pub(super) not_replaced: Option<KeyStoreError>,
}

impl OwnKeys {
    fn of(active: StoredKey, next: Option<StoredKey>) -> Self {
        Self {
            active,
            next,
            not_replaced: None,
        }
    }

    /// What others are to know of the key that comes.
    pub(super) fn next_key(&self) -> Option<PublicKey> {
        self.next.as_ref().map(|next| next.key.public())
    }
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
    /// See [`keys_in`].
    pub(super) fn own_keys(&self) -> Result<OwnKeys, KeyStoreError> {
        keys_in(&self.keys, &self.announcement, &self.config.wireguard)
    }

    /// Makes the keys known, and notes when the one that comes stands where the others read it.
    pub(super) fn make_known(&mut self, own: &OwnKeys, state: &SharedState) -> anyhow::Result<()> {
        let next = own.next_key();
        self.published
            .write(&self.node_name, own.active.key.public(), next)
            .context("publishing this node's key")?;
        if let Some(next) = next
            && self
                .published
                .has_next(&self.node_name, next, &state.read())
        {
            self.announcement.seen(next);
        }
        Ok(())
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
        let own = OwnKeys::of(current, Some(next));
        Ok(self.rotation(&own).expect("there is a next key"))
    }
}

/// The key in use and the one announced. A new key is announced for a while before it is used.
fn keys_in(
    store: &KeyStore,
    announcement: &Announcement,
    settings: &WireGuard,
) -> Result<OwnKeys, KeyStoreError> {
    let current = store.load_or_create()?;
    if let Some(previous) = store.previous()? {
        let grace = settings.rotation_grace.duration();
        if !announcement.is_over(current.key.public(), grace) {
            return Ok(OwnKeys::of(previous, Some(current)));
        }
        store.drop_previous()?;
        tracing::info!(key = %current.key.public(), "the new key is in use");
    }
    let now = SystemTime::now();
    let age = now.duration_since(current.created).unwrap_or_default();
    let limit = settings.rotate_after.duration();
    if limit.is_zero() || age < limit {
        return Ok(OwnKeys::of(current, None));
    }
    match store.rotate() {
        Ok(next) => {
            tracing::info!(key = %next.key.public(), "a new key is being made known");
            Ok(OwnKeys::of(current, Some(next)))
        }
        // As good as it was a moment ago; the next step tries again.
        Err(error) => Ok(OwnKeys {
            not_replaced: Some(error),
            ..OwnKeys::of(current, None)
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Seconds;
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

    /// As where the disk is full.
    #[test]
    fn a_key_that_cannot_be_replaced_stays_in_use() {
        let state = tempfile::tempdir().unwrap();
        let store = KeyStore::open(state.path()).unwrap();
        let current = store.load_or_create().unwrap().key.public();
        let folder = state.path().join("encryption");
        let file = folder.join("private-key");
        let text = fs::read_to_string(&file).unwrap();
        let (head, tail) = text.split_once("created: ").unwrap();
        let (_, tail) = tail.split_once('\n').unwrap();
        fs::write(
            &file,
            format!("{head}created: 2020-01-01T00:00:00Z\n{tail}"),
        )
        .unwrap();
        let settings = WireGuard {
            rotate_after: Seconds::new(60),
            ..WireGuard::default()
        };
        let in_the_way = folder.join("private-key.new");
        fs::create_dir(&in_the_way).unwrap();
        for can_be_replaced in [false, true] {
            if can_be_replaced {
                fs::remove_dir(&in_the_way).unwrap();
            }
            let own = keys_in(&store, &Announcement::default(), &settings).unwrap();
            assert_eq!(own.active.key.public(), current);
            assert_eq!(own.next.is_some(), can_be_replaced);
            assert_eq!(own.not_replaced.is_none(), can_be_replaced);
        }
    }
}
