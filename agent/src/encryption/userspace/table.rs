//! What the device is told to be: its key, sockets and peers, and which prefix is at which peer.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519::{PublicKey as ExchangeKey, StaticSecret};
use uuid::Uuid;

use super::peer::{Identity, Peer, PeerIndex};
use super::socket::Sockets;
use crate::encryption::key::{PrivateKey, PublicKey};
use crate::encryption::{FirewallMark, Port, Prefix};

/// Handshake messages per second beyond which senders have to show that they hear the answers.
/// Each message is counted twice: by the device, and by the peer it finds.
const HANDSHAKE_MESSAGES: u64 = 2 * 1000;

/// The device's configuration.
#[derive(Default)]
pub(super) struct Table {
    identity: Option<Identity>,
    private_key: Option<PrivateKey>,
    mark: Option<FirewallMark>,
    sockets: Option<Arc<Sockets>>,
    peers: HashMap<PublicKey, Arc<Peer>>,
    by_index: HashMap<PeerIndex, Arc<Peer>>,
    prefixes: Prefixes,
}

impl Table {
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    pub fn private_key(&self) -> Option<&PrivateKey> {
        self.private_key.as_ref()
    }

    pub fn mark(&self) -> Option<FirewallMark> {
        self.mark
    }

    pub fn sockets(&self) -> Option<&Arc<Sockets>> {
        self.sockets.as_ref()
    }

    pub fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.peers.values()
    }

    pub fn peer(&self, key: PublicKey) -> Option<&Arc<Peer>> {
        self.peers.get(&key)
    }

    pub fn peer_by_index(&self, index: PeerIndex) -> Option<&Arc<Peer>> {
        self.by_index.get(&index)
    }

    /// The peer whose most special prefix holds the address.
    pub fn peer_of(&self, address: IpAddr) -> Option<&Arc<Peer>> {
        self.prefixes.find(address)
    }

    /// The prefixes of each peer.
    pub fn prefixes(&self) -> HashMap<PublicKey, BTreeSet<Prefix>> {
        let mut prefixes = HashMap::<_, BTreeSet<_>>::new();
        for (prefix, peer) in self.prefixes.iter() {
            prefixes.entry(peer.key).or_default().insert(prefix);
        }
        prefixes
    }

    /// Another key: every session ends, and a peer with the same key, which would be ourselves,
    /// goes. Nothing happens if it is the same key.
    pub fn set_private_key(&mut self, key: &PrivateKey) {
        let ours = key.public();
        if self
            .private_key
            .as_ref()
            .is_some_and(|key| key.public() == ours)
        {
            return;
        }
        let public = ExchangeKey::from(*ours.as_bytes());
        let identity = Identity {
            private: StaticSecret::from(*key.expose()),
            public,
            limiter: Arc::new(RateLimiter::new(&public, HANDSHAKE_MESSAGES)),
        };
        self.remove_peer(ours);
        for peer in self.peers.values() {
            peer.set_identity(&identity);
        }
        self.identity = Some(identity);
        self.private_key = Some(key.clone());
    }

    /// Marks packets; `None` stops it.
    pub fn set_mark(&mut self, mark: Option<FirewallMark>) -> io::Result<()> {
        if let Some(sockets) = &self.sockets {
            sockets.set_mark(mark)?;
        }
        self.mark = mark;
        Ok(())
    }

    /// Opens this many sockets at another port and closes those at the old one. `None` if it is the
    /// same port.
    pub fn set_port(&mut self, port: Port, count: usize) -> io::Result<Option<Arc<Sockets>>> {
        if self
            .sockets
            .as_ref()
            .is_some_and(|sockets| sockets.port == port)
        {
            return Ok(None);
        }
        let sockets = Arc::new(Sockets::open(port, self.mark, count)?);
        if let Some(old) = self.sockets.replace(Arc::clone(&sockets)) {
            old.close();
        }
        Ok(Some(sockets))
    }

    /// The peer of this key, made if there is none. `None` if it cannot be: the device has no key
    /// yet, or has this one itself.
    pub fn peer_or_new(&mut self, key: PublicKey) -> Option<Arc<Peer>> {
        if let Some(peer) = self.peers.get(&key) {
            return Some(Arc::clone(peer));
        }
        let identity = self.identity.as_ref()?;
        if identity.public.as_bytes() == key.as_bytes() {
            return None;
        }
        let peer = Arc::new(Peer::new(key, self.free_index(), identity));
        self.by_index.insert(peer.index, Arc::clone(&peer));
        self.peers.insert(key, Arc::clone(&peer));
        Some(peer)
    }

    /// Forgets a peer and its prefixes.
    pub fn remove_peer(&mut self, key: PublicKey) {
        if let Some(peer) = self.peers.remove(&key) {
            self.by_index.remove(&peer.index);
            self.prefixes.remove_all_of(&peer);
        }
    }

    /// Gives the prefix to the peer, taking it from whoever has it.
    pub fn give_prefix(&mut self, prefix: Prefix, peer: &Arc<Peer>) {
        self.prefixes.insert(prefix, Arc::clone(peer));
    }

    /// Takes the prefix from the peer, if that has it.
    pub fn take_prefix(&mut self, prefix: Prefix, peer: &Arc<Peer>) {
        self.prefixes.remove(prefix, peer);
    }

    /// Takes all prefixes from the peer.
    pub fn take_all_prefixes(&mut self, peer: &Arc<Peer>) {
        self.prefixes.remove_all_of(peer);
    }

    /// Random, so that numbers tell nothing about the device.
    fn free_index(&self) -> PeerIndex {
        loop {
            let random = Uuid::new_v4().as_u128() as u32;
            let index = PeerIndex::from_low_bits(random);
            if !self.by_index.contains_key(&index) {
                return index;
            }
        }
    }
}

/// Prefixes of both families, each at one peer.
#[derive(Default)]
struct Prefixes {
    /// By length, the longest first. There are few lengths: those of pod CIDRs and of single
    /// addresses.
    by_length: Vec<(u8, HashMap<IpAddr, Arc<Peer>>)>,
}

impl Prefixes {
    fn find(&self, address: IpAddr) -> Option<&Arc<Peer>> {
        self.by_length.iter().find_map(|(length, peers)| {
            // Lengths beyond the family's are no prefixes of it.
            let prefix = Prefix::new(address, *length).ok()?;
            peers.get(&prefix.address())
        })
    }

    fn insert(&mut self, prefix: Prefix, peer: Arc<Peer>) {
        let length = prefix.length();
        let place = self.by_length.partition_point(|(other, _)| *other > length);
        if self
            .by_length
            .get(place)
            .is_none_or(|(other, _)| *other != length)
        {
            self.by_length.insert(place, (length, HashMap::new()));
        }
        self.by_length[place].1.insert(prefix.address(), peer);
    }

    fn remove(&mut self, prefix: Prefix, peer: &Arc<Peer>) {
        for (length, peers) in &mut self.by_length {
            let owner = peers.get(&prefix.address());
            if *length == prefix.length() && owner.is_some_and(|owner| Arc::ptr_eq(owner, peer)) {
                peers.remove(&prefix.address());
            }
        }
        self.by_length.retain(|(_, peers)| !peers.is_empty());
    }

    fn remove_all_of(&mut self, peer: &Arc<Peer>) {
        for (_, peers) in &mut self.by_length {
            peers.retain(|_, owner| !Arc::ptr_eq(owner, peer));
        }
        self.by_length.retain(|(_, peers)| !peers.is_empty());
    }

    fn iter(&self) -> impl Iterator<Item = (Prefix, &Arc<Peer>)> {
        self.by_length.iter().flat_map(|(length, peers)| {
            peers.iter().map(|(address, peer)| {
                let prefix = Prefix::new(*address, *length).expect("it was one when it came in");
                (prefix, peer)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use boringtun::noise::TunnResult;

    use super::*;

    /// Whether a packet without a session has the peer called.
    fn calls(peer: &Peer) -> bool {
        let mut message = [0; 256];
        let result = peer.protocol().sending().encapsulate(&[], &mut message);
        matches!(result, TunnResult::WriteToNetwork(_))
    }

    #[test]
    fn a_handshake_with_the_key_of_before_holds_up_none_with_the_new_one() {
        let mut table = Table::default();
        table.set_private_key(&PrivateKey::generate());
        let other = PrivateKey::generate().public();
        let peer = table.peer_or_new(other).expect("not our own key");
        let endpoint: SocketAddr = "192.0.2.2:51871".parse().expect("valid");
        peer.set_endpoint(endpoint);
        assert!(calls(&peer));
        assert!(!calls(&peer), "one is under way");
        table.set_private_key(&PrivateKey::generate());
        assert!(calls(&peer));
        assert_eq!(peer.endpoint(), Some(endpoint), "it stays");
    }
}
