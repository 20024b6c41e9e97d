//! Where does a packet leave? The kernel's own routing table answers.

use core::mem::{MaybeUninit, size_of};

use aya_ebpf::helpers::generated::bpf_fib_lookup;
use ebpf_abi::conntrack::ConntrackKind;
use ebpf_abi::{ConntrackValue, DatapathConfig, DropReason, NextHop, Protocol, Tuple};

use crate::access::clear;
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
    /// Answers from here on.
    vlan: u32,
    source_mac: [u16; 3],
    destination_mac: [u16; 3],
}

const _: () = assert!(size_of::<FibLookup>() == 64);

/// `BPF_FIB_LKUP_RET_SUCCESS`.
const SUCCESS: i64 = 0;
/// `BPF_FIB_LKUP_RET_NO_NEIGH`: there is a route, its next hop has not been resolved.
const NO_NEIGHBOUR: i64 = 7;
/// `BPF_FIB_LKUP_RET_FRAG_NEEDED`: the packet is larger than the way's MTU.
const TOO_LARGE: i64 = 8;

/// Is the neighbour known to whom a packet goes next?
#[derive(PartialEq, Eq)]
enum Neighbour {
    Known,
    Unknown,
}

/// Asks for the route of a packet with this tuple. If `total_len` is not zero, it has to fit.
#[inline(always)]
fn find<'a, A: Ip>(
    hook: &impl Hook,
    tuple: &Tuple<A>,
    total_len: u16,
    room: &'a mut MaybeUninit<FibLookup>,
) -> Result<(Neighbour, &'a FibLookup), DropReason> {
    let lookup = room.as_mut_ptr();
    // SAFETY: fills in every field, through a pointer to memory of the right size. The answers one
    // by one, see `clear`.
    let lookup = unsafe {
        (*lookup).family = A::AF;
        (*lookup).protocol = tuple.protocol.0;
        (*lookup).ports = [0; 2];
        (*lookup).total_len = total_len;
        (*lookup).ifindex = hook.ifindex();
        (*lookup).tos = 0;
        (*lookup).source = tuple.source.widen().0;
        (*lookup).destination = tuple.destination.widen().0;
        clear(&mut (*lookup).vlan);
        for word in 0..3 {
            clear(&mut (*lookup).source_mac[word]);
            clear(&mut (*lookup).destination_mac[word]);
        }
        &mut *lookup
    };
    // SAFETY: context and parameters are valid for the call, and the size is theirs.
    let answer = unsafe {
        bpf_fib_lookup(
            hook.as_ptr(),
            (&raw mut *lookup).cast(),
            size_of::<FibLookup>() as i32,
            0,
        )
    };
    match answer {
        SUCCESS => Ok((Neighbour::Known, lookup)),
        // Without a length the kernel compares that of the buffer, after it has filled in the answer.
        TOO_LARGE if total_len == 0 => Ok((Neighbour::Known, lookup)),
        NO_NEIGHBOUR => Ok((Neighbour::Unknown, lookup)),
        _ => Err(DropReason::NoRoute),
    }
}

/// Notes that no neighbour is known.
#[inline(always)]
pub fn forget(next_hop: &mut NextHop) {
    let words: &mut [u32; 4] = bytemuck::cast_mut(next_hop);
    for word in words {
        clear(word);
    }
}

/// Notes the next hop of an entry's packets. False if there is no route.
///
/// Not inlined: the parameters take an eighth of the stack.
#[inline(never)]
pub fn resolve<A: Ip>(hook: &impl Hook, entry: &mut ConntrackValue<A>) -> bool {
    let mut room = MaybeUninit::uninit();
    let route = find(hook, &entry.rewrite, 0, &mut room);
    if let Ok((Neighbour::Known, lookup)) = route {
        entry.next_hop.ifindex = lookup.ifindex;
        entry.next_hop.destination_mac = bytemuck::cast(lookup.destination_mac);
        entry.next_hop.source_mac = bytemuck::cast(lookup.source_mac);
        return true;
    }
    forget(&mut entry.next_hop);
    route.is_ok()
}

/// Has TC send what goes to a backend, a pod or a node elsewhere while encryption is on: there, and not
/// after XDP, is a hook that stops packets from leaving in clear text, and counts them.
#[inline(always)]
pub fn keep_from_xdp<A: Ip>(entry: &mut ConntrackValue<A>, config: &DatapathConfig) {
    if config.flags & DatapathConfig::ENCRYPT != 0
        && (entry.kind == ConntrackKind::TO_REMOTE || leads_into_cluster(&entry.rewrite))
    {
        forget(&mut entry.next_hop);
    }
}

/// Not inlined: the key takes stack that the chain of calls has not.
#[inline(never)]
fn leads_into_cluster<A: Ip>(tuple: &Tuple<A>) -> bool {
    A::ipcache(&tuple.destination).is_some()
}

/// Address of a neighbour (`struct bpf_redir_neigh`, include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
pub struct NeighbourAddress {
    family: u32,
    address: [u32; 4],
}

/// Asks where packets of `len_bytes` from the network header on with this tuple go next. Returns the
/// interface; 0 without a way that they fit.
///
/// Not inlined: the parameters take an eighth of the stack.
#[inline(never)]
pub fn next_hop<A: Ip>(
    hook: &impl Hook,
    tuple: &Tuple<A>,
    len_bytes: u32,
    neighbour: &mut NeighbourAddress,
) -> u32 {
    let mut room = MaybeUninit::uninit();
    let Ok((_, lookup)) = find(hook, tuple, len_bytes as u16, &mut room) else {
        return 0;
    };
    // A gateway, or the receiver itself.
    neighbour.family = lookup.family.into();
    for word in 0..4 {
        neighbour.address[word] = lookup.destination[word];
    }
    lookup.ifindex
}

/// True if there is a way for packets with this tuple that leads on from this node.
#[inline(never)]
pub fn leads_on<A: Ip>(hook: &impl Hook, tuple: &Tuple<A>) -> bool {
    find(hook, tuple, 0, &mut MaybeUninit::uninit()).is_ok()
}

/// True if what leaves by the hook's interface for `destination` has no gateway on its way.
///
/// Not inlined: the parameters take an eighth of the stack.
#[inline(never)]
pub fn is_on_link<A: Ip>(hook: &impl Hook, source: &A, destination: &A) -> bool {
    let mut room = MaybeUninit::uninit();
    let tuple = Tuple::new(*source, *destination, 0, Protocol(0));
    find(hook, &tuple, 0, &mut room).is_ok_and(|(_, lookup)| {
        lookup.ifindex == hook.ifindex() && lookup.destination == destination.widen().0
    })
}

/// The interface that packets with this tuple leave by.
#[inline(always)]
pub fn egress<A: Ip>(hook: &impl Hook, tuple: &Tuple<A>) -> Result<u32, DropReason> {
    let mut room = MaybeUninit::uninit();
    find(hook, tuple, 0, &mut room).map(|(_, lookup)| lookup.ifindex)
}
