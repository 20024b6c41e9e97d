//! Where does a packet leave? The kernel's own routing table answers.

use core::mem::size_of;

use aya_ebpf::helpers::generated::bpf_fib_lookup;
use ebpf_abi::{ConntrackValue, DropReason, NextHop, Tuple};

use crate::family::Ip;
use crate::hook::Hook;

/// Parameters of the helper (`struct bpf_fib_lookup`, include/uapi/linux/bpf.h), its unions
/// resolved to the members used here.
#[repr(C)]
struct FibLookup {
    family: u8,
    protocol: u8,
    ports: [u16; 2],
    total_len: u16,
    ifindex: u32,
    tos: u32,
    source: [u32; 4],
    destination: [u32; 4],
    vlan: [u16; 2],
    source_mac: [u8; 6],
    destination_mac: [u8; 6],
}

const _: () = assert!(size_of::<FibLookup>() == 64);

/// `BPF_FIB_LKUP_RET_SUCCESS`.
const SUCCESS: i64 = 0;
/// `BPF_FIB_LKUP_RET_NO_NEIGH`: there is a route, its next hop has not been resolved.
const NO_NEIGHBOUR: i64 = 7;

/// The answer for one packet.
struct Route {
    /// Interface and neighbour; no interface if the neighbour is unknown.
    next_hop: NextHop,
    /// Interface, whether or not the neighbour is known.
    ifindex: u32,
}

/// Asks for the route of a packet with this tuple.
#[inline(always)]
fn find<A: Ip>(hook: &impl Hook, tuple: &Tuple<A>) -> Result<Route, DropReason> {
    let mut lookup = FibLookup {
        family: A::AF,
        protocol: tuple.protocol.0,
        ports: [0; 2],
        total_len: 0,
        ifindex: hook.ifindex(),
        tos: 0,
        source: tuple.source.widen().0,
        destination: tuple.destination.widen().0,
        vlan: [0; 2],
        source_mac: [0; 6],
        destination_mac: [0; 6],
    };
    // SAFETY: context and parameters are valid for the call, and the size is theirs.
    let answer = unsafe {
        bpf_fib_lookup(
            hook.as_ptr(),
            (&raw mut lookup).cast(),
            size_of::<FibLookup>() as i32,
            0,
        )
    };
    match answer {
        SUCCESS => Ok(Route {
            next_hop: NextHop {
                ifindex: lookup.ifindex,
                destination_mac: lookup.destination_mac,
                source_mac: lookup.source_mac,
            },
            ifindex: lookup.ifindex,
        }),
        NO_NEIGHBOUR => Ok(Route {
            next_hop: UNRESOLVED,
            ifindex: lookup.ifindex,
        }),
        _ => Err(DropReason::NoRoute),
    }
}

/// No neighbour known.
pub const UNRESOLVED: NextHop = NextHop {
    ifindex: 0,
    destination_mac: [0; 6],
    source_mac: [0; 6],
};

/// Notes the next hop of an entry's packets. False if there is no route.
///
/// Not inlined: the parameters take an eighth of the stack.
#[inline(never)]
pub fn resolve<A: Ip>(hook: &impl Hook, entry: &mut ConntrackValue<A>) -> bool {
    let route = find(hook, &entry.rewrite);
    entry.next_hop = route.as_ref().map_or(UNRESOLVED, |route| route.next_hop);
    route.is_ok()
}

/// True if there is a way for packets with this tuple that leads on from this node.
#[inline(never)]
pub fn leads_on<A: Ip>(hook: &impl Hook, tuple: &Tuple<A>) -> bool {
    find(hook, tuple).is_ok()
}

/// The interface that packets with this tuple leave by.
#[inline(always)]
pub fn egress<A: Ip>(hook: &impl Hook, tuple: &Tuple<A>) -> Result<u32, DropReason> {
    find(hook, tuple).map(|route| route.ifindex)
}
