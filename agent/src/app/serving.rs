//! Serves what others ask: metrics, the API, and whether the agent is ready.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Parts;
use super::capture::Flows;
use super::status::Status;
use crate::api::socket::ApiSocket;
use crate::api::{Api, Health};
use crate::encryption::snapshot::handle::EncryptionHandle;
use crate::lifecycle::Readiness;
use crate::metrics::{self, Sources};

/// Starts it. `encryption` is absent while that is off.
pub(super) async fn start(
    socket: ApiSocket,
    status: Arc<Status>,
    flows: Flows,
    encryption: Option<EncryptionHandle>,
    parts: &mut Parts,
) {
    let (config, tasks) = (&parts.config, &mut parts.tasks);
    if config.metrics.enabled {
        let sources = Sources {
            node_name: config.node_name.clone(),
            readiness: parts.readiness.clone(),
            status: Arc::<Status>::clone(&status),
            hub: Arc::clone(&flows.hub),
            state: parts.state.clone(),
            encryption: encryption.clone(),
        };
        let complaint = Arc::clone(&status.unmeasured);
        let serve = metrics::server::run(config.metrics.listen, sources, complaint, tasks.token());
        tasks.spawn("metrics", serve);
    }
    let api = Api {
        node_name: config.node_name.clone(),
        hub: flows.hub,
        identities: flows.identities,
        state: parts.state.clone(),
        status,
        encryption,
    };
    let health = Health::starting().await;
    let stop = tasks.token();
    let follow = follow_readiness(health.clone(), parts.readiness.clone(), stop.clone());
    tasks.spawn("health", follow);
    tasks.spawn("api", async move { api.serve(socket, &health, stop).await });
}

/// Has health checks answered as the agent is ready or not, also once it is not any more.
async fn follow_readiness(
    health: Health,
    readiness: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    readiness.wait().await;
    tracing::info!("ready");
    let mut pending = readiness.subscribe();
    loop {
        let is_ready = pending.borrow_and_update().is_empty();
        health.set_ready(is_ready).await;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = pending.changed() => changed?,
        }
    }
}
