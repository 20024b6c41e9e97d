//! Which peers routes lead to.
//!
//! In strict mode all of them, from the first moment: what a peer cannot decrypt yet waits or is lost,
//! and nothing leaves in clear text. Otherwise encryption can be switched on while connections go on: a
//! node that has not heard of this one's key yet would cost what is sent to it, so its traffic stays as
//! it was until it has made a handshake.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Encryption;
use super::own_keys::OwnKeys;
use crate::encryption::desired::Desired;
use crate::encryption::desired::nodes::{Member, Standing};
use crate::encryption::device::DeviceState;
use crate::encryption::key::PublicKey;
use crate::encryption::peers::Peers;

/// How often peers are called at first. WireGuard tries again by itself after five seconds.
const CALL_INTERVAL: Duration = Duration::from_secs(2);
/// Likewise once they have been called for so long: they may be switched off.
const CALL_INTERVAL_LATER: Duration = Duration::from_mins(1);
/// See [`CALL_INTERVAL_LATER`].
const LATER: Duration = Duration::from_mins(1);

/// Who has made a handshake.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// Names of nodes that have, with whichever key: one that changes its key stays one that answers.
    nodes: BTreeSet<String>,
    /// The others: since when they are called, and when they were last.
    waited_for: BTreeMap<String, [Instant; 2]>,
}

impl<A> Encryption<A> {
    /// Names of the peers that no route may lead to yet; calls them.
    pub(super) async fn wait_for_answers(
        &mut self,
        desired: &Desired,
        own: &OwnKeys,
        state: &DeviceState,
    ) -> anyhow::Result<BTreeSet<String>> {
        if self.config.strict_mode.enabled {
            return Ok(BTreeSet::new());
        }
        let waited_for = self.answered.without(desired, &keys_in_use(state));
        let due = self.answered.due(&waited_for, Instant::now());
        if !due.is_empty() {
            let keys: BTreeSet<PublicKey> = due.into_iter().flat_map(keys).collect();
            let peers = desired.peers.iter().filter(|(key, _)| keys.contains(key));
            let peers: Peers = peers.map(|(key, config)| (*key, config.clone())).collect();
            let device = self.device.as_ref().context("the device was just made")?;
            device.call(&peers, own.active.key.public()).await?;
        }
        Ok(waited_for
            .iter()
            .map(|member| member.name.clone())
            .collect())
    }
}

impl Answered {
    /// Notes who answers by now, and returns the others.
    fn without<'a>(
        &mut self,
        desired: &'a Desired,
        in_use: &BTreeSet<PublicKey>,
    ) -> Vec<&'a Member> {
        let peers = || desired.peer_nodes();
        self.nodes
            .retain(|name| peers().any(|member| member.name == *name));
        let answering = peers().filter(|member| keys(member).any(|key| in_use.contains(&key)));
        self.nodes
            .extend(answering.map(|member| member.name.clone()));
        peers()
            .filter(|member| !self.nodes.contains(&member.name))
            .collect()
    }

    /// Those of the nodes waited for that are to be called now.
    fn due<'a>(&mut self, waited_for: &[&'a Member], now: Instant) -> Vec<&'a Member> {
        let is_waited_for = |name: &str| waited_for.iter().any(|member| member.name == name);
        self.waited_for.retain(|name, _| is_waited_for(name));
        let is_due = |member: &&&Member| {
            let Some([since, last]) = self.waited_for.get_mut(&member.name) else {
                self.waited_for.insert(member.name.clone(), [now; 2]);
                return true;
            };
            let interval = if now.duration_since(*since) < LATER {
                CALL_INTERVAL
            } else {
                CALL_INTERVAL_LATER
            };
            let is_due = now.duration_since(*last) >= interval;
            if is_due {
                *last = now;
            }
            is_due
        };
        waited_for.iter().filter(is_due).copied().collect()
    }
}

/// Keys with which a handshake was made.
pub(super) fn keys_in_use(state: &DeviceState) -> BTreeSet<PublicKey> {
    let alive = state
        .traffic
        .iter()
        .filter(|(_, traffic)| traffic.last_handshake.is_some());
    alive.map(|(key, _)| *key).collect()
}

/// Keys by which a node may make its handshake.
fn keys(member: &Member) -> impl Iterator<Item = PublicKey> + use<> {
    let of_peer = match member.standing {
        Standing::Peer { key, next_key, .. } => [Some(key), next_key],
        Standing::This | Standing::NoKey | Standing::Refused => [None, None],
    };
    of_peer.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::key::PrivateKey;

    fn key() -> PublicKey {
        PrivateKey::generate().public()
    }

    fn desired(name: &str, key: PublicKey, next_key: Option<PublicKey>) -> Desired {
        let standing = Standing::Peer {
            key,
            next_key,
            endpoint: "192.0.2.2:51871".parse().unwrap(),
        };
        let member = Member {
            name: name.to_owned(),
            standing,
            pods: Vec::new(),
            unplaced_pods: Vec::new(),
            addresses: Vec::new(),
            excepted: false,
        };
        Desired {
            members: vec![member],
            ..Desired::default()
        }
    }

    fn waits(answered: &mut Answered, desired: &Desired, in_use: &[PublicKey]) -> bool {
        let in_use = in_use.iter().copied().collect();
        !answered.without(desired, &in_use).is_empty()
    }

    #[test]
    fn a_node_that_answered_is_not_waited_for_when_it_changes_its_key() {
        let mut answered = Answered::default();
        let [old, new] = [key(), key()];
        assert!(waits(&mut answered, &desired("other", old, None), &[]));
        assert!(!waits(&mut answered, &desired("other", old, None), &[old]));
        let changing = desired("other", old, Some(new));
        assert!(!waits(&mut answered, &changing, &[old]));
        assert!(!waits(&mut answered, &desired("other", new, None), &[]));
    }

    #[test]
    fn a_node_that_comes_back_is_waited_for_again() {
        let mut answered = Answered::default();
        let key = key();
        assert!(!waits(&mut answered, &desired("other", key, None), &[key]));
        answered.without(&Desired::default(), &BTreeSet::new());
        assert!(waits(&mut answered, &desired("other", key, None), &[]));
    }

    #[test]
    fn calls_become_rare() {
        let mut answered = Answered::default();
        let desired = desired("other", key(), None);
        let waited_for = answered.without(&desired, &BTreeSet::new());
        let start = Instant::now();
        let seconds = (0..600).map(|second| start + Duration::from_secs(second));
        let mut calls = |seconds: &[Instant]| {
            let calls = seconds.iter().map(|now| answered.due(&waited_for, *now));
            calls.filter(|due| !due.is_empty()).count()
        };
        let seconds: Vec<_> = seconds.collect();
        assert_eq!(calls(&seconds[..60]), 30);
        assert_eq!(calls(&seconds[60..]), 9);
    }
}
