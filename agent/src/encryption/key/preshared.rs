//! A secret more per pair of nodes, mixed into their handshakes: whoever breaks the key exchange
//! one day (a quantum computer) still lacks it. Derived, so that nothing has to be sent.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{KEY_BYTES, PublicKey};

/// Names the use of the derived bytes; another use of the same secret gets other bytes.
const SALT: &[u8] = b"weir wireguard preshared key v1";

/// A secret shorter than 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster's secret has {bytes} bytes and needs {}: make one with `openssl rand -base64 32`",
    ClusterSecret::MIN_BYTES
)]
pub struct WeakSecret {
    /// Bytes it has.
    pub bytes: usize,
}

/// A secret that all nodes of a cluster know, wiped from memory when dropped.
#[derive(Clone)]
pub struct ClusterSecret(Zeroizing<Vec<u8>>);

impl ClusterSecret {
    /// Fewest bytes: with fewer, the pre-shared keys are weaker than the keys they back up.
    pub const MIN_BYTES: usize = 32;

    /// Takes a secret, without the white space that editors put around it.
    ///
    /// # Errors
    /// Fewer than [`Self::MIN_BYTES`].
    pub fn new(secret: &[u8]) -> Result<Self, WeakSecret> {
        let secret = secret.trim_ascii();
        if secret.len() < Self::MIN_BYTES {
            return Err(WeakSecret {
                bytes: secret.len(),
            });
        }
        Ok(Self(Zeroizing::new(secret.to_vec())))
    }

    /// The secret of two nodes; both derive the same.
    pub fn preshared_key(&self, one: PublicKey, other: PublicKey) -> PresharedKey {
        let mut pair = [one, other];
        pair.sort_unstable();
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        Hkdf::<Sha256>::new(Some(SALT), &self.0)
            .expand_multi_info(&[pair[0].as_bytes(), pair[1].as_bytes()], key.as_mut())
            .expect("one block of SHA-256 is 32 bytes");
        PresharedKey(key)
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(…)")
    }
}

/// A secret of two nodes, wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PresharedKey(Zeroizing<[u8; KEY_BYTES]>);

impl PresharedKey {
    /// The key of these bytes; all zeros mean none.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Option<Self> {
        let bytes = Zeroizing::new(bytes);
        (*bytes != [0; KEY_BYTES]).then_some(Self(bytes))
    }

    /// The secret itself, for the device. Whoever copies it wipes the copy.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PublicKey {
        PublicKey::new([byte; KEY_BYTES]).expect("not zero")
    }

    #[test]
    fn both_ends_derive_the_same_and_no_other_pair_does() {
        let secret = ClusterSecret::new(&[7; 32]).expect("long enough");
        let other = ClusterSecret::new(&[8; 32]).expect("long enough");
        let ours = secret.preshared_key(key(1), key(2));
        assert_eq!(ours, secret.preshared_key(key(2), key(1)));
        assert_ne!(ours, secret.preshared_key(key(1), key(3)));
        assert_ne!(ours, other.preshared_key(key(1), key(2)));
        assert_eq!(
            format!("{ours:?} {secret:?}"),
            "PresharedKey(…) ClusterSecret(…)"
        );
    }

    /// Computed apart from this code: nodes with different releases must agree.
    #[test]
    fn the_derivation_never_changes() {
        let secret = ClusterSecret::new(&[7; 32]).expect("long enough");
        let derived = secret.preshared_key(key(2), key(1));
        let (high, low) = derived.expose().split_at(16);
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |all, byte| all << 8 | u128::from(*byte))
        };
        assert_eq!(number(high), 0x265d_7f4c_dc70_4055_d6e3_723b_b5e1_7cd8);
        assert_eq!(number(low), 0x5b58_167b_1467_3910_f274_b074_a187_e23a);
    }

    #[test]
    fn short_secrets_are_refused_and_white_space_is_not_part_of_one() {
        assert_eq!(
            ClusterSecret::new(b" short\n").map(|_| ()),
            Err(WeakSecret { bytes: 5 })
        );
        let plain = ClusterSecret::new(&[b'x'; 32]).expect("long enough");
        let with_newline = ClusterSecret::new(&[&[b'x'; 32][..], b"\n"].concat()).expect("same");
        assert_eq!(
            plain.preshared_key(key(1), key(2)),
            with_newline.preshared_key(key(1), key(2))
        );
    }
}
