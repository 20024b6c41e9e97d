//! The files of the directory: which there are, which have changed, and their text.
//!
//! All the I/O of reading. A file that cannot be read is a result like any other; only a directory
//! that cannot be listed is an error, as then nothing is known and everything must stay as it is.

use std::collections::{BTreeMap, HashSet};
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

/// Which files to look at closely.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// Read these even if they look the same.
    pub(super) changed: HashSet<String>,
    /// Read all.
    pub(super) all_changed: bool,
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

    /// Reads what is new or has changed since the last scan.
    pub(super) fn scan(&mut self, hints: &Hints) -> io::Result<Scan> {
        let mut scan = Scan::default();
        let mut seen = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(syntax) = syntax_of(&name) else {
                continue;
            };
            let before = self.stamps.get(&name);
            if hints.being_written.contains(&name) {
                // A new file is as good as absent until it is complete.
                if before.is_some() {
                    seen.insert(name, None);
                }
                continue;
            }
            let path = entry.path();
            let metadata = fs::metadata(&path);
            if metadata.as_ref().is_ok_and(Metadata::is_dir) {
                continue;
            }
            let stamp = metadata.as_ref().ok().and_then(Stamp::of);
            let certain = hints.all_changed || hints.changed.contains(&name);
            if certain || stamp.is_none() || before != Some(&stamp) {
                let text = metadata
                    .map_err(|error| unreadable(&error))
                    .and_then(|m| read(&path, &m));
                scan.read.push(ReadFile {
                    name: name.clone(),
                    path,
                    syntax,
                    text,
                });
            }
            seen.insert(name, stamp);
        }
        scan.read.sort_by(|a, b| a.name.cmp(&b.name));
        let before = std::mem::replace(&mut self.stamps, seen).into_keys();
        scan.removed = before
            .filter(|name| !self.stamps.contains_key(name))
            .collect();
        Ok(scan)
    }
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
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Fixture {
        root: tempfile::TempDir,
        directory: Directory,
    }

    impl Fixture {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let directory = Directory::new(root.path().to_owned());
            Self { root, directory }
        }

        /// Writes a file with a time long enough ago to be stamped.
        fn write(&self, name: &str, content: impl AsRef<[u8]>) {
            let path = self.root.path().join(name);
            fs::write(&path, content).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(10))
                .unwrap();
        }

        /// Files read, as `name=text` or `name!`, and files removed, as `-name`.
        fn scan(&mut self, hints: &Hints) -> Vec<String> {
            let scan = self.directory.scan(hints).unwrap();
            let read = scan.read.iter().map(|file| match &file.text {
                Ok(text) => format!("{}={text}", file.name),
                Err(_) => format!("{}!", file.name),
            });
            let removed = scan.removed.iter().map(|name| format!("-{name}"));
            read.chain(removed).collect()
        }
    }

    #[test]
    fn only_manifests_are_read_and_only_when_they_changed() {
        let mut fixture = Fixture::new();
        for name in [
            "b.yaml",
            "a.yml",
            "c.json",
            ".hidden.yaml",
            "d.txt",
            "yaml",
            "e.yaml~",
        ] {
            fixture.write(name, "x");
        }
        fs::create_dir(fixture.root.path().join("sub.yaml")).unwrap();
        let hints = Hints::default();
        assert_eq!(fixture.scan(&hints), ["a.yml=x", "b.yaml=x", "c.json=x"]);
        assert_eq!(fixture.scan(&hints), [""; 0]);

        fixture.write("b.yaml", "y");
        fs::remove_file(fixture.root.path().join("c.json")).unwrap();
        assert_eq!(fixture.scan(&hints), ["b.yaml=y", "-c.json"]);
    }

    #[test]
    fn hints_override_looks() {
        let mut fixture = Fixture::new();
        fixture.write("a.yaml", "x");
        fixture.write("b.yaml", "x");
        fixture.scan(&Hints::default());
        let one = |name: &str| HashSet::from([name.to_owned()]);
        let changed = Hints {
            changed: one("a.yaml"),
            ..Hints::default()
        };
        assert_eq!(fixture.scan(&changed), ["a.yaml=x"]);
        let all = Hints {
            all_changed: true,
            ..Hints::default()
        };
        assert_eq!(fixture.scan(&all), ["a.yaml=x", "b.yaml=x"]);

        fixture.write("a.yaml", "half");
        let writing = Hints {
            being_written: one("a.yaml"),
            ..Hints::default()
        };
        assert_eq!(fixture.scan(&writing), [""; 0]);
        assert_eq!(fixture.scan(&Hints::default()), ["a.yaml=half"]);
    }

    #[test]
    fn a_file_that_changed_just_now_is_read_again() {
        let mut fixture = Fixture::new();
        fixture.write("old.yaml", "x");
        let new = fixture.root.path().join("new.yaml");
        fs::write(&new, "x").unwrap();
        let future = SystemTime::now() + Duration::from_secs(3600);
        File::options()
            .write(true)
            .open(&new)
            .unwrap()
            .set_modified(future)
            .unwrap();
        let hints = Hints::default();
        assert_eq!(fixture.scan(&hints), ["new.yaml=x", "old.yaml=x"]);
        assert_eq!(fixture.scan(&hints), ["new.yaml=x"]);
    }

    #[test]
    fn files_that_cannot_be_used_say_why() {
        let mut fixture = Fixture::new();
        fixture.write("binary.yaml", b"a: \xff\xfe");
        fixture.write("large.yaml", vec![b'#'; MAX_FILE_BYTES as usize + 1]);
        fixture.write("limit.yaml", vec![b'#'; MAX_FILE_BYTES as usize]);
        symlink("nowhere", fixture.root.path().join("dangling.yaml")).unwrap();
        nix::unistd::mkfifo(
            &fixture.root.path().join("pipe.yaml"),
            nix::sys::stat::Mode::from_bits_truncate(0o600),
        )
        .unwrap();
        let scan = fixture.directory.scan(&Hints::default()).unwrap();
        let why: Vec<_> = scan
            .read
            .into_iter()
            .filter_map(|file| Some(format!("{} {}", file.name, file.text.err()?)))
            .collect();
        assert_eq!(
            why,
            [
                "binary.yaml is not UTF-8 text: byte 3 begins no character",
                "dangling.yaml cannot be read: No such file or directory (os error 2)",
                "large.yaml is larger than 10 MiB and was not read: split it up",
                "pipe.yaml is no regular file",
            ]
        );
    }

    #[test]
    fn a_swapped_link_shows_the_new_files() {
        let mut fixture = Fixture::new();
        let root = fixture.root.path().to_owned();
        for (version, text) in [("..1", "x"), ("..2", "y")] {
            fs::create_dir(root.join(version)).unwrap();
            fixture.write(&format!("{version}/a.yaml"), text);
        }
        symlink("..1", root.join("..data")).unwrap();
        symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
        assert_eq!(fixture.scan(&Hints::default()), ["a.yaml=x"]);
        symlink("..2", root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        assert_eq!(fixture.scan(&Hints::default()), ["a.yaml=y"]);
    }

    #[test]
    fn a_missing_directory_is_an_error_and_forgets_nothing() {
        let mut fixture = Fixture::new();
        fixture.write("a.yaml", "x");
        fixture.scan(&Hints::default());
        let root = fixture.root.path().to_owned();
        let elsewhere = root.with_extension("moved");
        fs::rename(&root, &elsewhere).unwrap();
        assert!(fixture.directory.scan(&Hints::default()).is_err());
        fs::rename(&elsewhere, &root).unwrap();
        assert_eq!(fixture.scan(&Hints::default()), [""; 0]);
    }
}
