//! What to change about a device's peers. Pure.
//!
//! A device knows each prefix at one peer only: giving it to one takes it from another, in the same
//! instant. So a prefix that moves is only given, never taken first, and no moment is without it:
//! new peers and new prefixes come first, what nobody wants any more goes last.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::SystemTime;

use super::key::{PresharedKey, PublicKey};
use super::values::Prefix;

/// What a peer is, or is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerConfig {
    /// Where its packets go. As desired, `None` leaves it as it is: the peer will call.
    pub endpoint: Option<SocketAddr>,
    /// Packets to these prefixes go to it, and only packets from them are taken from it.
    pub allowed_ips: BTreeSet<Prefix>,
    /// Secret of this pair of nodes.
    pub preshared_key: Option<PresharedKey>,
    /// Seconds after which silence is broken; `None` is never.
    pub keepalive_seconds: Option<std::num::NonZeroU16>,
}

/// Peers by their key. No prefix is at two of them.
pub type Peers = BTreeMap<PublicKey, PeerConfig>;

/// What went on with a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerTraffic {
    /// End of the last handshake; `None` if there was none.
    pub last_handshake: Option<SystemTime>,
    /// Bytes from it.
    pub received_bytes: u64,
    /// Bytes to it.
    pub sent_bytes: u64,
}

/// One change of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// A new peer.
    Add(PublicKey, PeerConfig),
    /// The peer's packets go somewhere else.
    SetEndpoint(PublicKey, SocketAddr),
    /// Another secret of the pair, or none.
    SetPresharedKey(PublicKey, Option<PresharedKey>),
    /// Another time of silence.
    SetKeepalive(PublicKey, Option<std::num::NonZeroU16>),
    /// The peer gets these prefixes; whoever has one loses it.
    AddAllowedIps(PublicKey, BTreeSet<Prefix>),
    /// The peer loses these prefixes; nobody gets them.
    RemoveAllowedIps(PublicKey, BTreeSet<Prefix>),
    /// The peer goes, and its prefixes with it.
    Remove(PublicKey),
}

impl PeerChange {
    /// The peer it is about.
    pub fn peer(&self) -> PublicKey {
        match self {
            Self::Add(peer, _)
            | Self::SetEndpoint(peer, _)
            | Self::SetPresharedKey(peer, _)
            | Self::SetKeepalive(peer, _)
            | Self::AddAllowedIps(peer, _)
            | Self::RemoveAllowedIps(peer, _)
            | Self::Remove(peer) => *peer,
        }
    }
}

/// The changes that make `actual` the same as `desired`, in the order in which to make them.
/// Nothing if they are the same already.
///
/// `desired` has no prefix at two peers: the caller has decided who gets it.
pub fn plan(desired: &Peers, actual: &Peers) -> Vec<PeerChange> {
    let mut gains = Vec::new();
    let mut losses = Vec::new();
    let different: Vec<_> = desired
        .iter()
        .map(|(peer, config)| (peer, config, actual.get(peer)))
        .filter(|(_, config, actual)| *actual != Some(config))
        .collect();
    // Taken from whoever has it by being given to another.
    let given: BTreeSet<Prefix> = different
        .iter()
        .flat_map(|(_, config, actual)| {
            let has = actual.map(|actual| &actual.allowed_ips);
            let wants = config.allowed_ips.iter().copied();
            wants.filter(move |prefix| !has.is_some_and(|has| has.contains(prefix)))
        })
        .collect();
    for (peer, config, actual) in different {
        match actual {
            None => gains.push(PeerChange::Add(*peer, config.clone())),
            Some(actual) => plan_peer(*peer, config, actual, &given, &mut gains, &mut losses),
        }
    }
    let gone = actual.keys().filter(|peer| !desired.contains_key(peer));
    losses.extend(gone.map(|peer| PeerChange::Remove(*peer)));
    gains.append(&mut losses);
    gains
}

fn plan_peer(
    peer: PublicKey,
    desired: &PeerConfig,
    actual: &PeerConfig,
    given: &BTreeSet<Prefix>,
    gains: &mut Vec<PeerChange>,
    losses: &mut Vec<PeerChange>,
) {
    if let Some(endpoint) = desired.endpoint
        && actual.endpoint != desired.endpoint
    {
        gains.push(PeerChange::SetEndpoint(peer, endpoint));
    }
    if desired.preshared_key != actual.preshared_key {
        let key = desired.preshared_key.clone();
        gains.push(PeerChange::SetPresharedKey(peer, key));
    }
    if desired.keepalive_seconds != actual.keepalive_seconds {
        gains.push(PeerChange::SetKeepalive(peer, desired.keepalive_seconds));
    }
    let missing: BTreeSet<_> = &desired.allowed_ips - &actual.allowed_ips;
    if !missing.is_empty() {
        gains.push(PeerChange::AddAllowedIps(peer, missing));
    }
    let surplus: BTreeSet<_> = &(&actual.allowed_ips - &desired.allowed_ips) - given;
    if !surplus.is_empty() {
        losses.push(PeerChange::RemoveAllowedIps(peer, surplus));
    }
}

/// Makes the changes in what is known of a device, as the device makes them.
pub fn follow(peers: &mut Peers, changes: &[PeerChange]) {
    let mut given = BTreeMap::new();
    for change in changes {
        let key = change.peer();
        if let PeerChange::Add(_, PeerConfig { allowed_ips, .. })
        | PeerChange::AddAllowedIps(_, allowed_ips) = change
        {
            given.extend(allowed_ips.iter().map(|prefix| (*prefix, key)));
        }
        follow_one(peers, key, change);
    }
    if given.is_empty() {
        return;
    }
    // Taken from whoever had it.
    for (peer, config) in peers {
        let is_left = |prefix: &Prefix| given.get(prefix).is_none_or(|owner| owner == peer);
        if !config.allowed_ips.iter().all(is_left) {
            config.allowed_ips.retain(is_left);
        }
    }
}

fn follow_one(peers: &mut Peers, key: PublicKey, change: &PeerChange) {
    if let PeerChange::Remove(_) = change {
        peers.remove(&key);
        return;
    }
    let peer = peers.entry(key).or_default();
    match change {
        PeerChange::Add(_, config) => *peer = config.clone(),
        PeerChange::SetEndpoint(_, endpoint) => peer.endpoint = Some(*endpoint),
        PeerChange::SetPresharedKey(_, secret) => peer.preshared_key.clone_from(secret),
        PeerChange::SetKeepalive(_, seconds) => peer.keepalive_seconds = *seconds,
        PeerChange::AddAllowedIps(_, prefixes) => peer.allowed_ips.extend(prefixes),
        PeerChange::RemoveAllowedIps(_, prefixes) => {
            peer.allowed_ips.retain(|prefix| !prefixes.contains(prefix));
        }
        PeerChange::Remove(_) => {}
    }
}

#[cfg(test)]
mod tests;
