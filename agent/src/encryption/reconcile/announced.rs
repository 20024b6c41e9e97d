//! Keys that other nodes have announced: the moment when one of them comes into use.
//!
//! Connections to a node stand still from the moment it uses its new key until its prefixes are given to
//! that key's peer, so that moment is looked for more often, and with less work, than a step is made.

use std::collections::BTreeSet;
use std::future;
use std::time::{Duration, Instant};

use super::Encryption;
use super::answered::keys_in_use;
use crate::encryption::desired::Desired;
use crate::encryption::desired::nodes::Standing;
use crate::encryption::key::PublicKey;

/// How often the device is asked for handshakes.
const INTERVAL: Duration = Duration::from_millis(50);
/// Asking takes one part in so many of a processor at most.
const SHARE: u32 = 20;

/// Announced keys with which no handshake was made so far.
pub(super) fn awaited_keys(desired: &Desired, in_use: &BTreeSet<PublicKey>) -> BTreeSet<PublicKey> {
    let announced = desired.members.iter().filter_map(|member| {
        let Standing::Peer { next_key, .. } = member.standing else {
            return None;
        };
        next_key
    });
    announced.filter(|key| !in_use.contains(key)).collect()
}

impl<A> Encryption<A> {
    /// Returns when a handshake was made with one of these keys; never if there are none. The next step
    /// goes by what the device said then.
    pub(super) async fn key_comes_into_use(&self, awaited: &BTreeSet<PublicKey>) {
        if awaited.is_empty() {
            return future::pending().await;
        }
        let mut pause = INTERVAL;
        loop {
            tokio::time::sleep(pause).await;
            let Some(device) = &self.device else {
                continue;
            };
            let begun = Instant::now();
            device.forget();
            // An error is the next step's to report.
            let state = device.state().await.unwrap_or_default();
            if !keys_in_use(&state).is_disjoint(awaited) {
                return;
            }
            pause = INTERVAL.max(begun.elapsed() * (SHARE - 1));
        }
    }
}
