//! What is told after each step.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ebpf_abi::TrafficPath;
use itertools::Itertools as _;

use super::Encryption;
use super::own_keys::OwnKeys;
use crate::encryption::desired::Desired;
use crate::encryption::desired::nodes::{Member, Standing};
use crate::encryption::device::DeviceState;
use crate::encryption::key::PublicKey;
use crate::encryption::snapshot::handle::Account;
use crate::encryption::snapshot::{
    Handshake, KeyStatus, NodeStanding, NodeStatus, PeerStatus, Snapshot,
};
use crate::state::Problem;

/// How often the account is read. Only its growth counts, so it may be old.
const ACCOUNT_INTERVAL: Duration = Duration::from_secs(5);

/// The account as it was read last.
#[derive(Debug, Default)]
pub(super) struct KnownAccount {
    read: Option<Instant>,
    account: Account,
}

impl<A> Encryption<A> {
    /// What is known before the first step.
    pub(super) fn first_snapshot(&self) -> Snapshot {
        Snapshot {
            taken: SystemTime::now(),
            device: self.settings.name.clone(),
            backend: None,
            port: self.settings.port,
            mark: self.settings.mark,
            table: self.table,
            mtu: self.settings.mtu,
            key: None,
            rotation: None,
            strict: self.config.strict_mode.enabled,
            nodes_traffic: self.config.node,
            nodes: Vec::new(),
            failure: None,
            failed_steps: 0,
        }
    }

    /// The state after a step that went well.
    pub(super) fn snapshot(
        &mut self,
        own: &OwnKeys,
        desired: &Desired,
        device: &DeviceState,
        waited_for: &BTreeSet<String>,
    ) -> Snapshot {
        self.refresh_account();
        let now = SystemTime::now();
        let reasons = reasons(&desired.problems);
        let nodes: Vec<_> = desired
            .members
            .iter()
            .map(|member| {
                let is_called = waited_for.contains(&member.name);
                let mut status = self.node(member, desired, device, is_called, now);
                status.reasons = reasons.get(&*member.name).cloned().unwrap_or_default();
                status
            })
            .collect();
        let names: BTreeSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        self.handshakes.keep(|name| names.contains(name));
        Snapshot {
            taken: now,
            backend: self.device.as_ref().map(super::Device::backend),
            key: Some(KeyStatus {
                public: own.active.key.public(),
                created: own.active.created,
            }),
            rotation: self.rotation(own),
            nodes,
            ..self.first_snapshot()
        }
    }

    fn node(
        &mut self,
        member: &Member,
        desired: &Desired,
        device: &DeviceState,
        is_called: bool,
        now: SystemTime,
    ) -> NodeStatus {
        let id = self.ids.as_ref().and_then(|ids| ids.id(&member.name));
        let id = id.unwrap_or_default();
        let peers: Vec<_> = keys_of(&member.standing)
            .filter_map(|key| peer(key, desired, device))
            .collect();
        let encrypted = self
            .account
            .account
            .get(&(id, TrafficPath::ENCRYPTED))
            .map_or(0, |value| value.bytes);
        let sent: u64 = peers.iter().map(|peer| peer.traffic.sent_bytes).sum();
        let mut status = NodeStatus {
            name: member.name.clone(),
            id,
            standing: standing(&member.standing),
            reasons: Vec::new(),
            handshake: Handshake::None,
            peers,
        };
        if status.standing == NodeStanding::Peer {
            let last = status.last_handshake();
            let bytes = encrypted.saturating_add(sent);
            status.handshake = self
                .handshakes
                .judge(&member.name, last, bytes, is_called, now);
        }
        status
    }

    /// An account that cannot be read is an old one; whoever asks for it is told why.
    fn refresh_account(&mut self) {
        let due = self
            .account
            .read
            .is_none_or(|read| read.elapsed() >= ACCOUNT_INTERVAL);
        if !due {
            return;
        }
        self.account.read = Some(Instant::now());
        if let Ok(account) = self.maps.account.read() {
            self.account.account = account;
        }
    }
}

fn standing(standing: &Standing) -> NodeStanding {
    match standing {
        Standing::This => NodeStanding::This,
        Standing::Peer { .. } => NodeStanding::Peer,
        Standing::NoKey => NodeStanding::NoKey,
        Standing::Refused => NodeStanding::Refused,
    }
}

fn keys_of(standing: &Standing) -> impl Iterator<Item = PublicKey> {
    let keys = match standing {
        Standing::Peer { key, next_key, .. } => [Some(*key), *next_key],
        _ => [None, None],
    };
    keys.into_iter().flatten()
}

/// A peer as the device has it, or, if it has just been made, as it is to be.
fn peer(key: PublicKey, desired: &Desired, device: &DeviceState) -> Option<PeerStatus> {
    let wanted = desired.peers.get(&key)?;
    let actual = device.peers.get(&key);
    Some(PeerStatus {
        key,
        endpoint: actual.and_then(|it| it.endpoint).or(wanted.endpoint),
        allowed_ips: wanted.allowed_ips.iter().copied().collect(),
        preshared: wanted.preshared_key.is_some(),
        traffic: device.traffic.get(&key).copied().unwrap_or_default(),
    })
}

/// What is said of the objects of nodes, by the names of these.
fn reasons(problems: &[Problem]) -> HashMap<&str, Vec<String>> {
    let of_nodes = problems.iter().filter_map(|problem| {
        let name = problem.object.strip_prefix("Node ")?;
        Some((name, format!("{}: {}", problem.field, problem.message)))
    });
    of_nodes.into_group_map()
}

/// The last snapshot, with why the step after it failed.
pub(super) fn failed(last: &Snapshot, reason: &str) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        failure: Some(reason.to_owned()),
        failed_steps: last.failed_steps + 1,
        ..last.clone()
    })
}
