//! From the TUN device to the network.

use std::io;
use std::sync::Arc;

use boringtun::noise::Tunn;

use super::offload::Work;
use super::offload::split::Packets;
use super::outbox::Outbox;
use super::{MAX_PACKET, Tunnel};

/// Sends what the kernel gives to one queue, until the queue fails: the device is gone.
pub(super) fn run(tunnel: &Arc<Tunnel>, queue: usize) -> io::Error {
    let mut packet = vec![0; MAX_PACKET];
    let mut outbox = Outbox::new(queue);
    let queue = &tunnel.queues[queue];
    loop {
        let read = match queue.read(&mut packet) {
            // Nothing follows at once, so nothing is waited for.
            Ok(None) => {
                outbox.flush();
                queue.wait()
            }
            Ok(Some((work, length))) => {
                send(tunnel, work, &mut packet[..length], &mut outbox);
                if outbox.is_full() {
                    outbox.flush();
                }
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            return error;
        }
    }
}

/// All packets that one from the kernel stands for have the same destination.
fn send(tunnel: &Tunnel, work: Work, packet: &mut [u8], outbox: &mut Outbox) {
    let Some(destination) = Tunn::dst_address(packet) else {
        return;
    };
    let table = tunnel.table();
    let (Some(peer), Some(sockets)) = (table.peer_of(destination), table.sockets()) else {
        return;
    };
    // Without an endpoint nothing can leave; the peer has to call first.
    let (Some(endpoint), Some(mut packets)) = (peer.endpoint(), Packets::new(work, packet)) else {
        return;
    };
    outbox.leave_by(sockets);
    let mut protocol = peer.protocol();
    let tunn = protocol.sending();
    while let Some(packet) = packets.next_packet() {
        outbox.encrypt(tunn, packet, endpoint);
    }
}
