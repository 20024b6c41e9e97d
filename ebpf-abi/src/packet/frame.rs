//! A frame's bytes, read with every bound checked.

use core::marker::PhantomData;
use core::mem::size_of;

use bytemuck::Pod;

use super::ETHERNET_LEN;

/// The readable bytes of a frame, from its link-layer header of `LINK_LEN` bytes on: Ethernet, or none
/// on devices that carry bare IP packets.
#[derive(Clone, Copy)]
pub struct Frame<'a, const LINK_LEN: usize = ETHERNET_LEN> {
    start: *const u8,
    end: *const u8,
    /// Length of the whole frame.
    len: usize,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a, const LINK_LEN: usize> Frame<'a, LINK_LEN> {
    /// A frame of `len` bytes, of which those between two addresses can be read.
    ///
    /// # Safety
    /// All bytes from `start` up to but without `end` are readable for `'a`.
    #[inline(always)]
    pub unsafe fn new(start: *const u8, end: *const u8, len: usize) -> Self {
        Self {
            start,
            end,
            len,
            bytes: PhantomData,
        }
    }

    /// A frame in a byte slice.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        let range = bytes.as_ptr_range();
        // SAFETY: the range of a slice is readable for the slice's lifetime.
        unsafe { Self::new(range.start, range.end, bytes.len()) }
    }

    /// True if a packet of this length fits behind the link-layer header.
    #[inline(always)]
    pub(super) fn holds(&self, packet_len: u32) -> bool {
        LINK_LEN + packet_len as usize <= self.len
    }

    /// Reads a header at `offset` bytes, or nothing if the frame ends before it does.
    #[inline(always)]
    pub fn read<T: Pod>(&self, offset: usize) -> Option<T> {
        let header = self.start.wrapping_add(offset);
        if header.wrapping_add(size_of::<T>()) > self.end {
            return None;
        }
        let header = header.cast::<T>();
        #[cfg(target_arch = "bpf")]
        // SAFETY: in bounds by the check above, which the verifier demands as well. eBPF loads of up
        // to eight bytes work at any address on the architectures we build for.
        let value = unsafe { header.read() };
        #[cfg(not(target_arch = "bpf"))]
        // SAFETY: in bounds by the check above, and `T` is valid for every bit pattern.
        let value = unsafe { header.read_unaligned() };
        Some(value)
    }
}
