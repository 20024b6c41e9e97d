//! What comes out of reading a file.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use crate::source::finding::problem;
use crate::state::{Object, ObjectKey, Problem, Severity};

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub(in crate::source::manifests) struct ParsedFile {
    /// Objects in the order of the file. A name may occur twice.
    pub(in crate::source::manifests) items: Vec<Item>,
    /// What is wrong, for its author.
    pub(in crate::source::manifests) problems: Vec<Problem>,
    /// Something could not be read so far that its name is known, so any object that the file held
    /// before may be the one.
    pub(in crate::source::manifests) lost_something: bool,
}

/// One object of a file.
#[derive(Clone, Debug)]
pub(in crate::source::manifests) struct Item {
    pub(in crate::source::manifests) key: ObjectKey,
    /// Line of the file where its document begins, from 1.
    pub(in crate::source::manifests) line: usize,
    /// `None` if it was refused; the problems tell why.
    pub(in crate::source::manifests) object: Option<Arc<Object>>,
    /// The manifest of an accepted object as JSON, in one line; empty if it was refused.
    pub(in crate::source::manifests) manifest: String,
}

impl ParsedFile {
    /// A file that cannot be read at all.
    pub(in crate::source::manifests) fn unreadable(origin: &str, why: impl Into<String>) -> Self {
        let problem = problem(Severity::Error, origin.to_owned(), &"", "", why);
        Self {
            items: Vec::new(),
            problems: vec![problem],
            lost_something: true,
        }
    }

    /// Whether something is not served as the file has it now, so that an earlier state may count.
    pub(in crate::source::manifests) fn lacks_something(&self) -> bool {
        self.lost_something || self.items.iter().any(|item| item.object.is_none())
    }

    /// Takes out the manifests of the accepted objects; of several of one name, the first.
    pub(in crate::source::manifests) fn take_manifests(&mut self) -> BTreeMap<ObjectKey, String> {
        let mut manifests = BTreeMap::new();
        for item in self.items.iter_mut().filter(|item| item.object.is_some()) {
            manifests
                .entry(item.key.clone())
                .or_insert_with(|| mem::take(&mut item.manifest));
        }
        manifests
    }
}
