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
        if metadata.as_ref().is_ok_and(Metadata::is_dir) {
            return Look::Missing;
        }
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
    use std::sync::LazyLock;

    use super::*;

    static LOOKS: LazyLock<Hints> = LazyLock::new(|| Hints {
        scope: Scope::Looks,
        ..Hints::default()
    });

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
        assert_eq!(fixture.scan(&LOOKS), ["a.yml=x", "b.yaml=x", "c.json=x"]);
        assert_eq!(fixture.scan(&LOOKS), [""; 0]);

        fixture.write("b.yaml", "y");
        fs::remove_file(fixture.root.path().join("c.json")).unwrap();
        assert_eq!(fixture.scan(&LOOKS), ["b.yaml=y", "-c.json"]);
    }

    #[test]
    fn hints_say_what_is_looked_at() {
        let mut fixture = Fixture::new();
        fixture.write("a.yaml", "x");
        fixture.write("b.yaml", "x");
        fixture.scan(&LOOKS);
        let all = Hints {
            scope: Scope::All,
            ..Hints::default()
        };
        assert_eq!(fixture.scan(&all), ["a.yaml=x", "b.yaml=x"]);

        // Only the one that is named, even if it looks the same and others do not.
        fixture.write("b.yaml", "y");
        fixture.write("c.yaml", "y");
        let named = Hints {
            changed: ["a.yaml".to_owned()].into(),
            ..Hints::default()
        };
        assert_eq!(fixture.scan(&named), ["a.yaml=x"]);
        let named = Hints {
            scope: Scope::Looks,
            ..named
        };
        assert_eq!(fixture.scan(&named), ["a.yaml=x", "b.yaml=y", "c.yaml=y"]);

        let gone = ["b.yaml", "never.yaml", "..data", "x.txt"]
            .map(str::to_owned)
            .into();
        fs::remove_file(fixture.root.path().join("b.yaml")).unwrap();
        assert_eq!(
            fixture.scan(&Hints {
                changed: gone,
                ..Hints::default()
            }),
            ["-b.yaml"]
        );
    }

    #[test]
    fn files_that_are_being_written_are_left_alone() {
        let mut fixture = Fixture::new();
        fixture.write("a.yaml", "x");
        fixture.scan(&LOOKS);
        fixture.write("a.yaml", "half");
        fixture.write("new.yaml", "half");
        let being_written: HashSet<_> = ["a.yaml", "new.yaml"].map(str::to_owned).into();
        for scope in [Scope::Looks, Scope::All] {
            let being_written = being_written.clone();
            assert_eq!(
                fixture.scan(&Hints {
                    scope,
                    being_written,
                    ..Hints::default()
                }),
                [""; 0]
            );
        }
        assert_eq!(fixture.scan(&LOOKS), ["a.yaml=half", "new.yaml=half"]);
    }

    #[test]
    fn a_file_that_changed_just_now_is_read_again() {
        let mut fixture = Fixture::new();
        fixture.write("old.yaml", "x");
        let new = fixture.root.path().join("new.yaml");
        fs::write(&new, "x").unwrap();
        let future = SystemTime::now() + Duration::from_hours(1);
        File::options()
            .write(true)
            .open(&new)
            .unwrap()
            .set_modified(future)
            .unwrap();
        assert_eq!(fixture.scan(&LOOKS), ["new.yaml=x", "old.yaml=x"]);
        assert_eq!(fixture.scan(&LOOKS), ["new.yaml=x"]);
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
        let scan = fixture.directory.scan(&LOOKS).unwrap();
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
        assert_eq!(fixture.scan(&LOOKS), ["a.yaml=x"]);
        symlink("..2", root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        assert_eq!(fixture.scan(&LOOKS), ["a.yaml=y"]);
    }

    #[test]
    fn a_missing_directory_is_an_error_and_forgets_nothing() {
        let mut fixture = Fixture::new();
        fixture.write("a.yaml", "x");
        fixture.scan(&LOOKS);
        let root = fixture.root.path().to_owned();
        let elsewhere = root.with_extension("moved");
        fs::rename(&root, &elsewhere).unwrap();
        assert!(fixture.directory.scan(&LOOKS).is_err());
        let named = Hints {
            changed: ["a.yaml".to_owned()].into(),
            ..Hints::default()
        };
        assert!(fixture.directory.scan(&named).is_err());
        fs::rename(&elsewhere, &root).unwrap();
        assert_eq!(fixture.scan(&LOOKS), [""; 0]);
    }
}
