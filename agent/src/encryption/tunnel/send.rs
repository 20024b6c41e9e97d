//! From the TUN device to the network.

use std::sync::Arc;

use boringtun::noise::Tunn;

use super::{MAX_PACKET, Tunnel};

/// Bytes that encryption adds, at least; and those of the longest handshake message.
const OVERHEAD: usize = 148;

/// Sends what the kernel gives to one queue, until the queue fails: the device is gone.
pub(super) fn run(tunnel: &Arc<Tunnel>, queue: usize) -> std::io::Error {
    let mut packet = vec![0; MAX_PACKET];
    let mut encrypted = vec![0; MAX_PACKET + OVERHEAD];
    loop {
        match tunnel.queues[queue].read(&mut packet) {
            Ok(length) => send(tunnel, queue, &packet[..length], &mut encrypted),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return error,
        }
    }
}

fn send(tunnel: &Tunnel, queue: usize, packet: &[u8], encrypted: &mut [u8]) {
    let Some(destination) = Tunn::dst_address(packet) else {
        return;
    };
    let table = tunnel.table();
    let (Some(peer), Some(sockets)) = (table.peer_of(destination), table.sockets()) else {
        return;
    };
    // Without an endpoint nothing can leave; the peer has to call first.
    if peer.endpoint().is_none() {
        return;
    }
    let mut protocol = peer.protocol();
    let result = protocol.sending().encapsulate(packet, encrypted);
    peer.send(queue, sockets, result);
}
