//! The API server: Services, `EndpointSlice`s, Pods, Nodes and Namespaces, followed as they change.
//!
//! ```text
//!            ┌ list, in pages ─┐
//! five times │ watch ◀─ resume │ ──▶ wire ▸ object ▸ convert ──▶ intake ──▶ SharedState
//!            └───── 410 ───────┘     pure: one object at a time  last good,
//!               I/O, back-off                                    what is gone
//!
//!            keep: the last good state, for a start without an API server
//!            record, events: what this node has to say
//! ```
//!
//! Every node works alone: it has five watches, on one connection each, and what it keeps of an
//! object is its row in the tables of `state`.
//!
//! An API server that is away, refuses or talks nonsense changes nothing in the state; `health` says
//! so and back-off bounds what it is asked. An object that cannot be served is a problem with kind,
//! name and field; its last good state stays, and no other object is disturbed.

pub mod access;
mod backoff;
mod body;
pub mod client;
mod events;
mod health;
mod intake;
mod keep;
mod object;
mod position;
pub mod record;
mod watch;
mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use kube::Client;
use tokio::sync::{Notify, watch as channel};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::state::SharedState;

pub use backoff::Pauses;
pub use record::Record;
pub use watch::Timing;

use backoff::Backoff;
use client::{Connection, Files};
use health::Health;
use intake::Intake;
use keep::{KINDS, Keeper, Kept};
use watch::Watch;

/// What the source works with.
pub struct Inputs {
    /// Where the API server is, and what is told to it.
    pub settings: config::Kubernetes,
    /// Name of this node.
    pub node_name: String,
    /// The agent's folder of state.
    pub state_folder: PathBuf,
    /// The tables.
    pub state: SharedState,
    /// Told when all kinds were listed once, or the last good state stands in for that.
    pub synced: channel::Sender<bool>,
    /// What this node says of itself.
    pub record: Record,
    /// How long things may take.
    pub timing: Timing,
}

/// Follows the API server until `stop` is cancelled.
///
/// Each kind's first list is applied page by page; when all are complete, `synced` is told. Where
/// that takes longer than [`Timing::patience`], and there is a last good state of all kinds, it is
/// told then. No answer of the server ends this, and it returns no error.
pub async fn run(inputs: Inputs, stop: CancellationToken) -> anyhow::Result<()> {
    let kept = Kept::within(&inputs.state_folder);
    let stand_in = restore(&kept, &inputs.state).await;
    let connected = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        connected = connect(&inputs, stand_in) => connected,
    };
    let Connection { client, url, files } = connected;
    tracing::info!(url, "following the API server");
    let (newest, client) = channel::channel(client);
    let health = Health::new(url.clone(), inputs.state.clone());
    // Takes back what was said while there was no way to ask.
    health.stand_in(None);
    let (mut watches, mut keepers, mut listed) = (Vec::new(), Vec::new(), Vec::new());
    for kind in KINDS {
        let changed = Arc::new(Notify::new());
        let (sender, receiver) = channel::channel(false);
        let intake = Intake::new(
            kind,
            url.clone(),
            inputs.state.clone(),
            Arc::clone(&changed),
        );
        let watch = Watch {
            kind,
            client: client.clone(),
            timing: inputs.timing,
            intake,
            health: health.clone(),
            listed: sender,
        };
        watches.push(watch.run(stop.clone()));
        let keeper = Keeper {
            kind,
            kept: kept.clone(),
            state: inputs.state.clone(),
            changed,
            listed: receiver.clone(),
        };
        keepers.push(keeper.run(stop.clone()));
        listed.push(receiver);
    }
    tokio::join!(
        join_all(watches),
        join_all(keepers),
        until(&stop, tell_synced(&inputs, &health, listed, stand_in)),
        until(&stop, record::keep(&inputs, &client)),
        until(&stop, events::report(&inputs, &client)),
        until(&stop, renew(&inputs, files, &newest)),
    );
    Ok(())
}

/// Makes a new client when the files of the kubeconfig change: certificates are renewed under the same names.
/// What was asked with the one before ends by itself.
async fn renew(inputs: &Inputs, mut files: Files, newest: &channel::Sender<Client>) {
    loop {
        sleep(inputs.timing.renewal).await;
        if !files.have_changed() {
            continue;
        }
        match client::connect(&inputs.settings).await {
            Ok(renewed) => {
                tracing::info!("the kubeconfig has changed");
                files = renewed.files;
                newest.send_replace(renewed.client);
            }
            Err(error) => {
                let error = crate::error_chain(&error);
                tracing::warn!(error, "the kubeconfig has changed and cannot be used");
            }
        }
    }
}

async fn until(stop: &CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// The last good state of all kinds is in the tables. Since when, at the latest, it is not told.
#[derive(Clone, Copy, Debug)]
struct StandIn {
    written: Timestamp,
}

impl StandIn {
    fn describe(self) -> String {
        format!(
            "the cluster as it was when last seen, at {} or later, is served until the API server \
             has told all of it",
            self.written
        )
    }
}

/// Puts the last good state into the tables: names for flows from the start. `None` if it is not
/// all there, and so nothing to balance by.
async fn restore(kept: &Kept, state: &SharedState) -> Option<StandIn> {
    let kept = kept.clone();
    let restored = spawn_blocking(move || kept.read())
        .await
        .unwrap_or_default();
    let objects = restored.changes.len();
    state.update(|cluster| cluster.apply(restored.changes));
    tracing::info!(objects, missing = ?restored.missing, "last good state read");
    let written = restored.written.filter(|_| restored.missing.is_empty())?;
    Some(StandIn { written })
}

/// Makes the client, as often as it takes: a token or file may come later.
async fn connect(inputs: &Inputs, stand_in: Option<StandIn>) -> Connection {
    let started = Instant::now();
    let mut backoff = Backoff::new(inputs.timing.pauses);
    loop {
        let error = match client::connect(&inputs.settings).await {
            Ok(connected) => return connected,
            Err(error) => crate::error_chain(&error),
        };
        tracing::error!(error, "there is no way to ask the API server");
        health::unconnected(&inputs.state, &error);
        if stand_in.is_some() && started.elapsed() >= inputs.timing.patience {
            inputs.synced.send_replace(true);
        }
        sleep(backoff.next()).await;
    }
}

/// Tells that the tables can be acted on: when all kinds were listed, or before that, when it takes
/// too long and the last good state stands in.
async fn tell_synced(
    inputs: &Inputs,
    health: &Health,
    mut listed: Vec<channel::Receiver<bool>>,
    stand_in: Option<StandIn>,
) {
    let all = async {
        for one in &mut listed {
            // An error says that its watch ended, and that only ends with all of this.
            drop(one.wait_for(|listed| *listed).await);
        }
    };
    tokio::pin!(all);
    if timeout(inputs.timing.patience, &mut all).await.is_err() {
        if let Some(stand_in) = stand_in {
            tracing::warn!(written = %stand_in.written, "the last good state is served");
            health.stand_in(Some(stand_in.describe()));
            inputs.synced.send_replace(true);
        }
        all.await;
        health.stand_in(None);
    }
    inputs.synced.send_replace(true);
    tracing::info!("in step with the API server");
}

/// Where the objects come from, for `weir status`.
pub fn location(settings: &config::Kubernetes) -> String {
    match (&settings.api_server.host, &settings.kubeconfig) {
        (Some(host), _) => format!(
            "API server at {host} port {}",
            settings.api_server.port.get()
        ),
        (None, Some(path)) => format!("API server of {}", path.display()),
        (None, None) => "API server of this pod".to_owned(),
    }
}

/// Removes the last good state, for good.
pub fn forget(state_folder: &Path) -> io::Result<()> {
    Kept::within(state_folder).remove()
}
