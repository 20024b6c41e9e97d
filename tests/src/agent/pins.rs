//! What an agent has pinned, which is there whether it runs or not.

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};

use super::Agent;

/// The agent's folder in the node's BPF file system.
const PINS: &str = "/sys/fs/bpf/weir";

impl Agent {
    /// Folders of pinned maps and links, one for each version that is in use.
    ///
    /// # Errors
    ///
    /// When the node is gone.
    pub fn pinned_versions(&self) -> Result<Vec<String>> {
        let listed = self.place.output("ls", &[PINS])?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// Of the flow events that the kernel had no room for, how many agents have told of.
    ///
    /// # Errors
    ///
    /// When not exactly one version is pinned, or the node is gone.
    pub fn events_lost_told(&self) -> Result<u64> {
        let versions = self.pinned_versions()?;
        ensure!(versions.len() == 1, "{versions:?}");
        let pin = format!("{PINS}/{}/maps/EVENTS_LOST_TOLD", versions[0]);
        self.place.run(|| {
            let map = MapData::from_pin(&pin).with_context(|| format!("open {pin}"))?;
            let told: Array<_, u64> = Map::Array(map).try_into()?;
            Ok(told.get(&0, 0)?)
        })?
    }
}
