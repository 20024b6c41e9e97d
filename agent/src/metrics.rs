//! Metrics for Prometheus, and whether the agent lives and is ready, over HTTP.
//!
//! A window on all three paths that changes nothing: a scrape reads counters and snapshots, never the
//! packet path, and at most once a second however often it is asked ([`scrape`]). What there is stands
//! in one [`table`], from which the exposition, the reference page and the check of the alert rules
//! come. Connections are bounded in number and time ([`server`]).

pub mod agent;
pub mod datapath;
pub mod encryption;
pub mod flows;
pub mod reference;
pub mod scrape;
pub mod server;
pub mod table;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use prometheus_client::registry::Registry;

use crate::api::admin::StatusSource;
use crate::encryption::snapshot::handle::EncryptionHandle;
use crate::flows::FlowHub;
use crate::lifecycle::Readiness;
use crate::state::SharedState;
use table::Families;

/// What metrics are made of.
#[derive(Clone)]
pub struct Sources {
    /// Name of this node.
    pub node_name: String,
    /// What the agent still waits for.
    pub readiness: Readiness,
    /// Data path, balancer, source.
    pub status: Arc<dyn StatusSource>,
    /// The flow store.
    pub hub: Arc<FlowHub>,
    /// The desired state, for its problems.
    pub state: SharedState,
    /// Encryption; `None` while it is off.
    pub encryption: Option<EncryptionHandle>,
}

impl Sources {
    /// Reads everything and writes it down in the text form of `OpenMetrics`. Blocks: it reads maps.
    pub fn exposition(&self) -> anyhow::Result<String> {
        let mut registry = Registry::default();
        let mut families = Families::new(&mut registry);
        let status = self.status.status()?;
        agent::add(&mut families, self, &status);
        datapath::add(&mut families, &status);
        flows::add(&mut families, &self.hub.stats());
        encryption::add(&mut families, self.encryption.as_ref())?;
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}
