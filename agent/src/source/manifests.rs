//! Manifests: a directory of Kubernetes YAML or JSON, followed as it changes.
//!
//! ```text
//! watch ──▶ directory ──▶ split ▸ tree ▸ kind ▸ parse ▸ convert ──▶ catalog ──▶ SharedState
//! inotify   list, read    pure: one document at a time               pure: last good,
//!                                                                    who counts, differences
//!                         copies ◀── keeper: the last good state, for the next agent
//! ```
//!
//! Read are `*.yaml`, `*.yml` and `*.json` in the directory itself, through links, so that it may
//! be the mount of a ConfigMap, whose files kubelet swaps by renaming one link. Names with a dot
//! first are left out. A file may hold several documents and `List`s.
//!
//! Nothing in a file can stop this source or harm what other documents say. Whatever is wrong is a
//! problem with file, line and field, and the last good state of the object stays, also over a
//! restart of the agent. If the directory goes, everything stays until it is back.

mod catalog;
mod copies;
mod directory;
mod keeper;
mod kind;
mod locate;
mod parse;
mod split;
mod tree;
mod watch;

use std::fs;
use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::sync::watch::Sender;
use tokio::task;
use tokio_util::sync::CancellationToken;

use super::finding::problem;
use crate::state::{Problem, Severity, SharedState};
use catalog::{Catalog, Outcome};
use copies::{Copies, Held};
use directory::{Directory, Hints, ReadFile, Scope};
use keeper::Keeper;
use parse::{ParsedFile, parse};
use watch::Watch;

/// Name under which the problems of this source are kept in the state.
pub const REPORTER: &str = "manifests";

/// Folder of the copies within the agent's folder of state.
const COPIES: &str = "manifests";

/// Follows the manifests in `directory` until `stop` is cancelled; copies of their last good state
/// are in `state_folder`.
///
/// The first complete read is applied in one update; then `synced` is told. While the directory
/// does not exist there is no such read: a problem says so, the state stays as it is, and the
/// directory is waited for. Later changes are applied as one update each, within 100 ms of a write
/// on a machine that is not overloaded. No input ends it, and it returns no error.
pub async fn run(
    directory: PathBuf,
    state_folder: PathBuf,
    state: SharedState,
    synced: Sender<bool>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let copies = Copies::new(state_folder.join(COPIES));
    let keeper = Keeper::default();
    let keep = keeper
        .clone()
        .run(copies.clone(), state.clone(), stop.clone());
    let watch = Watch::new(directory.clone());
    let reader = Reader::new(directory, copies, keeper);
    tokio::join!(keep, follow(watch, reader, state, synced, stop));
    Ok(())
}

/// Removes the copies, for good.
pub fn forget(state_folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(state_folder.join(COPIES)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn follow(
    mut watch: Watch,
    mut reader: Reader,
    state: SharedState,
    synced: Sender<bool>,
    stop: CancellationToken,
) {
    let mut hints = Hints {
        scope: Scope::All,
        ..Hints::default()
    };
    loop {
        if watch.attach() {
            hints.scope = Scope::All;
        }
        let read = task::spawn_blocking(move || {
            let outcome = reader.read(&hints);
            (reader, outcome)
        });
        let (returned, outcome) = tokio::select! {
            () = stop.cancelled() => return,
            read = read => read.unwrap_or_else(|error| panic::resume_unwind(error.into_panic())),
        };
        reader = returned;
        match outcome {
            Ok(outcome) => {
                apply(&state, outcome);
                synced.send_if_modified(|synced| !mem::replace(synced, true));
            }
            Err(problems) => state.update(|cluster| cluster.set_problems(REPORTER, problems)),
        }
        hints = tokio::select! {
            () = stop.cancelled() => return,
            hints = watch.changed() => hints,
        };
    }
}

fn apply(state: &SharedState, outcome: Outcome) {
    let Outcome { changes, problems } = outcome;
    state.update(|cluster| {
        let changed = cluster.apply(changes);
        cluster.set_problems(REPORTER, problems) | changed
    });
}

/// The blocking half: from the directory to what the state must learn.
struct Reader {
    directory: Directory,
    catalog: Catalog,
    copies: Copies,
    keeper: Keeper,
    /// Nothing has been read yet.
    is_first: bool,
    /// Problems of the last successful read, to log only new ones.
    problems: Vec<Problem>,
}

impl Reader {
    fn new(path: PathBuf, copies: Copies, keeper: Keeper) -> Self {
        let directory = Directory::new(path);
        Self {
            directory,
            catalog: Catalog::default(),
            copies,
            keeper,
            is_first: true,
            problems: Vec::new(),
        }
    }

    /// Reads what changed. An error, in the form of all problems there are, means that nothing is
    /// known and everything must stay.
    fn read(&mut self, hints: &Hints) -> Result<Outcome, Vec<Problem>> {
        let start = Instant::now();
        let scan = self
            .directory
            .scan(hints)
            .map_err(|error| self.unlisted(&error))?;
        for name in &scan.removed {
            self.catalog.remove(name);
            self.keeper.put(name, Held::new());
        }
        let files_read = scan.read.len();
        for file in scan.read {
            self.take(&file);
        }
        if mem::take(&mut self.is_first) {
            self.drop_stray_copies();
        }
        let outcome = self.catalog.settle();
        self.log(&outcome, files_read, start);
        self.problems.clone_from(&outcome.problems);
        Ok(outcome)
    }

    fn take(&mut self, file: &ReadFile) {
        let origin = file.path.display().to_string();
        let mut parsed = parse_file(&origin, file);
        if parsed.lacks_something() && !self.catalog.holds(&file.name) {
            self.restore(&file.name, &origin, &mut parsed);
        }
        let mut manifests = parsed.take_manifests();
        self.catalog.put(&file.name, &origin, parsed);
        let keys = self.catalog.keys(&file.name);
        let held = keys.map(|key| (key.clone(), manifests.remove(key)));
        self.keeper.put(&file.name, held.collect());
    }

    /// Has the catalog know what an earlier agent knew of a file that is broken now.
    fn restore(&mut self, name: &str, origin: &str, parsed: &mut ParsedFile) {
        match self.copies.read(name) {
            Ok(None) => {}
            Ok(Some(copy)) => self.catalog.put(name, origin, copy),
            Err(error) => {
                let message = format!(
                    "its last good state, kept in {}, cannot be read: {error}",
                    self.copies.folder().display()
                );
                let origin = origin.to_owned();
                let lost = problem(Severity::Warning, origin, &"", "", message);
                parsed.problems.push(lost);
            }
        }
    }

    /// Files that were removed while no agent ran must not come back.
    fn drop_stray_copies(&self) {
        for name in self.copies.list().into_keys() {
            if !self.catalog.holds(&name) {
                self.keeper.put(&name, Held::new());
            }
        }
    }

    fn unlisted(&self, error: &io::Error) -> Vec<Problem> {
        let origin = self.directory.path().display().to_string();
        let message = format!(
            "the directory of manifests cannot be read: {error}; create it, or set \
             source.manifests.directory; until then everything stays as it is"
        );
        let missing = problem(Severity::Error, origin, &"", "", message);
        [missing]
            .into_iter()
            .chain(self.problems.iter().cloned())
            .collect()
    }

    fn log(&self, outcome: &Outcome, files_read: usize, start: Instant) {
        /// Problems logged at a time; all of them are in `weir status`.
        const MAX_LOGGED: usize = 20;
        let new = outcome
            .problems
            .iter()
            .filter(|problem| !self.problems.contains(problem));
        for problem in new.take(MAX_LOGGED) {
            tracing::warn!("{problem}");
        }
        if !outcome.changes.is_empty() || outcome.problems != self.problems {
            tracing::info!(
                files = self.catalog.files(),
                files_read,
                objects = self.catalog.objects(),
                changes = outcome.changes.len(),
                problems = outcome.problems.len(),
                took = ?start.elapsed(),
                "manifests read"
            );
        }
    }
}

fn parse_file(origin: &str, file: &ReadFile) -> ParsedFile {
    match &file.text {
        Err(why) => ParsedFile::unreadable(origin, why),
        Ok(text) => {
            // The parsers underneath are large and not ours. Should one panic over some text, then
            // that text is a broken file like any other.
            let parsed = panic::catch_unwind(AssertUnwindSafe(|| parse(origin, file.syntax, text)));
            parsed.unwrap_or_else(|_| ParsedFile::unreadable(origin, "made the parser fail"))
        }
    }
}

#[cfg(test)]
mod tests;
