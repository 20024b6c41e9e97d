//! Waiting until the directory may have changed.
//!
//! inotify says when to look; what changed is found by looking (`directory`), so a lost or merged
//! event costs time and never correctness. Without events the directory is looked at anyway now and
//! then: for changes behind links, on file systems without events, and for directories that do not
//! exist yet.
//!
//! A file that is being written in place is left alone until its writer closes it: half of it could
//! be well-formed, and would take objects away for a moment.

use std::collections::{HashMap, HashSet};
use std::future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};
use tokio::time::{Instant, timeout_at};

use super::directory::{Hints, Scope};

/// Events that follow each other within this time are one change: tools write several files, or
/// write and rename.
const QUIET: Duration = Duration::from_millis(15);

/// A change is looked at this long after its first event, however many follow.
const MAX_DELAY: Duration = Duration::from_millis(60);

/// A file that its writer keeps open counts as complete after this time without a write.
const MAX_OPEN: Duration = Duration::from_secs(1);

/// Look without an event: behind links and where inotify sees nothing.
const POLL_WATCHED: Duration = Duration::from_secs(5);

/// Look without a watch: until the directory exists.
const POLL_UNWATCHED: Duration = Duration::from_millis(250);

/// The watch on one directory.
pub(super) struct Watch {
    path: PathBuf,
    events: Option<EventStream<Vec<u8>>>,
    watched: Option<WatchDescriptor>,
    writing: Writing,
}

impl Watch {
    /// Makes ready to watch; nothing is watched before [`Self::attach`]. Where inotify is not to be
    /// had the directory is polled. Must be called within a tokio runtime.
    pub(super) fn new(path: PathBuf) -> Self {
        // Room for the events of a few hundred files in one read.
        let stream =
            Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; 16 << 10]));
        let events = stream
            .inspect_err(|error| {
                tracing::warn!(%error, "no inotify: manifests are polled (fs.inotify.max_user_instances?)");
            })
            .ok();
        Self {
            path,
            events,
            watched: None,
            writing: Writing::default(),
        }
    }

    /// Watches the directory that is at the path now; true if it is another one than before. To be
    /// called before each look at it, so that no change falls between look and watch.
    pub(super) fn attach(&mut self) -> bool {
        let Some(events) = &self.events else {
            return false;
        };
        let mask = WatchMask::CREATE
            | WatchMask::MODIFY
            | WatchMask::CLOSE_WRITE
            | WatchMask::ATTRIB
            | WatchMask::MOVE
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        // The same directory gives the same descriptor, another one at the path a new one.
        let watched = events.watches().add(&self.path, mask).ok();
        if watched == self.watched {
            return false;
        }
        self.writing = Writing::default();
        if let Some(former) = std::mem::replace(&mut self.watched, watched) {
            // Fails if the directory is gone, and the watch with it.
            let _ = events.watches().remove(former);
        }
        true
    }

    /// Waits until there is reason to look, and says at what. Cancel-safe: nothing is lost, as
    /// looking finds what changed without hints too.
    pub(super) async fn changed(&mut self) -> Hints {
        let mut hints = Hints::default();
        let poll = if self.watched.is_some() {
            POLL_WATCHED
        } else {
            POLL_UNWATCHED
        };
        let mut until = Instant::now() + poll;
        let mut latest = None;
        loop {
            let now = Instant::now();
            let overdue = self.writing.take_overdue(now);
            if now >= until || !overdue.is_empty() {
                if latest.is_none() && overdue.is_empty() {
                    hints.scope = Scope::Looks;
                }
                hints.changed.extend(overdue);
                hints.being_written = self.writing.names();
                return hints;
            }
            let wake = self
                .writing
                .next_overdue()
                .map_or(until, |overdue| overdue.min(until));
            let Ok(event) = timeout_at(wake, next(&mut self.events)).await else {
                continue;
            };
            let now = Instant::now();
            let soon = match event {
                Ok(event) => self.writing.note(&event, &mut hints, now),
                Err(error) => {
                    tracing::warn!(%error, "cannot read inotify events");
                    hints.scope = Scope::All;
                    true
                }
            };
            if soon {
                let latest = *latest.get_or_insert(now + MAX_DELAY);
                until = (now + QUIET).min(latest);
            }
        }
    }
}

async fn next(events: &mut Option<EventStream<Vec<u8>>>) -> io::Result<EventOwned> {
    match events {
        Some(events) => match events.next().await {
            Some(event) => event,
            None => future::pending().await,
        },
        None => future::pending().await,
    }
}

/// Files that somebody is writing, with the time of the last write.
#[derive(Debug, Default)]
struct Writing(HashMap<String, Instant>);

impl Writing {
    /// Takes an event in. Whether it is a reason to look soon; a write alone is not.
    fn note(&mut self, event: &EventOwned, hints: &mut Hints, now: Instant) -> bool {
        let name = event
            .name
            .as_ref()
            .map(|name| name.to_string_lossy().into_owned());
        let lost = EventMask::Q_OVERFLOW
            | EventMask::IGNORED
            | EventMask::UNMOUNT
            | EventMask::DELETE_SELF
            | EventMask::MOVE_SELF;
        if event.mask.intersects(lost) {
            self.0.clear();
            hints.scope = Scope::All;
            return true;
        }
        let Some(name) = name else {
            // Of the directory itself: its mode or owner.
            hints.scope = hints.scope.max(Scope::Looks);
            return true;
        };
        if event.mask.contains(EventMask::MODIFY) {
            self.0.insert(name, now);
            return false;
        }
        if event.mask.contains(EventMask::ATTRIB) && self.0.contains_key(&name) {
            return false;
        }
        // Closed, moved, deleted or made: whatever was being written is not any more, or it is a
        // new file under this name.
        self.0.remove(&name);
        if name.starts_with('.') {
            // Kubelet's link to all files, perhaps.
            hints.scope = hints.scope.max(Scope::Looks);
        } else {
            hints.changed.insert(name);
        }
        true
    }

    fn next_overdue(&self) -> Option<Instant> {
        self.0.values().min().map(|last| *last + MAX_OPEN)
    }

    /// Ends the wait for writers that paused too long.
    fn take_overdue(&mut self, now: Instant) -> Vec<String> {
        let overdue = |last: &Instant| *last + MAX_OPEN <= now;
        self.0
            .extract_if(|_, last| overdue(last))
            .map(|(name, _)| name)
            .collect()
    }

    fn names(&self) -> HashSet<String> {
        self.0.keys().cloned().collect()
    }
}
