//! The end of encryption on a node.

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::{device_name, process_paths};
use crate::config::Config;
use crate::datapath::settings::Settings;
use crate::encryption::RouteTable;
use crate::encryption::device::{Device, DeviceError};
use crate::encryption::guarded::GuardedRanges;
use crate::encryption::key::KeyStore;
use crate::encryption::link::Netlink;
use crate::encryption::published::Published;
use crate::encryption::routing;

/// Ends encryption while the node goes on: it sends nothing encrypted any more, and decrypts what others
/// still encrypt for it until they must have heard (`encryption.wireguard.rotationGrace`).
///
/// Returns when all is gone, or at `stop`: the next agent comes here again.
pub async fn end(
    config: &Config,
    datapath: &Settings,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let netlink = Netlink::connect().context("opening rtnetlink")?;
    withdraw(config, &netlink).await?;
    // Connections know the device as their way.
    datapath
        .raise_generation()
        .context("writing the settings")?;
    let name = device_name(&config.encryption)?;
    let process = process_paths(config)?;
    if Device::is_left(&netlink, &name, &process).await? {
        let grace = config.encryption.wireguard.rotation_grace.duration();
        tracing::info!(device = %name, ?grace, "others may encrypt for this node for a while");
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(grace) => {}
        }
    }
    remove(config, false).await
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
