//! From the network to the TUN device.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{HandshakeInit, Packet, Tunn, TunnResult};

use super::peer::{Peer, PeerIndex};
use super::socket::Sockets;
use super::table::Table;
use super::{MAX_PACKET, Tunnel};
use crate::encryption::key::PublicKey;

/// Delivers what one socket receives, until it is closed.
pub(super) fn run(tunnel: &Arc<Tunnel>, sockets: &Arc<Sockets>, at: usize) {
    let mut datagram = vec![0; MAX_PACKET];
    let mut answer = vec![0; MAX_PACKET];
    while let Some((length, from)) = sockets.receive(at, &mut datagram) {
        let reader = Reader {
            tunnel,
            sockets,
            at,
            from,
        };
        reader.receive(&datagram[..length], &mut answer);
    }
}

/// One datagram's way.
struct Reader<'a> {
    tunnel: &'a Tunnel,
    sockets: &'a Sockets,
    at: usize,
    from: SocketAddr,
}

impl Reader<'_> {
    fn receive(&self, datagram: &[u8], buffer: &mut [u8]) {
        let table = self.tunnel.table();
        let Some(peer) = self.sender(&table, datagram, buffer) else {
            return;
        };
        let mut protocol = peer.protocol();
        let tunn = protocol.tunn();
        let result = tunn.decapsulate(Some(self.from.ip()), datagram, buffer);
        match result {
            TunnResult::WriteToTunnelV4(packet, source) => {
                self.deliver(&table, peer, packet, source.into());
            }
            TunnResult::WriteToTunnelV6(packet, source) => {
                self.deliver(&table, peer, packet, source.into());
            }
            // A cookie goes to whoever asked; it proves nothing yet.
            TunnResult::WriteToNetwork(packet) if packet.first() == Some(&COOKIE_REPLY) => {
                self.sockets.send(self.at, packet, self.from);
                return;
            }
            TunnResult::WriteToNetwork(packet) => {
                // The answer goes to where the question came from.
                self.sockets.send(self.at, packet, self.from);
                // Before what waited, which goes there, too.
                peer.set_endpoint(self.from);
                // The session is new: what waited for it goes now.
                loop {
                    let waiting = protocol.sending().decapsulate(None, &[], buffer);
                    if !peer.send(self.at, self.sockets, waiting) {
                        break;
                    }
                }
            }
            TunnResult::Done => {}
            TunnResult::Err(_) => return,
        }
        // Proven to be the peer's, so it is there now. Not so a cookie: whoever saw one can send it
        // again from elsewhere.
        if datagram.first() != Some(&COOKIE_REPLY) {
            peer.set_endpoint(self.from);
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

    /// Hands the kernel a packet whose source may come from this peer.
    fn deliver(&self, table: &Table, peer: &Arc<Peer>, packet: &[u8], source: IpAddr) {
        if table
            .peer_of(source)
            .is_some_and(|owner| Arc::ptr_eq(owner, peer))
        {
            let queues = &self.tunnel.queues;
            queues[self.at % queues.len()].write(packet);
        }
    }
}

/// First byte of a cookie reply.
const COOKIE_REPLY: u8 = 3;
