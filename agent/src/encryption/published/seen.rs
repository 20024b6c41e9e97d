//! Records that were read before and whose files did not change since: of a thousand nodes one at a
//! time has a new key.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::read_record;

/// The annotations in a record, or what is wrong with it.
type Content = Result<BTreeMap<String, String>, String>;

/// What files held.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<HashMap<PathBuf, (Stamp, Content)>>>);

/// What changes with a file's content. Records are replaced by renaming, so each has an inode of
/// its own; one that is written in place has a new time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Seen {
    /// What the record of a node holds now.
    pub fn read(&self, path: &Path, node: &str) -> Content {
        let stamp = match fs::metadata(path) {
            Ok(metadata) => Stamp::of(&metadata),
            Err(error) => return Err(error.to_string()),
        };
        // Only whole entries are written under the lock.
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get(path) {
            Some((known, content)) if *known == stamp => content.clone(),
            _ => {
                let content = read_record(path, node);
                seen.insert(path.to_owned(), (stamp, content.clone()));
                content
            }
        }
    }

    /// Forgets files that are gone.
    pub fn retain(&self, is_there: impl Fn(&Path) -> bool) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|path, _| is_there(path));
    }
}
