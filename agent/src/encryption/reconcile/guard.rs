//! Ranges that the programs guard.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use ebpf_abi::IpcacheValue;
use itertools::{EitherOrBoth, Itertools};

use super::Encryption;
use crate::encryption::Prefix;
use crate::encryption::desired::Desired;
use crate::encryption::desired::ranges::{self, NodeIds, Ranges, by_prefix};
use crate::state::ClusterState;

/// So long the range of a node stays guarded whose object is gone: its pods may live on for a while, and
/// the routes of the CNI to them.
const GUARDED_AFTER: Duration = Duration::from_hours(1);

/// Ranges of pods of other nodes that no object claims any more, and since when.
#[derive(Debug, Default)]
pub(super) struct Vanished(BTreeMap<Prefix, Instant>);

impl Vanished {
    /// Those that stay guarded, of what the maps have and what is wanted of them. Not single addresses:
    /// these are pods that ended.
    fn follow(&mut self, present: &Ranges, wanted: &Ranges, now: Instant) -> Vec<Prefix> {
        const POD_HERE: u32 = IpcacheValue::POD | IpcacheValue::LOCAL;
        let is_gone =
            |prefix: &Prefix| present.contains_key(prefix) && !wanted.contains_key(prefix);
        self.0.retain(|prefix, _| is_gone(prefix));
        for (prefix, value) in present {
            let is_range = !prefix.is_single();
            let is_of_others = value.flags & POD_HERE == IpcacheValue::POD;
            if is_range && is_of_others && is_gone(prefix) {
                self.0.entry(*prefix).or_insert(now);
            }
        }
        let kept = self.0.iter();
        let kept = kept.filter(|(_, since)| now.duration_since(**since) < GUARDED_AFTER);
        kept.map(|(prefix, _)| *prefix).collect()
    }
}

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
        let mut ranges = ranges::ranges(desired, state, &self.config, ids);
        let present = self.take_present_ranges()?;
        let vanished = self.vanished.follow(&present, &ranges, Instant::now());
        self.present = Some(present);
        ranges::guard_more(&mut ranges, &vanished, &self.config.strict_mode);
        Ok(ranges)
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

#[cfg(test)]
mod tests {
    use ebpf_abi::NodeId;

    use super::*;

    #[test]
    fn what_was_guarded_of_others_stays_so_for_a_time() {
        let (pod, local, peer) = (IpcacheValue::POD, IpcacheValue::LOCAL, IpcacheValue::PEER);
        let range = |prefix: &str, flags| {
            let node = NodeId(1);
            (prefix.parse().unwrap(), IpcacheValue { node, flags })
        };
        let present = Ranges::from([
            range("10.1.1.0/24", pod | local),
            range("10.1.2.0/24", pod | peer),
            range("10.1.3.7/32", pod | peer),
            range("192.0.2.2/32", IpcacheValue::NODE | peer),
        ]);
        let gone: Prefix = "10.1.2.0/24".parse().unwrap();
        let mut vanished = Vanished::default();
        let begun = Instant::now();
        let nothing = Ranges::new();
        assert_eq!(vanished.follow(&present, &present, begun), []);
        assert_eq!(vanished.follow(&present, &nothing, begun), [gone]);
        let later = begun + GUARDED_AFTER;
        assert_eq!(vanished.follow(&present, &nothing, later), []);
        // Claimed, and given up again.
        assert_eq!(vanished.follow(&present, &present, later), []);
        assert_eq!(vanished.follow(&present, &nothing, later), [gone]);
    }
}
