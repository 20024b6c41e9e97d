//! The folder of copies: of each file with manifests, the last good state of its objects.
//!
//! A copy is a manifest itself, a JSON `List` with an object per line, so it is read by the same
//! parser, and by an agent of any version. It is replaced by renaming, so it is whole or not there.
//! Nothing waits for the disk: a power cut may damage the copy of a file that had just changed, and
//! its reader gets an error and goes without. All of them together are bounded.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::parse::{ParsedFile, parse};
use super::tree::Syntax;
use crate::state::ObjectKey;

/// Bytes that all copies may have together: twenty times what a cluster of 10,000 Services needs.
const MAX_BYTES: u64 = 256 << 20;

/// Bytes of one copy: more than a manifest of the size that is read can become.
const MAX_COPY_BYTES: u64 = 32 << 20;

const SUFFIX: &str = ".json";

/// Where a copy is written before it takes its place. Manifests never have a dot first.
const UNFINISHED: &str = ".unfinished";

/// What a file holds: manifests that were read just now, and `None` for objects whose manifest is
/// the one in the copy.
pub(super) type Held = BTreeMap<ObjectKey, Option<String>>;

/// The folder, to be read from.
#[derive(Clone, Debug)]
pub(super) struct Copies {
    folder: PathBuf,
}

impl Copies {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names of the files of which there are copies, and the sizes of these. None if there is no
    /// folder.
    pub(super) fn list(&self) -> BTreeMap<String, u64> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let copy = entry.file_name().into_string().ok()?;
                let name = copy.strip_suffix(SUFFIX)?.to_owned();
                Some((name, entry.metadata().ok()?.len()))
            })
            .collect()
    }

    /// The copy of a file, if there is one. Lines in it say nothing and are not told.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<ParsedFile>> {
        let mut text = String::new();
        let file = match File::open(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        file.take(MAX_COPY_BYTES).read_to_string(&mut text)?;
        let mut parsed = parse(name, Syntax::Json, &text);
        if parsed.lost_something {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is damaged"));
        }
        parsed.items.retain(|item| item.object.is_some());
        for item in &mut parsed.items {
            item.line = 1;
        }
        parsed.problems.clear();
        Ok(Some(parsed))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{SUFFIX}"))
    }
}

/// The folder, to be written to: by one at a time.
#[derive(Debug)]
pub(super) struct CopyWriter {
    copies: Copies,
    /// Of the copies that there are.
    sizes: BTreeMap<String, u64>,
}

impl CopyWriter {
    pub(super) fn new(copies: Copies) -> Self {
        let sizes = copies.list();
        Self { copies, sizes }
    }

    /// Makes the copy of a file hold this. If it cannot, there is no copy, as an older state than
    /// the last one must not come back.
    pub(super) fn keep(&mut self, name: &str, held: Held) -> io::Result<()> {
        if held.is_empty() {
            return self.remove(name);
        }
        let kept = self.write(name, held);
        if kept.is_err() {
            // The first error tells more.
            let _ = self.remove(name);
        }
        kept
    }

    fn write(&mut self, name: &str, held: Held) -> io::Result<()> {
        let size_before = self.sizes.remove(name);
        let text = self.text(name, held)?;
        let size = text.len() as u64;
        let others: u64 = self.sizes.values().sum();
        if size > MAX_COPY_BYTES || others + size > MAX_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("all copies would have more than {} MiB", MAX_BYTES >> 20),
            ));
        }
        let path = self.copies.path(name);
        if size_before != Some(size) || fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            self.replace(&path, text.as_bytes())?;
        }
        self.sizes.insert(name.to_owned(), size);
        Ok(())
    }

    fn text(&self, name: &str, held: Held) -> io::Result<String> {
        let mut before = BTreeMap::new();
        if held.values().any(Option::is_none) {
            let copy = self.copies.read(name)?;
            before = copy.map_or_else(BTreeMap::new, |mut copy| copy.take_manifests());
        }
        let manifests: Vec<String> = held
            .into_iter()
            .filter_map(|(key, manifest)| manifest.or_else(|| before.remove(&key)))
            .collect();
        Ok(format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[\n{}\n]}}\n",
            manifests.join(",\n")
        ))
    }

    fn replace(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        let folder = self.copies.folder();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let unfinished = folder.join(UNFINISHED);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(text)?;
        fs::rename(&unfinished, path)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.sizes.remove(name);
        match fs::remove_file(self.copies.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::Item;
    use super::*;
    use crate::state::{Kind, Object, ObjectName};

    fn key(name: &str) -> ObjectKey {
        ObjectKey {
            kind: Kind::Namespace,
            name: ObjectName::new("", name),
        }
    }

    fn manifest(name: &str, label: &str) -> String {
        format!(
            r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{name}","labels":{{"is":"{label}"}}}}}}"#
        )
    }

    /// Names and labels that a copy holds.
    fn labels(copies: &Copies, name: &str) -> Vec<String> {
        let copy = copies.read(name).unwrap().unwrap();
        let line = |item: &Item| match item.object.as_deref() {
            Some(Object::Namespace(it)) => format!("{} {}", it.name, it.labels["is"]),
            other => panic!("{other:?}"),
        };
        copy.items.iter().map(line).collect()
    }

    #[test]
    fn kept_objects_stay_and_the_others_are_replaced() {
        let root = tempfile::tempdir().unwrap();
        let copies = Copies::new(root.path().join("deep/er"));
        assert!(copies.read("a.yaml").unwrap().is_none());
        let mut writer = CopyWriter::new(copies.clone());
        let first = [("x", "1"), ("y", "1"), ("z", "1")];
        let first = first.map(|(name, label)| (key(name), Some(manifest(name, label))));
        writer.keep("a.yaml", first.into()).unwrap();
        assert_eq!(labels(&copies, "a.yaml"), ["x 1", "y 1", "z 1"]);
        let second = [(key("x"), Some(manifest("x", "2"))), (key("y"), None)];
        writer.keep("a.yaml", second.into()).unwrap();
        assert_eq!(labels(&copies, "a.yaml"), ["x 2", "y 1"]);
        // A new writer knows what there is; a file that holds nothing has no copy.
        let mut writer = CopyWriter::new(copies.clone());
        assert_eq!(writer.sizes.len(), 1);
        writer.keep("a.yaml", Held::new()).unwrap();
        assert!(copies.list().is_empty() && writer.sizes.is_empty());
    }

    #[test]
    fn what_cannot_be_kept_leaves_no_older_state() {
        let root = tempfile::tempdir().unwrap();
        let copies = Copies::new(root.path().to_owned());
        let mut writer = CopyWriter::new(copies.clone());
        let held = |label: &str| Held::from([(key("x"), Some(manifest("x", label)))]);
        writer.keep("a.yaml", held("1")).unwrap();
        writer.sizes.insert("huge.yaml".to_owned(), MAX_BYTES);
        let error = writer.keep("a.yaml", held("2")).unwrap_err();
        assert!(error.to_string().contains("256 MiB"), "{error}");
        assert!(copies.read("a.yaml").unwrap().is_none());
    }

    #[test]
    fn a_damaged_copy_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let copies = Copies::new(root.path().to_owned());
        for text in ["", "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[\n"] {
            fs::write(root.path().join("a.yaml.json"), text).unwrap();
            assert!(copies.read("a.yaml").is_err(), "{text:?}");
        }
    }
}
