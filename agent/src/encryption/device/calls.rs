//! Has peers shake hands before there is traffic for them: after a change of keys, they learn the new
//! one by it.

use std::num::NonZeroU16;
use std::time::Duration;

use super::{Backend, apply};
use crate::encryption::key::PublicKey;
use crate::encryption::peers::{PeerChange, PeerConfig};
use crate::encryption::values::InterfaceName;

/// How long a node waits for the call of one that may be changing its key too. Longer than a way
/// between nodes takes, and short enough for a connection that waits as well.
const OTHERS_CALL_WITHIN: Duration = Duration::from_millis(400);

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
pub(super) async fn call_later(
    name: InterfaceName,
    backend: Backend,
    peers: Vec<(PublicKey, PeerConfig)>,
) {
    tokio::time::sleep(OTHERS_CALL_WITHIN).await;
    let called = async {
        let traffic = apply::read(&name, backend).await?.traffic;
        let silent = peers.iter().filter(|(peer, _)| {
            traffic
                .get(peer)
                .is_some_and(|traffic| traffic.last_handshake.is_none())
        });
        let silent: Vec<_> = silent.map(|(peer, config)| (peer, config)).collect();
        apply::apply(&name, backend, &calls(&silent)).await
    };
    if let Err(error) = called.await {
        // The device may be gone by now. Traffic makes a handshake as well, only later.
        tracing::warn!(%error, device = %name, "peers were not called");
    }
}
