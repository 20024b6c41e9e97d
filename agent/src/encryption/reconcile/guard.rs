//! Ranges that the programs guard.

use anyhow::Context;
use ebpf_abi::IpcacheValue;

use super::Encryption;
use crate::encryption::desired::Desired;
use crate::encryption::desired::ranges::{self, NodeIds, Ranges};
use crate::state::ClusterState;

impl<A> Encryption<A> {
    pub(super) fn ranges(
        &mut self,
        state: &ClusterState,
        desired: &Desired,
    ) -> anyhow::Result<Ranges> {
        if self.ids.is_none() {
            let present = self.present_ranges()?;
            self.ids = Some(NodeIds::recover(&present, desired));
        }
        let ids = self.ids.get_or_insert_default();
        for gone in ids.follow(desired) {
            self.maps
                .account
                .forget(gone)
                .context("forgetting a node's account")?;
        }
        Ok(ranges::ranges(desired, state, &self.config, ids))
    }

    /// Guards what is not guarded yet, and takes nothing for reachable that was not before.
    pub(super) fn guard(&mut self, ranges: &Ranges) -> anyhow::Result<()> {
        let mut guarded = self.present_ranges()?;
        for (prefix, value) in ranges {
            let was_peer = guarded
                .get(prefix)
                .is_some_and(|known| known.node == value.node && known.has(IpcacheValue::PEER));
            let mut value = *value;
            if !was_peer {
                value.flags &= !IpcacheValue::PEER;
            }
            guarded.insert(*prefix, value);
        }
        self.set_ranges(guarded)
    }

    /// Makes the ranges these.
    pub(super) fn set_ranges(&mut self, ranges: Ranges) -> anyhow::Result<()> {
        let present = self.present_ranges()?;
        // Unknown until all is done: what failed half-way is read the next time.
        self.present = None;
        self.maps
            .write_ranges(&present, &ranges)
            .context("writing the ranges")?;
        self.present = Some(ranges);
        Ok(())
    }

    /// The ranges in the maps; read if that was not done since [`Encryption::look_again`].
    fn present_ranges(&self) -> anyhow::Result<Ranges> {
        match &self.present {
            Some(present) => Ok(present.clone()),
            None => self.maps.ranges().context("reading the ranges"),
        }
    }
}
