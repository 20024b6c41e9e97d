//! Follows the objects of one kind: lists them, watches from there, and lists again when it must.
//!
//! kube's own watcher is not used, because it goes on behind a line that it could not read, and
//! because a single object of an unexpected form would cost it the whole page.

use std::time::Duration;

use futures::FutureExt;
use http::HeaderValue;
use http::header::ACCEPT_ENCODING;
use kube::Client;
use kube::core::Request;
use kube::core::Status;
use kube::core::params::{ListParams, WatchParams};
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::access::Verb;
use super::backoff::{Backoff, Pauses, jitter};
use super::body::{Body, BodyError};
use super::health::Health;
use super::intake::{Intake, Seen, Step};
use super::object;
use super::position::Position;
use super::wire::{Event, Identity, Page};
use crate::state::Kind;

/// Objects of one page.
const PAGE_OBJECTS: u32 = 500;

/// A server that asks for more patience than this gets this.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// A watch that lived as long as this was taken.
const SETTLING: Duration = Duration::from_secs(1);

/// Watches in a row, from one place in history, that say nothing at all, not even that nothing happened.
/// A server that was set back in time is silent until it comes to that place again.
const SILENT_MAX: u32 = 2;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Of a list: longest time without a byte.
    pub page_idle: Duration,
    /// Of a list: longest time for one page.
    pub page: Duration,
    /// How long the server is asked to keep a watch; up to half of it is added at random. Whole
    /// seconds, at most 190.
    pub watch: Duration,
    /// Of a watch: longest time without a byte. API servers send a bookmark every minute.
    pub watch_idle: Duration,
    /// Pauses after failures.
    pub pauses: Pauses,
    /// A watch that lived as long as this was not a failure, however it ended.
    pub healthy: Duration,
    /// How often it is looked what is wrong with objects, to make events of it.
    pub mistakes: Duration,
    /// How often it is looked whether the files of a kubeconfig have changed.
    pub renewal: Duration,
    /// How long the first lists may take until the last good state counts.
    pub patience: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            page_idle: Duration::from_secs(30),
            page: Duration::from_mins(2),
            watch: Duration::from_mins(3),
            watch_idle: Duration::from_secs(150),
            pauses: Pauses {
                first: Duration::from_millis(500),
                longest: Duration::from_secs(30),
            },
            healthy: Duration::from_secs(10),
            mistakes: Duration::from_secs(10),
            renewal: Duration::from_mins(1),
            patience: Duration::from_secs(15),
        }
    }
}

/// Why a list or a watch ended.
#[derive(Debug, Error)]
enum Failure {
    #[error("{}", super::health::describe(.0))]
    Api(kube::Error),
    #[error("the answer cannot be read: {0}")]
    Body(#[from] BodyError),
    #[error("the server ends watches at once")]
    EndedAtOnce,
    /// What the server says makes no sense.
    #[error("{0}")]
    Nonsense(String),
}

impl Failure {
    /// Whether what was seen so far is no basis to go on from.
    fn wants_list(&self) -> bool {
        match self {
            Self::Api(kube::Error::Api(status)) => status.code == 410 || is_ahead_of_server(status),
            Self::Api(_) | Self::EndedAtOnce => false,
            Self::Body(error) => matches!(error, BodyError::TooLarge(_) | BodyError::NotText),
            Self::Nonsense(_) => true,
        }
    }

    /// Whether the server has forgotten what it was asked to go on from.
    fn is_expired(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 410)
    }

    fn is_silence(&self) -> bool {
        matches!(self, Self::Body(BodyError::Stalled(_)))
    }

    fn retry_after(&self) -> Duration {
        let Self::Api(kube::Error::Api(status)) = self else {
            return Duration::ZERO;
        };
        let seconds = status
            .details
            .as_ref()
            .map_or(0, |it| it.retry_after_seconds);
        Duration::from_secs(u64::from(seconds)).min(RETRY_AFTER_MAX)
    }
}

/// Whether the server has not come to a version yet: it lost history, or another server told it. What stands
/// between answers 504 too where it cannot reach a server, and then all is as it was.
fn is_ahead_of_server(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let is_told = causes
        .map(|cause| &*cause.reason)
        .any(|it| it == "ResourceVersionTooLarge");
    status.code == 504 && (is_told || status.message.contains("Too large resource version"))
}

/// The task that follows one kind.
pub(super) struct Watch {
    pub(super) kind: Kind,
    /// The one to ask with from now on.
    pub(super) client: watch::Receiver<Client>,
    pub(super) timing: Timing,
    pub(super) intake: Intake,
    pub(super) health: Health,
    /// Set when all objects were listed once.
    pub(super) listed: watch::Sender<bool>,
}

impl Watch {
    /// Follows until `stop` is cancelled.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let follow = self.follow();
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow => {}
        }
    }

    async fn follow(&mut self) {
        let mut backoff = Backoff::new(self.timing.pauses);
        loop {
            let outcome = match self.list().await {
                Ok(position) => self.watch_from(position, &mut backoff).await,
                Err(failure) => failure,
            };
            self.pause_after(&outcome, &mut backoff).await;
        }
    }

    /// Watches, and resumes what ended, until only a new list helps.
    async fn watch_from(&mut self, mut position: Position, backoff: &mut Backoff) -> Failure {
        let mut silent = 0;
        loop {
            let (started, begin) = (Instant::now(), position.clone());
            let outcome = self.watch(&mut position).await;
            let was_healthy = started.elapsed() >= self.timing.healthy;
            if was_healthy {
                backoff.reset();
            }
            let is_silent = matches!(&outcome, Err(failure) if failure.is_silence());
            silent = if is_silent && position == begin {
                silent + 1
            } else {
                0
            };
            match outcome {
                Err(failure) if failure.wants_list() || silent >= SILENT_MAX => return failure,
                Err(failure) => self.pause_after(&failure, backoff).await,
                Ok(()) if was_healthy => {}
                Ok(()) => self.pause_after(&Failure::EndedAtOnce, backoff).await,
            }
        }
    }

    async fn pause_after(&self, failure: &Failure, backoff: &mut Backoff) {
        self.health.failed(self.kind, &failure.to_string());
        let pause = backoff.next().max(failure.retry_after());
        tracing::debug!(kind = ?self.kind, %failure, ?pause, "list or watch ended");
        tokio::select! {
            () = sleep(pause) => {}
            // A server that is back for one kind is back for all.
            () = self.health.returned(), if failure.retry_after().is_zero() => {
                sleep(jitter(self.timing.pauses.first)).await;
            }
        }
    }

    /// Lists all, page by page. Each page is taken as it comes; only what no page shows is deleted,
    /// at the end. Where the server forgets faster than pages are read, all is one page.
    async fn list(&mut self) -> Result<Position, Failure> {
        let started = Instant::now();
        let mut seen = Seen::default();
        let mut params = ListParams::default().limit(PAGE_OBJECTS);
        loop {
            let text = match self.page(&params).await {
                Err(failure) if failure.is_expired() && params.continue_token.is_some() => {
                    tracing::info!(kind = ?self.kind, "the list expired between pages");
                    seen = Seen::default();
                    params = ListParams::default();
                    continue;
                }
                text => text?,
            };
            let page = Page::read(&text)
                .map_err(|error| Failure::Nonsense(format!("a list cannot be read: {error}")))?;
            self.intake.page(page.items(), &mut seen);
            if page.metadata.next.is_empty() {
                let version = page.metadata.resource_version;
                self.intake.complete(&seen);
                self.listed.send_replace(true);
                tracing::info!(
                    kind = ?self.kind,
                    objects = seen.len(),
                    version,
                    took = ?started.elapsed(),
                    "listed"
                );
                return Ok(Position::of_list(version));
            }
            params.continue_token = Some(page.metadata.next);
        }
    }

    async fn page(&self, params: &ListParams) -> Result<String, Failure> {
        let access = object::access(self.kind);
        access.assert(Verb::List);
        let request = Request::new(access.path("")).list(params);
        let request = request.map_err(|error| Failure::Api(kube::Error::BuildRequest(error)))?;
        let deadline = Instant::now() + self.timing.page;
        let body = self.ask(request, self.timing.page_idle, deadline).await?;
        Ok(body.text().await?)
    }

    /// Watches from `position` on, and moves it. Ends well when the server ends the watch.
    async fn watch(&mut self, position: &mut Position) -> Result<(), Failure> {
        let access = object::access(self.kind);
        access.assert(Verb::Watch);
        let seconds = (self.timing.watch + jitter(self.timing.watch / 2))
            .as_secs()
            .max(1);
        let params = WatchParams::default().timeout(u32::try_from(seconds).unwrap_or(1));
        let request = Request::new(access.path("")).watch(&params, position.version());
        let mut request =
            request.map_err(|error| Failure::Api(kube::Error::BuildRequest(error)))?;
        // Events come one by one: compressed each by itself, they would not all be understood.
        let identity = HeaderValue::from_static("identity");
        request.headers_mut().insert(ACCEPT_ENCODING, identity);
        let deadline = Instant::now() + Duration::from_secs(seconds) + self.timing.watch_idle;
        let mut body = self.ask(request, self.timing.watch_idle, deadline).await?;
        // A server that takes a watch and ends it at once does not answer as it should, whatever it listed.
        let settling = sleep(SETTLING);
        tokio::pin!(settling);
        let mut is_settled = false;
        loop {
            let lines = tokio::select! {
                () = &mut settling, if !is_settled => {
                    is_settled = true;
                    self.health.answered(self.kind);
                    continue;
                }
                lines = body.lines() => lines?,
            };
            match lines {
                Some(lines) => self.take(&lines, position)?,
                None => return Ok(()),
            }
        }
    }

    /// Takes what a watch said. What came before a failure is taken.
    fn take(&mut self, lines: &str, position: &mut Position) -> Result<(), Failure> {
        let mut steps = Vec::new();
        let mut outcome = Ok(());
        for line in lines.lines().filter(|line| !line.is_empty()) {
            match read(self.kind, line, position) {
                Ok(step) => steps.extend(step),
                Err(failure) => {
                    outcome = Err(failure);
                    break;
                }
            }
        }
        self.intake.steps(steps).map_err(Failure::Nonsense)?;
        outcome
    }

    async fn ask(
        &self,
        request: http::Request<Vec<u8>>,
        idle: Duration,
        deadline: Instant,
    ) -> Result<Body, Failure> {
        // Both the head of the answer and each part of its body have `idle`.
        let client = self.client.borrow().clone();
        let answer = tokio::time::timeout(idle, client.request_stream(request).boxed()).await;
        let reader = answer
            .map_err(|_| BodyError::Stalled(idle))?
            .map_err(Failure::Api)?;
        Ok(Body::new(reader, idle, deadline))
    }
}

/// Reads one line of a watch and moves the position.
fn read<'a>(
    kind: Kind,
    line: &'a str,
    position: &mut Position,
) -> Result<Option<Step<'a>>, Failure> {
    let nonsense = |error: String| Failure::Nonsense(format!("a watch cannot be read: {error}"));
    let version = |object: &RawValue| match Identity::read(object) {
        Ok(identity) => Ok(identity.resource_version().to_owned()),
        Err(error) => Err(nonsense(error.to_string())),
    };
    match Event::read(line).map_err(nonsense)? {
        Event::Failed(status) => Err(Failure::Api(kube::Error::Api(status))),
        Event::Bookmark(object) => {
            position.bookmark(&version(object)?);
            Ok(None)
        }
        Event::Put(object) => {
            position
                .event(&version(object)?)
                .map_err(|error| nonsense(error.to_string()))?;
            Ok(Some(Step::Put(object)))
        }
        Event::Gone(object) => {
            let key = object::key(kind, object).map_err(nonsense)?;
            position
                .event(&version(object)?)
                .map_err(|error| nonsense(error.to_string()))?;
            Ok(Some(Step::Gone(key.name)))
        }
    }
}
