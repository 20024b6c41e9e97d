//! From the network to the TUN device.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, MutexGuard};

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{HandshakeInit, Packet, Tunn, TunnResult};

use super::offload::join::Inbox;
use super::peer::{Peer, PeerIndex, Protocol};
use super::socket::Sockets;
use super::table::Table;
use super::{MAX_PACKET, Tunnel};
use crate::encryption::key::PublicKey;

/// Delivers what one socket receives, until it is closed.
pub(super) fn run(tunnel: &Arc<Tunnel>, sockets: &Arc<Sockets>, at: usize) {
    let mut datagrams = vec![0; MAX_PACKET];
    let mut inbox = Inbox::new(MAX_PACKET);
    while let Some(train) = sockets.receive(at, &mut datagrams) {
        let reader = Reader {
            tunnel,
            sockets,
            at,
            from: train.from,
        };
        reader.receive(&datagrams[..train.length], train.segment, &mut inbox);
        // No lock is held here: the kernel takes the packet all the way to its receiver.
        let queue = &tunnel.queues[at % tunnel.queues.len()];
        inbox.drain(|work, packet| queue.write(work, packet));
    }
}

/// The way of datagrams that came as one.
struct Reader<'a> {
    tunnel: &'a Tunnel,
    sockets: &'a Sockets,
    at: usize,
    from: SocketAddr,
}

/// The peer whose turn it is: looked up and locked once for all datagrams of a train.
struct Turn<'t> {
    peer: &'t Arc<Peer>,
    protocol: MutexGuard<'t, Protocol>,
    /// It was found that it is where this train comes from.
    is_followed: bool,
    /// The last address that was found to be among the peer's.
    source: Option<IpAddr>,
}

impl Turn<'_> {
    fn follow(&mut self, from: SocketAddr) {
        if !self.is_followed {
            self.peer.set_endpoint(from);
            self.is_followed = true;
        }
    }
}

impl Reader<'_> {
    fn receive(&self, datagrams: &[u8], segment: usize, inbox: &mut Inbox) {
        let table = self.tunnel.table();
        let mut turn: Option<Turn<'_>> = None;
        for datagram in datagrams.chunks(segment.max(1)) {
            let Some(peer) = self.sender(&table, datagram, inbox.room()) else {
                continue;
            };
            if !turn
                .as_ref()
                .is_some_and(|turn| Arc::ptr_eq(turn.peer, peer))
            {
                // Of two peers that wait for each other, neither would ever go on.
                drop(turn.take());
                turn = Some(Turn {
                    peer,
                    protocol: peer.protocol(),
                    is_followed: false,
                    source: None,
                });
            }
            if let Some(turn) = &mut turn {
                self.take(&table, turn, datagram, inbox);
            }
        }
    }

    fn take(&self, table: &Table, turn: &mut Turn<'_>, datagram: &[u8], inbox: &mut Inbox) {
        let tunn = turn.protocol.tunn();
        let (length, source) = match tunn.decapsulate(Some(self.from.ip()), datagram, inbox.room())
        {
            TunnResult::WriteToTunnelV4(packet, source) => (packet.len(), source.into()),
            TunnResult::WriteToTunnelV6(packet, source) => (packet.len(), source.into()),
            // A cookie goes to whoever asked; it proves nothing yet.
            TunnResult::WriteToNetwork(packet) if packet.first() == Some(&COOKIE_REPLY) => {
                return self.sockets.send(self.at, packet, self.from);
            }
            TunnResult::WriteToNetwork(packet) => {
                // The answer goes to where the question came from.
                self.sockets.send(self.at, packet, self.from);
                // Before what waited, which goes there, too.
                turn.follow(self.from);
                return self.send_what_waited(turn, inbox.room());
            }
            TunnResult::Done => {
                // Proven to be the peer's, so it is there now. Not so a cookie: whoever saw one
                // can send it again from elsewhere.
                if datagram.first() != Some(&COOKIE_REPLY) {
                    turn.follow(self.from);
                }
                return;
            }
            TunnResult::Err(_) => return,
        };
        turn.follow(self.from);
        if turn.source != Some(source) {
            let owner = table.peer_of(source);
            if !owner.is_some_and(|owner| Arc::ptr_eq(owner, turn.peer)) {
                // Not one the peer may send from.
                return;
            }
            turn.source = Some(source);
        }
        inbox.push(length);
    }

    /// The session is new: what waited for it goes now.
    fn send_what_waited(&self, turn: &mut Turn<'_>, buffer: &mut [u8]) {
        loop {
            let waiting = turn.protocol.sending().decapsulate(None, &[], buffer);
            if !turn.peer.send(self.at, self.sockets, waiting) {
                return;
            }
        }
    }

    /// The peer it comes from, as it claims: the protocol proves it.
    fn sender<'t>(
        &self,
        table: &'t Table,
        datagram: &[u8],
        buffer: &mut [u8],
    ) -> Option<&'t Arc<Peer>> {
        let receiver = match Tunn::parse_incoming_packet(datagram).ok()? {
            Packet::HandshakeInit(handshake) => {
                return self.caller(table, datagram, &handshake, buffer);
            }
            Packet::HandshakeResponse(packet) => packet.receiver_idx,
            Packet::PacketCookieReply(packet) => packet.receiver_idx,
            Packet::PacketData(packet) => packet.receiver_idx,
        };
        table.peer_by_index(PeerIndex::from_receiver(receiver))
    }

    /// The peer that begins a handshake. To find it costs a multiplication on the curve, so the
    /// guard against floods comes first.
    fn caller<'t>(
        &self,
        table: &'t Table,
        datagram: &[u8],
        handshake: &HandshakeInit<'_>,
        buffer: &mut [u8],
    ) -> Option<&'t Arc<Peer>> {
        let identity = table.identity()?;
        let limiter = &identity.limiter;
        match limiter.verify_packet(Some(self.from.ip()), datagram, buffer) {
            Ok(_) => {}
            Err(TunnResult::WriteToNetwork(cookie)) => {
                self.sockets.send(self.at, cookie, self.from);
                return None;
            }
            Err(_) => return None,
        }
        let caller = parse_handshake_anon(&identity.private, &identity.public, handshake).ok()?;
        table.peer(PublicKey::new(caller.peer_static_public).ok()?)
    }
}

/// First byte of a cookie reply.
const COOKIE_REPLY: u8 = 3;
