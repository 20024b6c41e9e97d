//! Is this packet for a service?

use ebpf_abi::frontend::frontend_bit;
use ebpf_abi::packet::Packet;
use ebpf_abi::{DatapathConfig, FrontendKey, FrontendValue, Tuple};

use crate::balance::Place;
use crate::family::Ip;
use crate::maps::FRONTEND_BITS;

/// False if neither a frontend nor a connection through one can be what the packet is for: most
/// packets, told from others without a look-up in a hash table.
///
/// Answers to connections of the node's own address come to a port of its range.
#[inline(always)]
pub fn may_concern<A: Ip>(packet: &Packet<A>, config: &DatapathConfig) -> bool {
    let Tuple {
        destination,
        destination_port,
        ..
    } = packet.tuple;
    let (word, bit) = frontend_bit(destination, destination_port);
    let port = destination_port.get();
    FRONTEND_BITS.get(word).is_some_and(|bits| bits & bit != 0)
        || (config.snat_port_first..=config.snat_port_last).contains(&port)
}

/// The frontend a packet dials, if it may be dialled from here.
#[inline(always)]
pub fn find<A: Ip>(packet: &Packet<A>, place: Place) -> Option<FrontendValue> {
    let tuple = &packet.tuple;
    let key = FrontendKey::new(tuple.destination, tuple.destination_port, tuple.protocol);
    let frontend = A::frontend(&key)?;
    let internal = frontend.flags & FrontendValue::INTERNAL != 0;
    (place == Place::Pod || !internal).then_some(frontend)
}
