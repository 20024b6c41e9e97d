//! What happens by itself: handshakes that are due, answers that did not come, keepalives.

use std::sync::Arc;
use std::time::Duration;

use super::Tunnel;
use super::peer::Peer;
use super::table::Table;

/// Time between two looks at the clock; boringtun asks for it.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// Room for a handshake message or an empty packet.
const MESSAGE: usize = 256;

/// One look at the clock for every peer.
pub(super) fn tick(tunnel: &Arc<Tunnel>) {
    let table = tunnel.table();
    let (Some(sockets), Some(identity)) = (table.sockets(), table.identity()) else {
        return;
    };
    identity.limiter.reset_count();
    let mut message = [0; MESSAGE];
    for peer in table.peers().filter(|peer| peer.endpoint().is_some()) {
        let mut protocol = peer.protocol();
        protocol.note_handshake();
        let due = protocol.tunn().update_timers(&mut message);
        peer.send(0, sockets, due);
        if protocol.wants_keepalive() {
            let keepalive = protocol.sending().encapsulate(&[], &mut message);
            peer.send(0, sockets, keepalive);
        }
    }
}

/// Sends an empty packet to a peer now; a handshake first if there is no session.
pub(super) fn break_silence(table: &Table, peer: &Peer) {
    let Some(sockets) = table.sockets().filter(|_| peer.endpoint().is_some()) else {
        return;
    };
    let mut message = [0; MESSAGE];
    let mut protocol = peer.protocol();
    let keepalive = protocol.sending().encapsulate(&[], &mut message);
    peer.send(0, sockets, keepalive);
}
