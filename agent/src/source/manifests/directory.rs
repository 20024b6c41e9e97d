//! The files of the directory: which there are, which have changed, and their text.
//!
//! All the I/O of reading. A file that cannot be read is a result like any other; only a directory
//! that cannot be listed is an error, as then nothing is known and everything must stay as it is.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::tree::Syntax;

/// Larger files are refused; a thousand Services with their slices need about one.
const MAX_FILE_BYTES: u64 = 10 << 20;

/// Clocks of file systems tick this often at least. A file that changed as recently as that may
/// change again without its times showing it.
const CLOCK_TICK: Duration = Duration::from_millis(50);

/// What a scan must look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// The files named as changed, and no other.
    #[default]
    Named,
    /// These, and every file that looks different from when it was read.
    Looks,
    /// Every file, however it looks.
    All,
}

/// Where to look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    pub(super) scope: Scope,
    /// Read these even if they look the same.
    pub(super) changed: BTreeSet<String>,
    /// Being written: leave these alone.
    pub(super) being_written: HashSet<String>,
}

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) read: Vec<ReadFile>,
    pub(super) removed: Vec<String>,
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct ReadFile {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) syntax: Syntax,
    /// The text, or why there is none.
    pub(super) text: Result<String, String>,
}

/// A directory and what its files looked like when they were read.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// By name; `None` if the next scan must read the file in any case.
    stamps: BTreeMap<String, Option<Stamp>>,
}

/// What changes whenever a file's content does: place, size and times of the file behind all links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            stamps: BTreeMap::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what is new or has changed since the last scan. After an error nothing is known, and
    /// everything counts as it did before.
    pub(super) fn scan(&mut self, hints: &Hints) -> io::Result<Scan> {
        let mut names = hints.changed.clone();
        let mut missing: BTreeSet<String> = BTreeSet::new();
        if hints.scope > Scope::Named {
            names = self.list()?;
            missing.extend(
                self.stamps
                    .keys()
                    .filter(|name| !names.contains(*name))
                    .cloned(),
            );
        }
        let mut read = Vec::new();
        for name in names
            .into_iter()
            .filter(|name| !hints.being_written.contains(name))
        {
            match self.look(&name, hints) {
                Look::Same => {}
                Look::Missing => missing.extend(self.stamps.contains_key(&name).then_some(name)),
                Look::Changed(file, stamp) => read.push((file, stamp)),
            }
        }
        // Without their directory all files are missing, and none of them was removed.
        fs::metadata(&self.path)?;
        for name in &missing {
            self.stamps.remove(name);
        }
        for (file, stamp) in &read {
            self.stamps.insert(file.name.clone(), *stamp);
        }
        let read = read.into_iter().map(|(file, _)| file).collect();
        Ok(Scan {
            read,
            removed: missing.into_iter().collect(),
        })
    }

    fn list(&self) -> io::Result<BTreeSet<String>> {
        let names = fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names
            .filter(|name| {
                name.as_ref().is_ok_and(|name| syntax_of(name).is_some()) || name.is_err()
            })
            .collect()
    }

    fn look(&self, name: &str, hints: &Hints) -> Look {
        let path = self.path.join(name);
        let Some(syntax) = syntax_of(name) else {
            return Look::Same;
        };
        if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Look::Missing;
        }
        // Of what a link points to, which may be missing: that is not a file that was removed.
        let metadata = fs::metadata(&path);
        let stamp = metadata.as_ref().ok().and_then(Stamp::of);
        let must_read = hints.scope == Scope::All || hints.changed.contains(name);
        if !must_read && stamp.is_some() && self.stamps.get(name) == Some(&stamp) {
            return Look::Same;
        }
        let text = metadata
            .map_err(|error| unreadable(&error))
            .and_then(|m| read(&path, &m));
        Look::Changed(
            ReadFile {
                name: name.to_owned(),
                path,
                syntax,
                text,
            },
            stamp,
        )
    }
}

/// What a look at one file shows.
enum Look {
    Same,
    Missing,
    Changed(ReadFile, Option<Stamp>),
}

/// The language of a file by its name; `None` if it is no manifest. Names with a dot first are
/// editors' and kubelet's own.
fn syntax_of(name: &str) -> Option<Syntax> {
    if name.starts_with('.') {
        return None;
    }
    match Path::new(name).extension()?.to_str()? {
        "yaml" | "yml" => Some(Syntax::Yaml),
        "json" => Some(Syntax::Json),
        _ => None,
    }
}

fn read(path: &Path, metadata: &Metadata) -> Result<String, String> {
    if metadata.is_dir() {
        return Err("is a folder, and what is in it is not read".to_owned());
    }
    if !metadata.is_file() {
        return Err("is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, as the file may have grown since its size was asked for.
    let read =
        File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let limit = MAX_FILE_BYTES >> 20;
        return Err(format!(
            "is larger than {limit} MiB and was not read: split it up"
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("is not UTF-8 text: byte {at} begins no character")
    })
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

impl Stamp {
    /// `None` if the file changed too recently to be sure that a further change would show.
    fn of(metadata: &Metadata) -> Option<Self> {
        let modified = metadata.modified().ok()?;
        let age = SystemTime::now()
            .duration_since(modified)
            .unwrap_or(Duration::ZERO);
        (age > CLOCK_TICK).then(|| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests;
