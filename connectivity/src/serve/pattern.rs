//! Bytes that both sides know, and their checksum.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::probe::Identity;

/// What a server says of bytes that it got.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Received {
    /// Who got them.
    pub server: Identity,
    /// How many.
    pub bytes: usize,
    /// Their checksum, in hexadecimal.
    pub sha256: String,
}

/// The first `count` bytes of a sequence in which no piece repeats, so that pieces that are lost,
/// doubled or swapped change it.
pub fn bytes(count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count.next_multiple_of(8));
    for index in 0..count.div_ceil(8) {
        bytes.extend_from_slice(&mix(index as u64).to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// Spreads a counter over all bits: the finalizer of `SplitMix64`.
fn mix(index: u64) -> u64 {
    let word = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A checksum that grows.
#[derive(Default)]
pub(super) struct Digest(Sha256);

impl Digest {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> String {
        format!("{:x}", self.0.finalize())
    }
}

/// The checksum of some bytes, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    let mut digest = Digest::default();
    digest.add(bytes);
    digest.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_sequences_begin_longer_ones() {
        let long = bytes(10_000);
        assert_eq!(long.len(), 10_000);
        assert_eq!(bytes(777), long[..777]);
    }

    #[test]
    fn pieces_that_are_swapped_are_noticed() {
        let mut swapped = bytes(4096);
        swapped.rotate_left(1448);
        assert_ne!(digest(&swapped), digest(&bytes(4096)));
        // Of the standard's own examples.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(b"abc"), abc);
    }
}
