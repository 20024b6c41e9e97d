//! The nodes' public keys: on the Node objects, or in a folder.
//!
//! The folder is for clusters whose objects are manifests: every agent writes its own record and
//! reads those of the others. Whoever distributes the manifests distributes the
//! folder.
//!
//! A record is a Node with nothing but annotations, so that it can be applied to a cluster as well.

mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::key::PublicKey;
use crate::state::{ClusterState, KEY_ANNOTATION, NEXT_KEY_ANNOTATION, OwnAnnotations};

use seen::Seen;

/// Records larger than this are not read; one has some three hundred bytes.
const RECORD_BYTES_MAX: u64 = 64 << 10;

/// Annotations by node.
pub type Records = BTreeMap<String, BTreeMap<String, String>>;

/// Where this node's key is made known, and those of others are found.
#[derive(Clone, Debug)]
pub enum Publication {
    /// A folder of records, beside manifests.
    Folder(Published),
    /// Annotations of the Node objects; whoever keeps the source writes those of this node.
    Node(watch::Sender<OwnAnnotations>),
}

impl Publication {
    /// Makes the keys of this node known, or has somebody do so.
    pub fn write(&self, node: &str, key: PublicKey, next: Option<PublicKey>) -> io::Result<()> {
        match self {
            Self::Folder(folder) => folder.write(node, key, next),
            Self::Node(wanted) => {
                let keys = OwnAnnotations::from([
                    (KEY_ANNOTATION, Some(key.to_string())),
                    (NEXT_KEY_ANNOTATION, next.map(|next| next.to_string())),
                ]);
                wanted.send_if_modified(|present| {
                    let differs = *present != keys;
                    *present = keys;
                    differs
                });
                Ok(())
            }
        }
    }

    /// Whether a key that comes stands where others read it: what was written may have come nowhere.
    pub fn has_next(&self, node: &str, next: PublicKey, state: &ClusterState) -> bool {
        match self {
            // Written before anybody asks.
            Self::Folder(_) => true,
            Self::Node(_) => {
                let published = state.node(node).map(|node| &node.annotations);
                let published = published.and_then(|all| all.get(NEXT_KEY_ANNOTATION));
                published.is_some_and(|published| *published == next.to_string())
            }
        }
    }

    /// What nodes have published besides their objects, and what is wrong with some of it.
    pub fn read(&mut self) -> (Records, Vec<String>) {
        match self {
            Self::Folder(folder) => folder.read(),
            Self::Node(_) => (Records::new(), Vec::new()),
        }
    }
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Published {
    folder: PathBuf,
    /// The last good ones.
    good: Records,
    seen: Seen,
}

impl Published {
    /// The folder below that of the manifests.
    pub fn below(manifests: &Path) -> Self {
        Self {
            folder: manifests.join("published"),
            good: Records::new(),
            seen: Seen::default(),
        }
    }

    /// Writes the record of a node, in one step, if it differs from what is there.
    pub fn write(&self, node: &str, key: PublicKey, next: Option<PublicKey>) -> io::Result<()> {
        let mut annotations = BTreeMap::from([(KEY_ANNOTATION, key.to_string())]);
        annotations.extend(next.map(|next| (NEXT_KEY_ANNOTATION, next.to_string())));
        let record = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": node, "annotations": annotations },
        });
        let text = serde_yaml_ng::to_string(&record).map_err(io::Error::other)?;
        let path = self.folder.join(format!("{node}.yaml"));
        if fs::read_to_string(&path).is_ok_and(|present| present == text) {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        let draft = self.folder.join(format!(".{node}.draft"));
        fs::write(&draft, text)?;
        fs::rename(&draft, &path)
    }

    /// Removes the record of a node.
    pub fn remove(&self, node: &str) -> io::Result<()> {
        match fs::remove_file(self.folder.join(format!("{node}.yaml"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// All records, and what is wrong with others. No folder is no records. A record that cannot be
    /// read, as it is being written or was spoilt, stays what it was before.
    pub fn read(&mut self) -> (Records, Vec<String>) {
        let mut records = Records::new();
        let mut wrong = Vec::new();
        let mut files = BTreeSet::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(node) = name.strip_suffix(".yaml").filter(|it| !it.starts_with('.')) else {
                continue;
            };
            let path = entry.path();
            match self.seen.read(&path, node) {
                Ok(annotations) => drop(records.insert(node.to_owned(), annotations)),
                Err(why) => {
                    wrong.push(format!("{}: {why}", entry.path().display()));
                    let before = self.good.remove(node);
                    records.extend(before.map(|good| (node.to_owned(), good)));
                }
            }
            files.insert(path);
        }
        self.seen.retain(|path| files.contains(path));
        wrong.sort();
        self.good.clone_from(&records);
        (records, wrong)
    }
}

fn read_record(path: &Path, node: &str) -> Result<BTreeMap<String, String>, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > RECORD_BYTES_MAX {
        return Err(format!("has {size} bytes, more than any record"));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let record: Value = serde_yaml_ng::from_str(&text).map_err(|error| error.to_string())?;
    let metadata = &record["metadata"];
    if metadata["name"].as_str() != Some(node) {
        return Err(format!(
            "metadata.name is not {node}, as the file's name says"
        ));
    }
    let annotations = metadata["annotations"].as_object();
    let texts = annotations.into_iter().flatten();
    Ok(texts
        .filter(|(key, _)| [KEY_ANNOTATION, NEXT_KEY_ANNOTATION].contains(&key.as_str()))
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::key::PrivateKey;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut published = Published::below(folder.path());
        assert_eq!(published.read(), (Records::new(), vec![]));
        let (key, next) = (
            PrivateKey::generate().public(),
            PrivateKey::generate().public(),
        );
        published.write("worker", key, None).unwrap();
        published.write("worker", key, Some(next)).unwrap();
        let (records, wrong) = published.read();
        assert_eq!(wrong, [""; 0]);
        assert_eq!(records["worker"][KEY_ANNOTATION], key.to_string());
        assert_eq!(records["worker"][NEXT_KEY_ANNOTATION], next.to_string());
        // Written in place, by someone else.
        let path = folder.path().join("published/worker.yaml");
        let other = PrivateKey::generate().public().to_string();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(&key.to_string(), &other)).unwrap();
        assert_eq!(published.read().0["worker"][KEY_ANNOTATION], other);
        published.remove("worker").unwrap();
        published.remove("worker").unwrap();
        assert_eq!(published.read().0, Records::new());
    }

    #[test]
    fn a_record_of_another_name_or_form_is_told_and_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let mut published = Published::below(folder.path());
        let key = PrivateKey::generate().public();
        published.write("good", key, None).unwrap();
        let path = folder.path().join("published");
        fs::copy(path.join("good.yaml"), path.join("evil.yaml")).unwrap();
        fs::write(path.join("broken.yaml"), "metadata: [").unwrap();
        fs::write(path.join("large.yaml"), vec![b' '; 100 << 10]).unwrap();
        fs::write(path.join(".good.draft"), "half").unwrap();
        let (records, wrong) = published.read();
        assert_eq!(records.keys().collect::<Vec<_>>(), ["good"]);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
    }
}
