//! Which addresses the programs know, and whose they are: the contents of `IPCACHE4` and `IPCACHE6`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use ebpf_abi::{IpcacheValue, NodeId};

use super::Desired;
use super::nodes::{Member, Standing};
use crate::config::{self, StrictMode};
use crate::encryption::Prefix;
use crate::state::ClusterState;

/// Ranges and whose they are. The longest prefix that an address lies in counts.
pub type Ranges = BTreeMap<Prefix, IpcacheValue>;

/// The order of ranges, to go through two tables side by side.
pub fn by_prefix<V>(one: &(&Prefix, V), other: &(&Prefix, V)) -> Ordering {
    one.0.cmp(other.0)
}

/// Numbers of nodes, kept as long as the node is there: what was counted for it is found by its
/// number, also after a restart of the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeIds {
    by_name: BTreeMap<String, NodeId>,
}

impl NodeIds {
    /// The numbers that an earlier agent gave, read from what it wrote: a node is known by its own
    /// addresses.
    pub fn recover(ranges: &Ranges, desired: &Desired) -> Self {
        let mut ids = Self::default();
        let mut taken = BTreeSet::new();
        for member in &desired.members {
            let addresses = member.addresses.iter().copied().map(Prefix::from);
            let known = addresses.filter_map(|address| ranges.get(&address));
            let id = known.map(|value| value.node).find(|id| *id != NodeId(0));
            if let Some(id) = id.filter(|id| taken.insert(*id)) {
                ids.by_name.insert(member.name.clone(), id);
            }
        }
        ids
    }

    /// Numbers those that are new and forgets those that are gone, which are returned.
    pub fn follow(&mut self, desired: &Desired) -> Vec<NodeId> {
        let has = |member: &Member| self.by_name.contains_key(&member.name);
        if desired.members.len() == self.by_name.len() && desired.members.iter().all(has) {
            return Vec::new();
        }
        let names: BTreeSet<&str> = desired.members.iter().map(|it| it.name.as_str()).collect();
        let mut gone = Vec::new();
        self.by_name.retain(|name, id| {
            let stays = names.contains(name.as_str());
            gone.extend((!stays).then_some(*id));
            stays
        });
        let taken: BTreeSet<NodeId> = self
            .by_name
            .values()
            .copied()
            .chain(gone.iter().copied())
            .collect();
        let mut free = (1..).map(NodeId).filter(|id| !taken.contains(id));
        for name in names {
            if !self.by_name.contains_key(name) {
                let id = free.next().expect("there are more numbers than nodes");
                self.by_name.insert(name.to_owned(), id);
            }
        }
        gone
    }

    /// The number of a node.
    pub fn id(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).copied()
    }

    /// The node with a number.
    pub fn name(&self, id: NodeId) -> Option<&str> {
        let mut all = self.by_name.iter();
        all.find(|(_, known)| **known == id)
            .map(|(name, _)| name.as_str())
    }
}

/// Decides what the programs know.
pub fn ranges(
    desired: &Desired,
    state: &ClusterState,
    config: &config::Encryption,
    ids: &NodeIds,
) -> Ranges {
    let strict = &config.strict_mode;
    let from_here = desired.this_node().is_some_and(|this| this.excepted);
    let is_excepted = |member: &Member| {
        // Without encryption of nodes there is no exception to it. What has no key stays reachable.
        match member.standing {
            Standing::This => false,
            Standing::Peer { .. } => config.node && (member.excepted || from_here),
            Standing::NoKey | Standing::Refused => member.excepted,
        }
    };
    // What comes later counts.
    let mut ranges = Vec::new();
    ranges.extend(
        strict
            .pod_cidrs
            .iter()
            .copied()
            .map(Prefix::from)
            .map(guarded),
    );
    ranges.extend(claimed(desired, state).map(guarded));
    let known: BTreeSet<&str> = desired.members.iter().map(|it| it.name.as_str()).collect();
    for pod in state
        .pods()
        .filter(|pod| !pod.host_network && !pod.finished)
    {
        // A pod whose Node has not been seen yet.
        if pod
            .node_name
            .as_deref()
            .is_some_and(|name| !known.contains(name))
        {
            ranges.extend(pod.ips.iter().copied().map(Prefix::from).map(guarded));
        }
    }
    let unplaced = desired.members.iter().flat_map(|it| &it.unplaced_pods);
    ranges.extend(unplaced.copied().map(guarded));
    for member in &desired.members {
        let id = ids.id(&member.name).unwrap_or_default();
        ranges.extend(of_member(member, id, is_excepted(member)));
    }
    let mut ranges = ranges.into_iter().collect();
    allow(&mut ranges, strict);
    ranges
}

/// The number that stands for nodes whose objects are gone: no node has it.
pub const GONE: NodeId = NodeId(u32::MAX);

/// Guards ranges of nodes that are gone, where no wider one says whose they are now.
pub fn guard_gone(ranges: &mut Ranges, gone: &[Prefix], strict: &StrictMode) {
    for prefix in gone {
        if !prefix.and_wider().any(|wider| ranges.contains_key(&wider)) {
            ranges.insert(*prefix, value(GONE, IpcacheValue::POD));
        }
    }
    allow(ranges, strict);
}

fn guarded(prefix: Prefix) -> (Prefix, IpcacheValue) {
    (prefix, value(NodeId(0), IpcacheValue::POD))
}

/// Ranges that nodes claim, and may not have got: they are pods' all the same, and nobody's peer. But
/// a claim takes nothing from others: not a part of a range that another node has, and no range that
/// nodes themselves are in.
fn claimed<'a>(desired: &'a Desired, state: &'a ClusterState) -> impl Iterator<Item = Prefix> + 'a {
    let members = &desired.members;
    let taken: HashSet<Prefix> = members.iter().flat_map(|it| &it.pods).copied().collect();
    let addresses: BTreeSet<IpAddr> = members
        .iter()
        .flat_map(|it| &it.addresses)
        .copied()
        .collect();
    let claimed = state.nodes().flat_map(|node| &node.pod_cidrs);
    let claimed = claimed.map(|range| Prefix::from(*range));
    claimed.filter(move |range| {
        let is_taken = || range.and_wider().any(|it| taken.contains(&it));
        let first = || addresses.range(range.address()..).next();
        let holds_a_node = || first().is_some_and(|address| range.contains(*address));
        range.length() > 0 && !is_taken() && !holds_a_node()
    })
}

fn of_member(
    member: &Member,
    id: NodeId,
    is_excepted: bool,
) -> impl Iterator<Item = (Prefix, IpcacheValue)> {
    let standing = match member.standing {
        Standing::This => IpcacheValue::LOCAL,
        Standing::Peer { .. } => IpcacheValue::PEER,
        Standing::NoKey | Standing::Refused => 0,
    };
    let pods = member
        .pods
        .iter()
        .map(move |prefix| (*prefix, value(id, IpcacheValue::POD | standing)));
    let clear = if is_excepted {
        IpcacheValue::CLEAR_ALLOWED
    } else {
        0
    };
    let flags = IpcacheValue::NODE | standing | clear;
    let own = member
        .addresses
        .iter()
        .map(move |address| ((*address).into(), value(id, flags)));
    pods.chain(own)
}

/// Takes the nodes of these names, which no route leads to, out of those that can be reached encrypted.
pub fn without_routes(ranges: &mut Ranges, ids: &NodeIds, names: &BTreeSet<String>) {
    let without: BTreeSet<NodeId> = names.iter().filter_map(|name| ids.id(name)).collect();
    for value in ranges.values_mut().filter(|it| without.contains(&it.node)) {
        value.flags &= !IpcacheValue::PEER;
    }
}

/// Marks what may be reached unencrypted: whole ranges that lie in an allowed one, and allowed parts
/// of larger ranges.
fn allow(ranges: &mut Ranges, strict: &StrictMode) {
    for allowed in strict.allowed_cidrs.iter().copied().map(Prefix::from) {
        let around = ranges
            .iter()
            .filter(|(prefix, _)| prefix.covers(allowed))
            .max_by_key(|(prefix, _)| prefix.length());
        let part = around.map(|(_, value)| *value);
        for (prefix, value) in ranges.iter_mut() {
            if allowed.covers(*prefix) {
                value.flags |= IpcacheValue::CLEAR_ALLOWED;
            }
        }
        if let Some(mut part) = part {
            part.flags |= IpcacheValue::CLEAR_ALLOWED;
            ranges.insert(allowed, part);
        }
    }
}

fn value(node: NodeId, flags: u32) -> IpcacheValue {
    IpcacheValue { node, flags }
}
