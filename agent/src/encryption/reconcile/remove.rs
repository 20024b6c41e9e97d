//! The end of encryption on a node.

use anyhow::Context;

use super::{device_name, process_paths};
use crate::config::Config;
use crate::encryption::RouteTable;
use crate::encryption::device::{Device, DeviceError};
use crate::encryption::guarded::GuardedRanges;
use crate::encryption::key::KeyStore;
use crate::encryption::link::Netlink;
use crate::encryption::published::Published;
use crate::encryption::routing;

/// Removes device, process, rules and routes; the key and what was published too if `all`.
pub async fn remove(config: &Config, all: bool) -> anyhow::Result<()> {
    // First, so that no node encrypts for this one any longer than it must.
    Published::below(&config.source.manifests.directory)
        .remove(&config.node_name)
        .context("removing what was published")?;
    let netlink = Netlink::connect().context("opening rtnetlink")?;
    let table = RouteTable::try_from(config.encryption.wireguard.route_table.get())?;
    routing::remove_all(&netlink, table).await?;
    let name = device_name(&config.encryption)?;
    match Device::delete_by_name(&netlink, &name, &process_paths(config)?).await {
        // Someone else's, so none of ours is there.
        Err(DeviceError::NameTaken { .. }) => {}
        deleted => deleted?,
    }
    GuardedRanges::below(&config.paths.state)
        .remove()
        .context("forgetting the guarded ranges")?;
    if all && KeyStore::exists(&config.paths.state) {
        KeyStore::open(&config.paths.state)?.remove_all()?;
    }
    Ok(())
}
