use std::num::NonZeroU16;

use proptest::prelude::*;

use super::*;

fn key(number: u8) -> PublicKey {
    PublicKey::new([number; 32]).expect("not zero")
}

fn prefix(number: u8) -> Prefix {
    // Nested on purpose: 10.0.0.0/8 holds all others.
    match number {
        0 => "10.0.0.0/8".parse().expect("valid"),
        1..=9 => format!("10.{number}.0.0/16").parse().expect("valid"),
        _ => format!("fd00:{number}::/64").parse().expect("valid"),
    }
}

/// What a device makes of a change, checked for what must never happen on the way.
fn apply(peers: &mut Peers, change: &PeerChange) {
    let give = |peers: &mut Peers, to: PublicKey, prefixes: &BTreeSet<Prefix>| {
        for config in peers.values_mut() {
            config
                .allowed_ips
                .retain(|prefix| !prefixes.contains(prefix));
        }
        let config = peers.get_mut(&to).expect("known");
        config.allowed_ips.extend(prefixes);
    };
    let known = peers.contains_key(&change.peer());
    assert_eq!(known, !matches!(change, PeerChange::Add(..)), "{change:?}");
    match change {
        PeerChange::Add(peer, config) => {
            let bare = PeerConfig {
                allowed_ips: BTreeSet::new(),
                ..config.clone()
            };
            peers.insert(*peer, bare);
            give(peers, *peer, &config.allowed_ips);
        }
        PeerChange::AddAllowedIps(peer, prefixes) => give(peers, *peer, prefixes),
        PeerChange::Remove(peer) => drop(peers.remove(peer)),
        other => {
            let config = peers.get_mut(&other.peer()).expect("known");
            match other {
                PeerChange::SetEndpoint(_, endpoint) => config.endpoint = Some(*endpoint),
                PeerChange::SetPresharedKey(_, key) => config.preshared_key.clone_from(key),
                PeerChange::SetKeepalive(_, seconds) => config.keepalive_seconds = *seconds,
                PeerChange::RemoveAllowedIps(_, prefixes) => {
                    for prefix in prefixes {
                        assert!(config.allowed_ips.remove(prefix), "{prefix} was not there");
                    }
                }
                _ => unreachable!("matched before"),
            }
        }
    }
}

fn everyones_prefixes(peers: &Peers) -> BTreeSet<Prefix> {
    peers
        .values()
        .flat_map(|config| config.allowed_ips.iter().copied())
        .collect()
}

/// Peers 1 to 6, prefixes 0 to 14 each at one of them or at none.
fn peers() -> impl Strategy<Value = Peers> {
    let config = (
        any::<bool>(),
        prop::option::of(0u16..3),
        prop::option::of(1u8..3),
        prop::option::of(1u16..3),
    );
    let owners = prop::collection::vec(0u8..7, 15);
    (prop::collection::vec(config, 6), owners).prop_map(|(configs, owners)| {
        let mut peers = Peers::new();
        for (number, (present, endpoint, preshared, keepalive)) in (1..).zip(configs) {
            if !present {
                continue;
            }
            let mut config = PeerConfig {
                endpoint: endpoint.map(|port| ([192, 0, 2, number], 1000 + port).into()),
                preshared_key: preshared.and_then(|byte| PresharedKey::new([byte; 32])),
                keepalive_seconds: keepalive.and_then(NonZeroU16::new),
                ..PeerConfig::default()
            };
            let owned = (0..).zip(&owners).filter(|(_, owner)| **owner == number);
            config.allowed_ips = owned.map(|(number, _)| prefix(number)).collect();
            peers.insert(key(number), config);
        }
        peers
    })
}

/// `desired` as it looks on the device: an endpoint nobody asked for stays.
fn expected(desired: &Peers, actual: &Peers) -> Peers {
    let mut expected = desired.clone();
    for (peer, config) in &mut expected {
        let known = actual.get(peer).and_then(|actual| actual.endpoint);
        config.endpoint = config.endpoint.or(known);
    }
    expected
}

proptest! {
    #[test]
    fn the_changes_lead_to_what_is_desired(desired in peers(), actual in peers()) {
        let mut device = actual.clone();
        let kept = &everyones_prefixes(&desired) & &everyones_prefixes(&actual);
        for change in plan(&desired, &actual) {
            apply(&mut device, &change);
            prop_assert!(kept.is_subset(&everyones_prefixes(&device)), "lost a prefix: {change:?}");
        }
        prop_assert_eq!(&device, &expected(&desired, &actual));
        prop_assert_eq!(plan(&desired, &device), vec![]);
    }

    #[test]
    fn what_is_known_of_a_device_follows_it(desired in peers(), actual in peers()) {
        let (mut device, mut known) = (actual.clone(), actual.clone());
        let changes = plan(&desired, &actual);
        for change in &changes {
            apply(&mut device, change);
        }
        follow(&mut known, &changes);
        prop_assert_eq!(known, device);
    }

    #[test]
    fn nothing_is_done_about_a_peer_that_is_as_desired(desired in peers(), actual in peers()) {
        for change in plan(&desired, &actual) {
            prop_assert_ne!(desired.get(&change.peer()), actual.get(&change.peer()));
        }
    }
}

#[test]
fn a_prefix_that_moves_is_given_and_not_taken() {
    let with = |prefixes: &[u8]| PeerConfig {
        allowed_ips: prefixes.iter().map(|number| prefix(*number)).collect(),
        ..PeerConfig::default()
    };
    let actual = Peers::from([(key(1), with(&[1, 2])), (key(2), with(&[3]))]);
    let desired = Peers::from([(key(1), with(&[1])), (key(3), with(&[2]))]);
    assert_eq!(
        plan(&desired, &actual),
        [
            PeerChange::Add(key(3), with(&[2])),
            PeerChange::Remove(key(2)),
        ]
    );
}

#[test]
fn an_endpoint_that_nobody_asked_for_stays() {
    let roamed = PeerConfig {
        endpoint: Some(([192, 0, 2, 1], 1000).into()),
        ..PeerConfig::default()
    };
    let actual = Peers::from([(key(1), roamed)]);
    let desired = Peers::from([(key(1), PeerConfig::default())]);
    assert_eq!(plan(&desired, &actual), []);
}
