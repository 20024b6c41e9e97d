//! The guarded ranges in the state folder.
//!
//! After a reboot the maps are empty, and who is where is known only once the source was read. So the
//! ranges are kept in a file, and are in the maps again before any program is attached. Nobody is a
//! peer by that file alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use ebpf_abi::{IpcacheValue, NodeId};
use serde::{Deserialize, Serialize};

use super::Prefix;
use super::desired::ranges::Ranges;
use crate::config::Config;
use crate::datapath::encryption_maps::EncryptionMaps;

const FILE: &str = "guarded-ranges.json";
const DRAFT: &str = ".guarded-ranges.json.draft";

/// One range in the file.
#[derive(Serialize, Deserialize)]
struct Entry {
    range: Prefix,
    node: u32,
    flags: u32,
}

/// The file.
#[derive(Clone, Debug)]
pub struct GuardedRanges {
    folder: PathBuf,
    /// What it holds, if this process has written it.
    written: Option<Ranges>,
}

impl GuardedRanges {
    /// That of a state folder.
    pub fn below(state_folder: &Path) -> Self {
        Self {
            folder: state_folder.to_owned(),
            written: None,
        }
    }

    /// The ranges of an earlier run; none if there was none.
    ///
    /// # Errors
    /// The file cannot be read, or is none of ours. The text names it.
    pub fn read(&self) -> io::Result<Ranges> {
        let path = self.folder.join(FILE);
        let about = |error: io::Error| {
            let text = format!("{}: {error}; it may be removed", path.display());
            io::Error::new(error.kind(), text)
        };
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ranges::new()),
            read => read.map_err(about)?,
        };
        let entries: Vec<Entry> = serde_json::from_slice(&text)
            .map_err(io::Error::from)
            .map_err(about)?;
        let ranges = entries.into_iter().map(|entry| {
            let value = IpcacheValue {
                node: NodeId(entry.node),
                flags: entry.flags & !IpcacheValue::PEER,
            };
            (entry.range, value)
        });
        Ok(ranges.collect())
    }

    /// Keeps the ranges, in one step, if they differ from those kept last.
    pub fn write(&mut self, ranges: &Ranges) -> io::Result<()> {
        if self.written.as_ref() == Some(ranges) {
            return Ok(());
        }
        let entries: Vec<Entry> = ranges
            .iter()
            .map(|(range, value)| Entry {
                range: *range,
                node: value.node.0,
                flags: value.flags & !IpcacheValue::PEER,
            })
            .collect();
        fs::create_dir_all(&self.folder)?;
        let draft = self.folder.join(DRAFT);
        fs::write(&draft, serde_json::to_vec(&entries)?)?;
        fs::File::open(&draft)?.sync_all()?;
        fs::rename(&draft, self.folder.join(FILE))?;
        self.written = Some(ranges.clone());
        Ok(())
    }

    /// Forgets them.
    pub fn remove(&self) -> io::Result<()> {
        for name in [FILE, DRAFT] {
            match fs::remove_file(self.folder.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Puts what is known without the source into the maps: the ranges that were kept and those of the
/// settings. What is in the maps already is newer and stays. To be called before anything is
/// attached.
///
/// # Errors
/// What was kept cannot be read: the ranges of the settings are in the maps all the same.
pub fn restore(maps: &mut EncryptionMaps, config: &Config) -> anyhow::Result<()> {
    let strict = &config.encryption.strict_mode;
    let guarded = IpcacheValue {
        node: NodeId(0),
        flags: IpcacheValue::POD,
    };
    let named = strict
        .pod_cidrs
        .iter()
        .map(|net| (Prefix::from(*net), guarded));
    let mut ranges: Ranges = named.collect();
    let kept = GuardedRanges::below(&config.paths.state).read();
    let kept = kept.context("reading the guarded ranges");
    if let Ok(kept) = &kept {
        ranges.extend(kept.iter().map(|(range, value)| (*range, *value)));
    }
    ranges.extend(maps.ranges().context("reading the ranges")?);
    maps.set_ranges(&ranges).context("writing the ranges")?;
    kept.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges() -> Ranges {
        let value = |node, flags| IpcacheValue {
            node: NodeId(node),
            flags,
        };
        let (pod, local, peer) = (IpcacheValue::POD, IpcacheValue::LOCAL, IpcacheValue::PEER);
        Ranges::from([
            ("10.244.1.0/24".parse().unwrap(), value(1, pod | local)),
            ("fd00:10:244:2::/64".parse().unwrap(), value(2, pod | peer)),
        ])
    }

    #[test]
    fn what_is_kept_is_read_again_and_nobody_is_a_peer_by_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("not-there-yet");
        let mut guarded = GuardedRanges::below(&state);
        assert_eq!(guarded.read().unwrap(), Ranges::new());
        guarded.write(&ranges()).unwrap();
        let mut expected = ranges();
        for value in expected.values_mut() {
            value.flags &= !IpcacheValue::PEER;
        }
        assert_eq!(guarded.read().unwrap(), expected);
        guarded.remove().unwrap();
        assert_eq!(guarded.read().unwrap(), Ranges::new());
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let guarded = GuardedRanges::below(folder.path());
        for text in ["", "[{", r#"[{"range":"x","node":1,"flags":1}]"#] {
            fs::write(folder.path().join(FILE), text).unwrap();
            let error = guarded.read().unwrap_err().to_string();
            assert!(error.contains(FILE), "{error}");
        }
    }
}
