//! Starts the path of a flow: from the programs' ring buffer into the store.

use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::Context;

use super::Parts;
use crate::config::Config;
use crate::datapath::events::EventsAndLosses;
use crate::flows::enrich::{Enricher, KernelInterfaceNames};
use crate::flows::reader::FlowReader;
use crate::flows::{FlowHub, Identities};

/// What others read flows from.
pub(super) struct Flows {
    /// The store.
    pub(super) hub: Arc<FlowHub>,
    /// Numbers of label sets.
    pub(super) identities: Arc<Identities>,
}

/// Starts the thread that reads events.
pub(super) fn start(events: EventsAndLosses, parts: &mut Parts) -> anyhow::Result<Flows> {
    let hub = Arc::new(FlowHub::new(capacity(&parts.config)));
    let identities = Arc::new(Identities::default());
    let enricher = Enricher::new(
        &parts.config.node_name,
        Arc::clone(&identities),
        Box::new(KernelInterfaceNames),
    );
    let reader = FlowReader::start(
        Box::new(events),
        enricher,
        parts.state.clone(),
        parts.synced.clone(),
        Arc::clone(&hub),
        parts.tasks.token(),
    )
    .context("starting the reader of flow events")?;
    parts.tasks.spawn("flows", reader.join());
    Ok(Flows { hub, identities })
}

fn capacity(config: &Config) -> NonZeroUsize {
    NonZeroUsize::new(config.flows.capacity.get() as usize).unwrap_or(NonZeroUsize::MIN)
}
