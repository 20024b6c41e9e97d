//! What `cargo xtask bench xdp` tells the program that feeds packets to the balancer.

use bytemuck::{Pod, Zeroable};

use crate::layout::layout;

/// Words of eight bytes in the frames of the bench.
pub const FRAME_WORDS: usize = 10;

/// Length of those frames.
pub const FRAME_LEN: usize = FRAME_WORDS * 8;

/// Source ports that one client address uses before the next one takes over.
pub const PORTS_PER_CLIENT: u32 = 1 << 12;

/// The one element of the array map `INPUT`.
///
/// Run number `n` carries flow `(n * flow_stride) & flow_mask`; see [`flow_client`] for what that
/// makes of the packet. All fields are in host order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct BenchInput {
    /// What the frame holds before every run.
    pub frame: [u64; FRAME_WORDS],
    /// First client address (IPv4 only).
    pub client: u32,
    /// First source port.
    pub port: u32,
    /// Number of the next run; raised by the program.
    pub next: u32,
    /// Step from one flow to the next; odd, so that every flow has its turn.
    pub flow_stride: u32,
    /// Number of flows, a power of two, less one; `u32::MAX` never comes back to a flow.
    pub flow_mask: u32,
    /// Nonzero: the source of an IPv4 packet is that of its flow. Zero: the frame goes in as it is.
    pub rotate: u32,
}

/// Source address and port of a flow, both in host order.
///
/// Checksums are left as they are: the balancer only updates them.
#[inline(always)]
pub const fn flow_client(input: &BenchInput, flow: u32) -> (u32, u16) {
    (
        input.client.wrapping_add(flow / PORTS_PER_CLIENT),
        input.port.wrapping_add(flow % PORTS_PER_CLIENT) as u16,
    )
}

layout!(BenchInput, size = 104, client @ 80, rotate @ 100);
