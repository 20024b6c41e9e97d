//! The end of encryption on a node.

use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{AttachDevice, device_name, process_paths};
use crate::config::{Config, SourceKind};
use crate::datapath::encryption_maps::EncryptionMaps;
use crate::datapath::settings::Settings;
use crate::encryption::RouteTable;
use crate::encryption::desired::ranges::Ranges;
use crate::encryption::device::{Device, DeviceError};
use crate::encryption::guarded::GuardedRanges;
use crate::encryption::key::KeyStore;
use crate::encryption::link::Netlink;
use crate::encryption::published::Published;
use crate::encryption::routing;
use crate::state::{ClusterState, KEY_ANNOTATION, SharedState};

/// How often it is tried, and looked whether others can have heard.
const INTERVAL: Duration = Duration::from_secs(2);

/// What encryption leaves behind in a node that goes on.
pub struct Ending<A> {
    /// The maps that say who can be reached encrypted.
    pub maps: EncryptionMaps,
    /// Connections know the device as their way.
    pub datapath: Settings,
    /// Gives the device the programs of this agent.
    pub attach: A,
    /// Where it shows whether this node's object still has a key.
    pub state: SharedState,
    /// Whether that was read once.
    pub synced: watch::Receiver<bool>,
}

impl<A: AttachDevice> Ending<A> {
    /// Ends encryption: the node sends nothing encrypted any more, and decrypts what others still encrypt
    /// for it until they must have heard (`encryption.wireguard.rotationGrace`).
    ///
    /// Returns when all is gone, or at `stop`: the next agent comes here again.
    pub async fn run(mut self, config: &Config, stop: &CancellationToken) {
        let mut told = String::new();
        loop {
            let failed = match self.attempt(config, stop).await {
                Ok(()) => return,
                Err(error) => format!("{error:#}"),
            };
            if failed != told {
                tracing::warn!(
                    reason = failed,
                    "encryption has not ended; it is tried again"
                );
                told = failed;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    async fn attempt(&mut self, config: &Config, stop: &CancellationToken) -> anyhow::Result<()> {
        let netlink = Netlink::connect().context("opening rtnetlink")?;
        withdraw(config, &netlink).await?;
        // What is encrypted again one day is guarded from the start.
        self.maps
            .set_ranges(&Ranges::new())
            .context("forgetting the ranges")?;
        self.datapath
            .raise_generation()
            .context("writing the settings")?;
        let name = device_name(&config.encryption)?;
        let process = process_paths(config)?;
        if Device::is_left(&netlink, &name, &process).await?
            && let Some(link) = netlink.link(&name).await?
        {
            self.attach.attach(name.as_str(), link.index)?;
            let grace = config.encryption.wireguard.rotation_grace.duration();
            tracing::info!(device = %name, ?grace, "others may encrypt for this node for a while");
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.until_withdrawn(config) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(grace) => {}
            }
        }
        remove(config, false).await
    }

    /// Returns when no one can read a key of this node's any more: the API server may be away for long.
    async fn until_withdrawn(&self, config: &Config) {
        if config.source.kind != SourceKind::Kubernetes {
            return;
        }
        let has_key = |state: &ClusterState| {
            let node = state.node(&config.node_name);
            node.is_some_and(|node| node.annotations.contains_key(KEY_ANNOTATION))
        };
        while !*self.synced.borrow() || has_key(&self.state.read()) {
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// Removes device, process, rules and routes; the key and what was published too if `all`.
pub async fn remove(config: &Config, all: bool) -> anyhow::Result<()> {
    let netlink = Netlink::connect().context("opening rtnetlink")?;
    withdraw(config, &netlink).await?;
    let name = device_name(&config.encryption)?;
    match Device::delete_by_name(&netlink, &name, &process_paths(config)?).await {
        // Someone else's, so none of ours is there.
        Err(DeviceError::NameTaken { .. }) => {}
        deleted => deleted?,
    }
    if all && KeyStore::exists(&config.paths.state) {
        KeyStore::open(&config.paths.state)?.remove_all()?;
    }
    Ok(())
}

/// The node encrypts no more, and nobody is asked to encrypt for it.
async fn withdraw(config: &Config, netlink: &Netlink) -> anyhow::Result<()> {
    // First, so that no node encrypts for this one any longer than it must.
    Published::below(&config.source.manifests.directory)
        .remove(&config.node_name)
        .context("removing what was published")?;
    let table = RouteTable::try_from(config.encryption.wireguard.route_table.get())?;
    routing::remove_all(netlink, table).await?;
    GuardedRanges::below(&config.paths.state)
        .remove()
        .context("forgetting the guarded ranges")
}
