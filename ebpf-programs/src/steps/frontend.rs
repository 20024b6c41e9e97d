//! Is this packet for a service?

use ebpf_abi::packet::Packet;
use ebpf_abi::{FrontendKey, FrontendValue};

use crate::balance::Place;
use crate::family::Ip;

/// The frontend a packet dials, if it may be dialled from here.
#[inline(always)]
pub fn find<A: Ip>(packet: &Packet<A>, place: Place) -> Option<FrontendValue> {
    let tuple = &packet.tuple;
    let key = FrontendKey::new(tuple.destination, tuple.destination_port, tuple.protocol);
    let frontend = A::frontend(&key)?;
    let internal = frontend.flags & FrontendValue::INTERNAL != 0;
    (place == Place::Pod || !internal).then_some(frontend)
}
