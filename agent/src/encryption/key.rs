//! WireGuard keys: a node's private key, the public one others know it by, and secrets of pairs.
//!
//! A [`PrivateKey`] leaves this process in two ways only: into the node's own device and into the
//! file of the [`KeyStore`]. It cannot be printed, and its memory is wiped when it goes.

mod preshared;
mod store;

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, Zeroizing};

pub use preshared::{ClusterSecret, PresharedKey, WeakSecret};
pub use store::{KeyStore, KeyStoreError, StoredKey};

/// Bytes of every key.
pub const KEY_BYTES: usize = 32;

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not base64 of 32 bytes.
    #[error("a key is 32 bytes in base64: 44 characters, the last one `=`")]
    Encoding,
    /// Every bit is zero: the sign for "no key".
    #[error("the key is all zeros, which no key is")]
    Zero,
}

/// The private key of a node, wiped from memory when dropped.
#[derive(Clone)]
pub struct PrivateKey(Zeroizing<[u8; KEY_BYTES]>);

impl PrivateKey {
    /// A new one, from the randomness of the operating system.
    pub fn generate() -> Self {
        Self(Zeroizing::new(StaticSecret::random().to_bytes()))
    }

    /// The key others know this node by.
    pub fn public(&self) -> PublicKey {
        let secret = StaticSecret::from(*self.0);
        PublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }

    /// The secret itself, for the device. Whoever copies it wipes the copy.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(*self.0))
    }

    fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        decode(text).map(Self)
    }
}

impl From<[u8; KEY_BYTES]> for PrivateKey {
    fn from(mut bytes: [u8; KEY_BYTES]) -> Self {
        let key = Self(Zeroizing::new(bytes));
        bytes.zeroize();
        key
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// The public key of a node, in base64 as every WireGuard tool shows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// The key of these bytes.
    ///
    /// # Errors
    /// All zeros.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Result<Self, InvalidKey> {
        if bytes == [0; KEY_BYTES] {
            return Err(InvalidKey::Zero);
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Decodes any key. Keys from elsewhere come with white space around them; nothing else is
/// forgiven.
fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, InvalidKey> {
    let decoded = BASE64
        .decode(text.trim())
        .map_err(|_| InvalidKey::Encoding)?;
    let decoded = Zeroizing::new(decoded);
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if decoded.len() != KEY_BYTES {
        return Err(InvalidKey::Encoding);
    }
    bytes.copy_from_slice(&decoded);
    if *bytes == [0; KEY_BYTES] {
        return Err(InvalidKey::Zero);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From RFC 7748, section 6.1.
    const ALICE_PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const ALICE_PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

    #[test]
    fn the_public_key_is_that_of_the_standard() {
        let private = PrivateKey::from_base64(ALICE_PRIVATE).expect("valid");
        assert_eq!(private.public().to_string(), ALICE_PUBLIC);
    }

    #[test]
    fn a_private_key_is_not_printed() {
        let private = PrivateKey::from_base64(ALICE_PRIVATE).expect("valid");
        assert_eq!(
            format!("{private:?} {private:#?}"),
            "PrivateKey(…) PrivateKey(…)"
        );
    }

    #[test]
    fn new_keys_differ() {
        assert_ne!(
            PrivateKey::generate().public(),
            PrivateKey::generate().public()
        );
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let zero = BASE64.encode([0; KEY_BYTES]);
        let short = BASE64.encode([7; 31]);
        let long = BASE64.encode([7; 33]);
        let unpadded = ALICE_PUBLIC.trim_end_matches('=');
        // The last character before the padding carries two bits that must be zero.
        let loose = ALICE_PUBLIC.replace("mo=", "mp=");
        for (text, expected) in [
            ("", InvalidKey::Encoding),
            ("not base64", InvalidKey::Encoding),
            (&short, InvalidKey::Encoding),
            (&long, InvalidKey::Encoding),
            (unpadded, InvalidKey::Encoding),
            (&loose, InvalidKey::Encoding),
            (&zero, InvalidKey::Zero),
        ] {
            assert_eq!(text.parse::<PublicKey>(), Err(expected), "{text:?}");
        }
        let spaced = format!(" {ALICE_PUBLIC}\n");
        assert_eq!(
            spaced.parse(),
            PrivateKey::from_base64(ALICE_PRIVATE).map(|key| key.public())
        );
    }
}
