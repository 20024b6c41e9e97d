//! Ranges that the programs guard.

use anyhow::Context;
use ebpf_abi::IpcacheValue;
use itertools::{EitherOrBoth, Itertools};

use super::Encryption;
use crate::encryption::desired::Desired;
use crate::encryption::desired::ranges::{self, NodeIds, Ranges, by_prefix};
use crate::state::ClusterState;

impl<A> Encryption<A> {
    pub(super) fn ranges(
        &mut self,
        state: &ClusterState,
        desired: &Desired,
    ) -> anyhow::Result<Ranges> {
        if self.ids.is_none() {
            let present = self.take_present_ranges()?;
            self.ids = Some(NodeIds::recover(&present, desired));
            self.present = Some(present);
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
        let mut present = self.take_present_ranges()?;
        let mut missing = Ranges::new();
        for range in present.iter().merge_join_by(ranges, by_prefix) {
            let (known, (prefix, wanted)) = match range {
                EitherOrBoth::Left(_) => continue,
                EitherOrBoth::Both((_, known), wanted) => (Some(known), wanted),
                EitherOrBoth::Right(wanted) => (None, wanted),
            };
            let was_peer = known
                .is_some_and(|known| known.node == wanted.node && known.has(IpcacheValue::PEER));
            let mut value = *wanted;
            if !was_peer {
                value.flags &= !IpcacheValue::PEER;
            }
            if known != Some(&value) {
                missing.insert(*prefix, value);
            }
        }
        self.maps
            .write_ranges(&Ranges::new(), &missing)
            .context("guarding new ranges")?;
        present.append(&mut missing);
        self.present = Some(present);
        Ok(())
    }

    /// Makes the ranges these, and keeps them for a time without maps.
    pub(super) fn set_ranges(&mut self, ranges: Ranges) -> anyhow::Result<()> {
        let present = self.take_present_ranges()?;
        self.maps
            .write_ranges(&present, &ranges)
            .context("writing the ranges")?;
        self.guarded
            .write(&ranges)
            .context("keeping the guarded ranges")?;
        self.present = Some(ranges);
        Ok(())
    }

    /// The ranges in the maps; read if that was not done since [`Encryption::look_again`]. Unknown
    /// until all is done: what failed half-way is read the next time.
    fn take_present_ranges(&mut self) -> anyhow::Result<Ranges> {
        match self.present.take() {
            Some(present) => Ok(present),
            None => self.maps.ranges().context("reading the ranges"),
        }
    }
}
