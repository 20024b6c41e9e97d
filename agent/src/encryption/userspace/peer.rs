//! One peer: its state of the protocol and where its packets go.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey as ExchangeKey, StaticSecret};

use super::socket::Sockets;
use crate::encryption::key::{PresharedKey, PublicKey};

/// Number of a peer in packets to this device, in the 24 bits that the protocol leaves for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PeerIndex(u32);

impl PeerIndex {
    pub const BITS: u32 = 24;

    /// Of the lower bits of any number.
    pub fn from_low_bits(number: u32) -> Self {
        Self(number & ((1 << Self::BITS) - 1))
    }

    /// Of the receiver's number in a packet; its lowest byte numbers the session.
    pub fn from_receiver(receiver: u32) -> Self {
        Self(receiver >> 8)
    }
}

/// What the device is to itself: its key, and its guard against floods of handshakes.
#[derive(Clone)]
pub(super) struct Identity {
    pub private: StaticSecret,
    pub public: ExchangeKey,
    pub limiter: Arc<RateLimiter>,
}

/// A peer of the device.
pub(super) struct Peer {
    pub key: PublicKey,
    pub index: PeerIndex,
    endpoint: RwLock<Option<SocketAddr>>,
    protocol: Mutex<Protocol>,
}

/// What only one thread at a time may touch.
pub(super) struct Protocol {
    tunn: Tunn,
    preshared_key: Option<PresharedKey>,
    keepalive: Option<NonZeroU16>,
    last_sent: Instant,
    last_handshake: Option<SystemTime>,
    /// Counted by earlier states of the protocol.
    received_before: u64,
    sent_before: u64,
}

/// What is told about a peer.
pub(super) struct PeerReport {
    pub endpoint: Option<SocketAddr>,
    pub preshared_key: Option<PresharedKey>,
    pub keepalive: Option<NonZeroU16>,
    pub last_handshake: Option<SystemTime>,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

impl Peer {
    pub fn new(key: PublicKey, index: PeerIndex, identity: &Identity) -> Self {
        Self {
            key,
            index,
            endpoint: RwLock::default(),
            protocol: Mutex::new(Protocol {
                tunn: fresh(key, index, identity, None),
                preshared_key: None,
                keepalive: None,
                last_sent: Instant::now(),
                last_handshake: None,
                received_before: 0,
                sent_before: 0,
            }),
        }
    }

    pub fn endpoint(&self) -> Option<SocketAddr> {
        *self.endpoint.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_endpoint(&self, endpoint: SocketAddr) {
        if self.endpoint() != Some(endpoint) {
            let mut known = self
                .endpoint
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            *known = Some(endpoint);
        }
    }

    /// For one packet or one look; whoever waits here is a packet of the same peer.
    pub fn protocol(&self) -> MutexGuard<'_, Protocol> {
        self.protocol.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another key of the device. The sessions belong to the old one, and so does a handshake under
    /// way: its answer could not be read, and it would keep the peer from being called for seconds.
    pub fn set_identity(&self, identity: &Identity) {
        self.begin_anew(&mut self.protocol(), identity);
    }

    /// A new secret of the pair; the session starts anew, for it belongs to the old one.
    pub fn set_preshared_key(&self, key: Option<PresharedKey>, identity: &Identity) {
        let mut protocol = self.protocol();
        if protocol.preshared_key == key {
            return;
        }
        protocol.preshared_key = key;
        self.begin_anew(&mut protocol, identity);
    }

    /// What boringtun keeps of a peer goes, and packets that wait for a session with it; what is
    /// told about the peer stays.
    fn begin_anew(&self, protocol: &mut Protocol, identity: &Identity) {
        protocol.note_handshake();
        let (_, sent, received, ..) = protocol.tunn.stats();
        protocol.sent_before += sent as u64;
        protocol.received_before += received as u64;
        let secret = protocol.preshared_key.as_ref();
        protocol.tunn = fresh(self.key, self.index, identity, secret);
    }

    pub fn report(&self) -> PeerReport {
        let mut protocol = self.protocol();
        protocol.note_handshake();
        let (_, sent, received, ..) = protocol.tunn.stats();
        PeerReport {
            endpoint: self.endpoint(),
            preshared_key: protocol.preshared_key.clone(),
            keepalive: protocol.keepalive,
            last_handshake: protocol.last_handshake,
            received_bytes: protocol.received_before + received as u64,
            sent_bytes: protocol.sent_before + sent as u64,
        }
    }

    /// Sends what the protocol gave out; whether it was a packet at all.
    pub fn send(&self, by: usize, sockets: &Sockets, result: TunnResult<'_>) -> bool {
        let TunnResult::WriteToNetwork(packet) = result else {
            return false;
        };
        if let Some(endpoint) = self.endpoint() {
            sockets.send(by, packet, endpoint);
        }
        true
    }
}

impl Protocol {
    /// The state of boringtun, to hand it a packet from the device.
    pub fn sending(&mut self) -> &mut Tunn {
        self.last_sent = Instant::now();
        &mut self.tunn
    }

    /// The state of boringtun, to hand it a packet from the network or the time.
    pub fn tunn(&mut self) -> &mut Tunn {
        &mut self.tunn
    }

    /// Returns whether silence is broken from now on, and was not before.
    pub fn set_keepalive(&mut self, keepalive: Option<NonZeroU16>) -> bool {
        let before = std::mem::replace(&mut self.keepalive, keepalive);
        before.is_none() && keepalive.is_some()
    }

    /// Whether silence has lasted too long.
    pub fn wants_keepalive(&self) -> bool {
        self.keepalive.is_some_and(|seconds| {
            self.last_sent.elapsed() >= Duration::from_secs(seconds.get().into())
        })
    }

    /// Keeps the time of the last handshake, which boringtun forgets with the session.
    pub fn note_handshake(&mut self) {
        /// Differences below come from reading two clocks.
        const SAME: Duration = Duration::from_millis(500);
        let Some(age) = self.tunn.stats().0 else {
            return;
        };
        let Some(time) = SystemTime::now().checked_sub(age) else {
            return;
        };
        let known = self.last_handshake.map(|known| known + SAME);
        if known.is_none_or(|known| time > known) {
            self.last_handshake = Some(time);
        }
    }
}

fn fresh(
    key: PublicKey,
    index: PeerIndex,
    identity: &Identity,
    preshared_key: Option<&PresharedKey>,
) -> Tunn {
    Tunn::new(
        identity.private.clone(),
        ExchangeKey::from(*key.as_bytes()),
        preshared_key.map(|key| *key.expose()),
        // Ours, see `wants_keepalive`: boringtun cannot change it later.
        None,
        index.0,
        Some(Arc::clone(&identity.limiter)),
    )
}
