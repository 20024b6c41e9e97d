//! Where a service's traffic goes.

use bytemuck::{Pod, Zeroable};

use crate::layout::{layout, plain_generic};
use crate::{Addr4, Addr6, Be16};

/// Number of a backend on this node; the slots of Maglev tables hold it. Zero is an empty slot.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Pod, Zeroable)]
pub struct BackendId(pub u32);

/// Value of `BACKENDS4` and `BACKENDS6`, keyed by [`BackendId`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackendValue<A> {
    /// Address of the pod or process.
    pub address: A,
    /// Port it listens on.
    pub port: Be16,
    /// Bits of [`BackendValue::LOCAL`].
    pub flags: u16,
}

impl<A> BackendValue<A> {
    /// The backend runs on this node: the packet is delivered, not sent out again.
    pub const LOCAL: u16 = 1;
}

/// Words in one element of a Maglev table.
///
/// A table is an array map of chunks instead of single slots: an element costs at least eight
/// bytes, and each is written by a system call of its own.
pub const MAGLEV_CHUNK_WORDS: usize = 64;

/// One element of a service's Maglev table, see [`maglev_position`].
pub type MaglevChunk = [u32; MAGLEV_CHUNK_WORDS];

/// Where a word of a table stands: element and index within it.
///
/// Word 0 is the number of slots, so that a table tells its own size and is swapped, size and all,
/// in one update of the outer map. Word `1 + s` is the [`BackendId`] of slot `s`.
#[inline(always)]
pub const fn maglev_position(word: u32) -> (u32, usize) {
    (
        word / MAGLEV_CHUNK_WORDS as u32,
        word as usize % MAGLEV_CHUNK_WORDS,
    )
}

/// Elements of a table with this many slots.
pub const fn maglev_chunks(slots: u32) -> u32 {
    (1 + slots).div_ceil(MAGLEV_CHUNK_WORDS as u32)
}

plain_generic!(BackendValue, fields4 = 4 + 2 + 2, fields6 = 16 + 2 + 2);
layout!(BackendId, size = 4);
layout!(BackendValue<Addr4>, size = 8, port @ 4, flags @ 6);
layout!(BackendValue<Addr6>, size = 20, port @ 16, flags @ 18);
