//! Wires the parts of the agent together: no logic of its own.
//!
//! Order at start: look at the kernel, load (adopting what is pinned), translate sockets, follow
//! interfaces, read the source, and only when it was read once bring the services in step.
//! Stopping undoes nothing: the data plane works on without an agent.

mod balancing;
mod capture;
mod data_plane;
mod encrypting;
mod interfaces;
mod own_node;
mod refused;
mod serving;
mod source;
mod status;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;

use crate::api::socket::ApiSocket;
use crate::config::{Config, Loaded};
use crate::datapath::pins::Pins;
use crate::datapath::remove;
use crate::encryption::reconcile as encryption;
use crate::lifecycle::{Readiness, Signals, TaskSet};
use crate::metrics::server::Complaint;
use crate::state::SharedState;

use self::data_plane::DataPlane;
use self::source::Source;
use self::status::Status;

/// Time the tasks get to end in.
const GRACE: Duration = Duration::from_secs(5);

/// What every part is given.
struct Parts {
    config: Config,
    /// The desired state.
    state: SharedState,
    /// Whether the source was read once.
    synced: watch::Receiver<bool>,
    readiness: Readiness,
    tasks: TaskSet,
}

/// Runs the agent until it is told to stop.
pub async fn run(loaded: Loaded) -> anyhow::Result<()> {
    let (synced_sender, synced) = watch::channel(false);
    let mut parts = Parts {
        config: loaded.config,
        state: SharedState::new(),
        synced,
        readiness: Readiness::new(),
        tasks: TaskSet::new(),
    };
    let signals = Signals::new()?;
    // First, because it tells whether another agent runs.
    let socket = ApiSocket::bind(&parts.config.paths.socket)?;
    let probe = data_plane::look_at_the_kernel(&parts.config)?;
    let DataPlane {
        maps,
        attacher,
        carry_over,
        adopted,
        untranslated,
    } = data_plane::load(&parts.config, &probe, &mut parts.tasks)?;
    let counters = Arc::new(maps.counters);

    let interfaces = interfaces::follow(attacher, carry_over, &maps.settings, &mut parts)?;
    let source = Source::new(&parts.config);
    let kernel_can = probe.wireguard.is_yes();
    let publication = source.publication(&parts.config);
    let encryption = encrypting::start(
        kernel_can,
        maps.encryption,
        &maps.settings,
        &interfaces,
        publication,
        &mut parts,
    )?;
    let attached = interfaces.attached.clone();
    let balanced = balancing::start(maps.balancer, interfaces, &mut parts)?;
    let events = maps
        .events
        .with_losses(Arc::clone(&counters), maps.events_lost_told);
    let flows = capture::start(events, &mut parts)?;
    source.start(
        &parts.config,
        &parts.state,
        synced_sender,
        &parts.readiness,
        &mut parts.tasks,
    );

    let status = Arc::new(Status {
        counters,
        settings: maps.settings,
        attached,
        balanced,
        state: parts.state.clone(),
        readiness: parts.readiness.clone(),
        capacities: maps.capacities,
        adopted,
        node_name: parts.config.node_name.clone(),
        source: source::describe(&parts.config),
        synced: parts.synced.clone(),
        untranslated,
        unmeasured: Complaint::default(),
    });
    serving::start(socket, status, flows, encryption, &mut parts).await;
    parts
        .tasks
        .run(signals.requests(), GRACE)
        .await
        .into_result()
}

/// Removes every trace from this node, but for the private key if that is to be kept. The agent must
/// not be running: it would attach again.
pub async fn uninstall(loaded: Loaded, keep_key: bool) -> anyhow::Result<()> {
    let config = loaded.config;
    // Fails while an agent answers there, and says so.
    let socket = ApiSocket::bind(&config.paths.socket)?;
    let pins = Pins::new(&config.paths.bpffs);
    // First, so that no node encrypts for this one any longer than it must.
    source::withdraw(&config).await;
    let removed = remove::all(&pins)
        .await
        .context("removing the data plane")?;
    encryption::remove(&config, !keep_key)
        .await
        .context("removing encryption")?;
    drop(socket);
    let state = &config.paths.state;
    source::forget(state).with_context(|| format!("emptying {}", state.display()))?;
    for folder in config.paths.socket.parent().into_iter().chain([&**state]) {
        // Others may keep files there, and then it stays.
        let _ = std::fs::remove_dir(folder);
    }
    println!(
        "removed {} links, {} TC filters and {} maps",
        removed.links, removed.filters, removed.maps
    );
    Ok(())
}
