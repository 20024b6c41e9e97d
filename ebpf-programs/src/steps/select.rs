//! Which backend? One slot of the service's Maglev table.

use ebpf_abi::backend::maglev_position;
use ebpf_abi::{BackendId, BackendValue, ServiceId, hash};

use crate::family::Ip;
use crate::maps::{MAGLEV, MaglevTable};

/// The backend in the slot that a hash falls on; nothing if the service has none.
#[inline(always)]
pub fn backend<A: Ip>(service: ServiceId, hash: u32) -> Option<(BackendId, BackendValue<A>)> {
    // SAFETY: the kernel frees a replaced table only after the program ends.
    let table = unsafe { MAGLEV.get(&service) }?;
    let slots = word(table, 0)?;
    if slots == 0 {
        return None;
    }
    let id = BackendId(word(table, 1 + hash::scale(hash, slots))?);
    Some((id, A::backend(id)?))
}

#[inline(always)]
fn word(table: &MaglevTable, index: u32) -> Option<u32> {
    let (chunk, offset) = maglev_position(index);
    table.get(chunk).map(|words| words[offset])
}
