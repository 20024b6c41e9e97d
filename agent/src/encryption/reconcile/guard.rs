//! Ranges that the programs guard.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use ebpf_abi::{IpcacheValue, NodeId};
use itertools::{EitherOrBoth, Itertools};

use super::Encryption;
use crate::encryption::Prefix;
use crate::encryption::desired::Desired;
use crate::encryption::desired::ranges::{self, NodeIds, Ranges, by_prefix};
use crate::state::ClusterState;

/// So long the range of a node stays guarded whose object is gone: its pods may live on for a while, and
/// the routes of the CNI to them. After a restart of the agent the time begins anew.
const GUARDED_AFTER: Duration = Duration::from_hours(1);

/// Ranges of nodes whose objects are gone, and since when.
#[derive(Debug, Default)]
pub(super) struct Vanished(BTreeMap<Prefix, Instant>);

impl Vanished {
    /// Those that stay guarded, of what the maps have and what is wanted of them. Not those that their
    /// nodes gave up, and not single addresses: these are pods that ended.
    fn follow(
        &mut self,
        present: &Ranges,
        wanted: &Ranges,
        nodes: &NodeIds,
        now: Instant,
    ) -> Vec<Prefix> {
        const POD_HERE: u32 = IpcacheValue::POD | IpcacheValue::LOCAL;
        let is_unclaimed =
            |prefix: &Prefix| present.contains_key(prefix) && !wanted.contains_key(prefix);
        self.0.retain(|prefix, _| is_unclaimed(prefix));
        for (prefix, value) in present {
            let is_range_of_pods =
                !prefix.is_single() && value.flags & POD_HERE == IpcacheValue::POD;
            let node_is_gone = || value.node != NodeId(0) && nodes.name(value.node).is_none();
            if is_range_of_pods && is_unclaimed(prefix) && node_is_gone() {
                self.0.entry(*prefix).or_insert_with(|| {
                    tracing::info!(range = %prefix, "its node is gone; it stays guarded for a while");
                    now
                });
            }
        }
        let kept = self.0.iter();
        let kept = kept.filter(|(_, since)| now.duration_since(**since) < GUARDED_AFTER);
        kept.map(|(prefix, _)| *prefix).collect()
    }
}

impl<A> Encryption<A> {
    /// Reads what the maps hold, if that is not known.
    pub(super) fn read_ranges(&mut self) -> anyhow::Result<()> {
        self.present = Some(self.take_present_ranges()?);
        Ok(())
    }

    /// What is to be guarded, by what was read.
    pub(super) fn ranges(
        &mut self,
        state: &ClusterState,
        desired: &Desired,
    ) -> anyhow::Result<Ranges> {
        let present = self.present.as_ref().context("they were not read")?;
        let ids = self
            .ids
            .get_or_insert_with(|| NodeIds::recover(present, desired));
        for gone in ids.follow(desired) {
            self.maps
                .account
                .forget(gone)
                .context("forgetting a node's account")?;
        }
        let mut ranges = ranges::ranges(desired, state, &self.config, ids);
        let gone = self.vanished.follow(present, &ranges, ids, Instant::now());
        ranges::guard_gone(&mut ranges, &gone, &self.config.strict_mode);
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
    use super::*;
    use crate::encryption::desired::nodes::{Member, Standing};

    fn ranges(all: &[(&str, u32, u32)]) -> Ranges {
        let ranges = all.iter().map(|(prefix, node, flags)| {
            let value = IpcacheValue {
                node: NodeId(*node),
                flags: *flags,
            };
            (prefix.parse().unwrap(), value)
        });
        ranges.collect()
    }

    /// Numbers of a cluster with one node, which has the first.
    fn one_node() -> NodeIds {
        let member = Member {
            name: "stays".to_owned(),
            standing: Standing::NoKey,
            pods: Vec::new(),
            unplaced_pods: Vec::new(),
            addresses: Vec::new(),
            excepted: false,
        };
        let mut ids = NodeIds::default();
        ids.follow(&Desired {
            members: vec![member],
            ..Desired::default()
        });
        assert_eq!(ids.id("stays"), Some(NodeId(1)));
        ids
    }

    #[test]
    fn the_ranges_of_nodes_that_are_gone_stay_for_a_time() {
        let (pod, local, peer) = (IpcacheValue::POD, IpcacheValue::LOCAL, IpcacheValue::PEER);
        let present = ranges(&[
            ("10.0.0.0/8", 0, pod),
            ("10.1.1.0/24", 1, pod | local),
            ("10.1.2.0/24", 2, pod | peer),
            ("10.1.3.7/32", 2, pod | peer),
            ("10.1.4.0/24", 1, pod | peer),
            ("192.0.2.2/32", 2, IpcacheValue::NODE | peer),
        ]);
        let gone: Prefix = "10.1.2.0/24".parse().unwrap();
        let (ids, nothing) = (one_node(), Ranges::new());
        let mut vanished = Vanished::default();
        let begun = Instant::now();
        assert_eq!(vanished.follow(&present, &present, &ids, begun), []);
        assert_eq!(vanished.follow(&present, &nothing, &ids, begun), [gone]);
        let later = begun + GUARDED_AFTER;
        assert_eq!(vanished.follow(&present, &nothing, &ids, later), []);
        // Claimed, and given up again.
        assert_eq!(vanished.follow(&present, &present, &ids, later), []);
        assert_eq!(vanished.follow(&present, &nothing, &ids, later), [gone]);
        let number = crate::encryption::desired::ranges::GONE.0;
        let present = ranges(&[("10.1.2.0/24", number, pod)]);
        let mut restarted = Vanished::default();
        assert_eq!(restarted.follow(&present, &nothing, &ids, later), [gone]);
    }
}
