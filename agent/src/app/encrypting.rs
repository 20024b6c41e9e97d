//! Starts encryption, or ends what an earlier agent began of it.

use anyhow::Context;

use super::Parts;
use super::interfaces::Interfaces;
use crate::datapath::encryption_maps::EncryptionMaps;
use crate::datapath::settings::Settings;
use crate::encryption::published::Publication;
use crate::encryption::reconcile::{self, Encryption, Ending, Trigger};
use crate::encryption::snapshot::handle::EncryptionHandle;

/// Starts it. `None` if encryption is off.
pub(super) fn start(
    kernel_can: bool,
    maps: EncryptionMaps,
    settings: &Settings,
    interfaces: &Interfaces,
    publication: Publication,
    parts: &mut Parts,
) -> anyhow::Result<Option<EncryptionHandle>> {
    let (datapath, attach) = (settings.clone(), interfaces.attached.clone());
    let stop = parts.tasks.token();
    if !parts.config.encryption.enabled {
        let ending = Ending {
            maps,
            datapath,
            attach,
            state: parts.state.clone(),
            synced: parts.synced.clone(),
        };
        let config = parts.config.clone();
        parts.tasks.spawn("end of encryption", async move {
            ending.run(&config, &stop).await;
            stop.cancelled().await;
            Ok(())
        });
        return Ok(None);
    }
    let config = &parts.config;
    let work = Encryption::new(config, kernel_can, maps, datapath, attach, publication)
        .context("encryption")?;
    let (handle, reporter) = work.reporter();
    let trigger = Trigger {
        state: parts.state.clone(),
        addresses: interfaces.addresses.clone(),
        synced: parts.synced.clone(),
        ready: parts.readiness.guard("encrypt"),
        reporter,
    };
    parts
        .tasks
        .spawn("encryption", reconcile::run(work, trigger, stop));
    Ok(Some(handle))
}
