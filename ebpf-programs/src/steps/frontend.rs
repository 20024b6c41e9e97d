//! Is this packet for a service?

use ebpf_abi::frontend::frontend_bit;
use ebpf_abi::packet::Packet;
use ebpf_abi::{
    Be16, DatapathConfig, FrontendKey, FrontendValue, IpcacheValue, Protocol, ServiceId, Tuple,
};

use crate::balance::Place;
use crate::family::Ip;
use crate::maps::FRONTEND_BITS;

/// False if neither a frontend nor a connection through one can be what the packet is for: most
/// packets, told from others without a look-up in a hash table.
///
/// Answers to connections of the node's own address come to a port of its range.
#[inline(always)]
pub fn may_concern<A: Ip>(packet: &Packet<A>, place: Place, config: &DatapathConfig) -> bool {
    let Tuple {
        destination,
        destination_port,
        ..
    } = packet.tuple;
    let port = destination_port.get();
    may_be_frontend(destination, destination_port)
        || (config.snat_port_first..=config.snat_port_last).contains(&port)
        || place == Place::Pod && may_be_frontend(A::node(config), destination_port)
}

#[inline(always)]
fn may_be_frontend<A: Ip>(address: A, port: Be16) -> bool {
    let (word, bit) = frontend_bit(address, port);
    FRONTEND_BITS.get(word).is_some_and(|bits| bits & bit != 0)
}

/// The frontend a packet dials, if it may be dialled from here.
#[inline(always)]
pub fn find<A: Ip>(
    packet: &Packet<A>,
    place: Place,
    config: &DatapathConfig,
) -> Option<FrontendValue> {
    let tuple = &packet.tuple;
    let key = FrontendKey::new(tuple.destination, tuple.destination_port, tuple.protocol);
    if place == Place::Pod {
        return from_inside(&key, config);
    }
    A::frontend(&key).filter(|frontend| frontend.flags & FrontendValue::INTERNAL == 0)
}

/// The frontend that a pod or a process of this node dials.
#[inline(always)]
pub fn from_inside<A: Ip>(key: &FrontendKey<A>, config: &DatapathConfig) -> Option<FrontendValue> {
    A::frontend(key).or_else(|| {
        let service = of_another_node(&key.address, key.port, key.protocol, config);
        let flags = FrontendValue::NODE_PORT;
        (service != NONE).then_some(FrontendValue { service, flags })
    })
}

/// No service has this number.
const NONE: ServiceId = ServiceId(0);

/// The service whose NodePort is dialled at another node: that may be reached by the WireGuard device
/// alone, or not at all, while its backends have a way of their own. Known while encryption is on.
///
/// Not inlined: its keys take stack that the chain of calls has not.
#[inline(never)]
fn of_another_node<A: Ip>(
    address: &A,
    port: Be16,
    protocol: Protocol,
    config: &DatapathConfig,
) -> ServiceId {
    if config.flags & DatapathConfig::ENCRYPT == 0 {
        return NONE;
    }
    let Some(here) = A::frontend(&FrontendKey::new(A::node(config), port, protocol)) else {
        return NONE;
    };
    let is_node = || A::ipcache(address).is_some_and(|known| known.has(IpcacheValue::NODE));
    if here.flags & FrontendValue::NODE_PORT != 0 && is_node() {
        here.service
    } else {
        NONE
    }
}
