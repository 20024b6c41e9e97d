//! Keeps the last good state beyond the life of the agent, for a start without an API server.
//!
//! A file per kind, with a row of the state's table per line. It is replaced by renaming, so it is
//! whole or not there. Services, slices, nodes and namespaces are written within seconds of a
//! change. Pods only give names to flows and change all the time in a large cluster, so they are
//! written once a minute at most: both are bounds on what the disk has to take.
//!
//! What changed in the last seconds before an agent was killed may be missing here, while the data
//! plane has it. So the last good state counts only where the API server cannot be asked.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::task;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::Pace;
use crate::source::finding::problem;
use crate::state::{Change, Kind, Object, ObjectName, Severity, SharedState};

/// Folder within the agent's folder of state.
const FOLDER: &str = "kubernetes";

/// Name under which problems of keeping are in the state.
const REPORTER: &str = "last good state of kubernetes";

/// Form of the files. Another one is not read.
const VERSION: u32 = 1;

/// Bytes of a file that are read at most: ten times what 30,000 pods need.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// Rows that are written under one lock of the state.
const ROWS_AT_ONCE: usize = 256;

/// Shortest time between two writes of a file.
const INTERVAL: Duration = Duration::from_secs(2);
/// Likewise for pods.
const INTERVAL_OF_PODS: Duration = Duration::from_mins(1);
/// Of one processor, where a large table changes all the time: it is then written less often, down
/// to once in [`INTERVAL_OF_PODS`].
const SHARE: u32 = 20;

/// Kinds in an order in which each finds what it refers to.
pub(super) const KINDS: [Kind; 5] = [
    Kind::Namespace,
    Kind::Node,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Pod,
];

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    written: Timestamp,
}

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    folder: PathBuf,
}

/// What was found there.
#[derive(Debug, Default)]
pub(super) struct Restored {
    pub(super) changes: Vec<Change>,
    /// When the oldest file was written.
    pub(super) written: Option<Timestamp>,
    /// Files that are missing or damaged.
    pub(super) missing: Vec<Kind>,
}

impl Kept {
    pub(super) fn within(state_folder: &Path) -> Self {
        Self {
            folder: state_folder.join(FOLDER),
        }
    }

    /// Removes all files, for good.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads all files. What can be read of a file is taken, for names; but it is missing if that is
    /// not all of it.
    pub(super) fn read(&self) -> Restored {
        let mut restored = Restored::default();
        for kind in KINDS {
            match self.read_kind(kind) {
                Ok((written, objects, is_whole)) => {
                    if !is_whole {
                        restored.missing.push(kind);
                    }
                    let written = restored
                        .written
                        .map_or(written, |oldest| oldest.min(written));
                    restored.written = Some(written);
                    restored
                        .changes
                        .extend(objects.into_iter().map(Change::Upsert));
                }
                Err(error) => {
                    if error.kind() != io::ErrorKind::NotFound {
                        tracing::warn!(?kind, %error, "the last good state cannot be read");
                    }
                    restored.missing.push(kind);
                }
            }
        }
        restored
    }

    /// When it was written, what could be read, and whether that is all.
    fn read_kind(&self, kind: Kind) -> io::Result<(Timestamp, Vec<Object>, bool)> {
        let file = File::open(self.path(kind))?;
        let mut lines = BufReader::new(file.take(FILE_BYTES_MAX)).lines();
        let header = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        let header: Header = serde_json::from_str(&header)?;
        if header.version != VERSION {
            let message = format!("it has form {}, not {VERSION}", header.version);
            return Err(io::Error::other(message));
        }
        let mut objects = Vec::new();
        let mut unreadable = 0_usize;
        for line in lines {
            match read_row(kind, &line?) {
                Ok(object) => objects.push(object),
                Err(_) => unreadable += 1,
            }
        }
        if unreadable > 0 {
            tracing::warn!(
                ?kind,
                unreadable,
                "rows of the last good state cannot be read"
            );
        }
        Ok((header.written, objects, unreadable == 0))
    }

    fn write(&self, kind: Kind, state: &SharedState) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        let draft = self.folder.join(format!(".{kind:?}.draft"));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        let mut file = BufWriter::new(file);
        let header = Header {
            version: VERSION,
            written: Timestamp::now(),
        };
        write_row(&mut file, &header)?;
        let names = state.read().names(kind);
        let mut rows = Vec::new();
        for some in names.chunks(ROWS_AT_ONCE) {
            rows.clear();
            write_rows(&mut rows, kind, some, state)?;
            file.write_all(&rows)?;
        }
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        // Otherwise the name may be on the disk before the rows, and an empty file after a power cut.
        file.sync_all()?;
        fs::rename(&draft, self.path(kind))?;
        File::open(&self.folder)?.sync_all()
    }

    fn path(&self, kind: Kind) -> PathBuf {
        self.folder.join(format!("{kind:?}.jsonl"))
    }
}

fn read_row(kind: Kind, line: &str) -> serde_json::Result<Object> {
    Ok(match kind {
        Kind::Service => Object::Service(serde_json::from_str(line)?),
        Kind::EndpointSlice => Object::EndpointSlice(serde_json::from_str(line)?),
        Kind::Pod => Object::Pod(serde_json::from_str(line)?),
        Kind::Node => Object::Node(serde_json::from_str(line)?),
        Kind::Namespace => Object::Namespace(serde_json::from_str(line)?),
    })
}

fn write_row(rows: &mut impl Write, row: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *rows, row)?;
    rows.write_all(b"\n")
}

/// The lock is held for a few rows in memory and never while the disk is written.
fn write_rows(
    rows: &mut Vec<u8>,
    kind: Kind,
    names: &[ObjectName],
    state: &SharedState,
) -> io::Result<()> {
    let state = state.read();
    for name in names {
        match kind {
            Kind::Service => state.service(name).map(|row| write_row(rows, row)),
            Kind::EndpointSlice => state.endpoint_slice(name).map(|row| write_row(rows, row)),
            Kind::Pod => state.pod(name).map(|row| write_row(rows, row)),
            Kind::Node => state.node(&name.name).map(|row| write_row(rows, row)),
            Kind::Namespace => state.namespace(&name.name).map(|row| write_row(rows, row)),
        }
        .transpose()?;
    }
    Ok(())
}

/// Keeps the file of one kind.
pub(super) struct Keeper {
    pub(super) kind: Kind,
    pub(super) kept: Kept,
    pub(super) state: SharedState,
    /// The table differs from the file.
    pub(super) changed: Arc<Notify>,
    /// All were listed once: what is written is complete.
    pub(super) listed: watch::Receiver<bool>,
}

impl Keeper {
    /// Writes until `stop` is cancelled, and then what is left.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let listed = self.listed.wait_for(|listed| *listed);
        tokio::select! {
            () = stop.cancelled() => return,
            listed = listed => if listed.is_err() { return },
        }
        let interval = match self.kind {
            Kind::Pod => INTERVAL_OF_PODS,
            _ => INTERVAL,
        };
        let mut pace = Pace::at_most(SHARE, INTERVAL_OF_PODS);
        loop {
            let begun = Instant::now();
            let pause = if self.write().await {
                interval
            } else {
                // Tried again, also if nothing changes.
                self.changed.notify_one();
                INTERVAL_OF_PODS
            };
            pace.took(begun.elapsed());
            tokio::select! {
                () = stop.cancelled() => break,
                () = async { tokio::join!(sleep(pause), pace.rest()); } => {}
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.changed.notified() => {}
            }
        }
        if self.changed.notified().now_or_never().is_some() {
            self.write().await;
        }
    }

    /// True if it was written.
    async fn write(&self) -> bool {
        let (kind, kept, state) = (self.kind, self.kept.clone(), self.state.clone());
        let written = task::spawn_blocking(move || kept.write(kind, &state)).await;
        let error = match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(error) => Some(io::Error::other(error)),
        };
        let is_written = error.is_none();
        let problems = error.map(|error| {
            tracing::warn!(?kind, %error, "the last good state cannot be kept");
            let message = format!(
                "the last good state of kind {kind:?} cannot be kept here ({error}): it will be \
                 missing if the agent starts without an API server"
            );
            let origin = self.kept.folder.display().to_string();
            problem(Severity::Warning, origin, &"", "", message)
        });
        let reporter = format!("{REPORTER} {kind:?}");
        let problems = problems.into_iter().collect();
        self.state
            .update(|cluster| cluster.set_problems(&reporter, problems));
        is_written
    }
}

#[cfg(test)]
mod tests;
