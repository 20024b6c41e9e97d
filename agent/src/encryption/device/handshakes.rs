//! Has peers shake hands before there is traffic for them: after a change of keys, they learn the new
//! one by it.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::{Duration, SystemTime};

use super::DeviceState;
use super::apply::{self, Target};
use crate::encryption::key::PublicKey;
use crate::encryption::peers::{PeerChange, PeerConfig, PeerTraffic};

/// How long a node waits for the call of one that may be changing its key too. Longer than a way
/// between nodes takes, and short enough for a connection that waits as well.
const OTHERS_CALL_WITHIN: Duration = Duration::from_millis(400);

/// A peer that may call by itself.
#[derive(Debug)]
pub(super) struct Awaited {
    peer: PublicKey,
    config: PeerConfig,
    /// The last handshake before it was waited for. It may have been made with the key of before,
    /// and the device keeps its time when the key changes.
    last_handshake: Option<SystemTime>,
}

impl Awaited {
    /// Of a device that has its new key already.
    pub fn from_now_on(peer: PublicKey, config: PeerConfig, device: &DeviceState) -> Self {
        let traffic = device.traffic.get(&peer);
        Self {
            peer,
            config,
            last_handshake: traffic.and_then(|traffic| traffic.last_handshake),
        }
    }
}

/// Has the device send each of these peers a packet, and so shake hands first.
pub(super) fn calls(peers: &[(&PublicKey, &PeerConfig)]) -> Vec<PeerChange> {
    let call = |(peer, config): &(&PublicKey, &PeerConfig)| {
        let usual = config.keepalive_seconds;
        // From never to some time: what the kernel's device answers with a packet at once.
        [None, usual.or(Some(NonZeroU16::MIN)), usual]
            .map(|seconds| PeerChange::SetKeepalive(**peer, seconds))
    };
    peers.iter().flat_map(call).collect()
}

/// Calls those of these peers that have not called in the meantime.
pub(super) async fn call_later(target: Target, awaited: Vec<Awaited>) {
    tokio::time::sleep(OTHERS_CALL_WITHIN).await;
    let called = async {
        let state = apply::read(&target.name, target.backend).await?;
        let silent = silent(&awaited, &state.traffic);
        apply::apply(&target, &calls(&silent)).await
    };
    if let Err(error) = called.await {
        // The device may be gone by now. Traffic makes a handshake as well, only later.
        tracing::warn!(%error, device = %target.name, "peers were not called");
    }
}

/// Those that have made no handshake since they are waited for. Not those that the device has
/// forgotten: a call would bring them back.
fn silent<'a>(
    awaited: &'a [Awaited],
    traffic: &BTreeMap<PublicKey, PeerTraffic>,
) -> Vec<(&'a PublicKey, &'a PeerConfig)> {
    let is_silent = |it: &&Awaited| {
        let now = traffic.get(&it.peer);
        now.is_some_and(|now| now.last_handshake == it.last_handshake)
    };
    let silent = awaited.iter().filter(is_silent);
    silent.map(|it| (&it.peer, &it.config)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::key::PrivateKey;

    #[test]
    fn who_called_before_the_key_changed_only_is_silent() {
        let [never, before, first, again, gone] = [(); 5].map(|()| PrivateKey::generate().public());
        let time = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let traffic = |handshakes: &[(PublicKey, Option<SystemTime>)]| {
            let traffic = handshakes.iter().map(|(peer, last_handshake)| {
                let traffic = PeerTraffic {
                    last_handshake: *last_handshake,
                    ..PeerTraffic::default()
                };
                (*peer, traffic)
            });
            traffic.collect::<BTreeMap<_, _>>()
        };
        let device = DeviceState {
            traffic: traffic(&[
                (never, None),
                (before, time(1)),
                (first, None),
                (again, time(1)),
                (gone, time(1)),
            ]),
            ..DeviceState::default()
        };
        let awaited = [never, before, first, again, gone]
            .map(|peer| Awaited::from_now_on(peer, PeerConfig::default(), &device));
        let now = traffic(&[
            (never, None),
            (before, time(1)),
            (first, time(2)),
            (again, time(2)),
        ]);
        let silent = silent(&awaited, &now);
        let silent: Vec<_> = silent.into_iter().map(|(peer, _)| *peer).collect();
        assert_eq!(silent, [never, before]);
    }
}
