//! What an agent has pinned, which is there whether it runs or not.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::loaded_programs;

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

    /// The kernel's hashes over the programs that are attached, by name of the pin.
    ///
    /// # Errors
    ///
    /// When not exactly one version is pinned, or the node is gone.
    pub fn attached_programs(&self) -> Result<BTreeMap<String, u64>> {
        let versions = self.pinned_versions()?;
        ensure!(versions.len() == 1, "{versions:?}");
        let folder = format!("{PINS}/{}/links", versions[0]);
        self.place.run(|| {
            // Programs of others may go while they are listed.
            let loaded = loaded_programs().flatten();
            let tags: BTreeMap<_, _> = loaded.map(|it| (it.id(), it.tag())).collect();
            let mut attached = BTreeMap::new();
            for file in fs::read_dir(&folder).with_context(|| format!("list {folder}"))? {
                let file = file?;
                let link = FdLink::from(PinnedLink::from_pin(file.path())?);
                let program = link.info()?.program_id();
                let tag = *tags.get(&program).context("a program that is attached")?;
                attached.insert(file.file_name().to_string_lossy().into_owned(), tag);
            }
            Ok(attached)
        })?
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
