//! Programs that the bench and the test cluster use; no part of the data plane.
//!
//! A program that rewrites its packet would see its own output when the kernel runs it again, so
//! the bench runs one of the `feed_*` programs: it writes the frame anew, of the next flow if there
//! are several, and goes on to the program to be measured. They differ in nothing but that program,
//! and so the empty ones show what feeding costs.
#![expect(
    missing_docs,
    reason = "the attribute macros emit undocumented functions"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "entry points take the context as the macros hand it over"
)]
#![no_std]
#![no_main]

use core::mem::size_of;

use aya_ebpf::bindings::{BPF_ANY, xdp_action};
use aya_ebpf::btf_maps::{Array, LruHashMap, ProgramArray};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use ebpf_abi::bench::{BenchInput, FRAME_LEN, FRAME_WORDS, flow_client};
use ebpf_abi::packet::ETHERNET_LEN;
use ebpf_abi::{Addr4, Be16, ConntrackValue};

/// What to feed. Written by the bench, its run number by the programs.
#[btf_map]
pub static INPUT: Array<BenchInput, 1> = Array::new();

/// Programs to be measured, see the constants below.
#[btf_map]
pub static CALLEES: ProgramArray<4> = ProgramArray::new();

const PASS: u32 = 0;
const TX: u32 = 1;
const BALANCER: u32 = 2;
const INSERT: u32 = 3;

/// As large as the data plane's table of IPv4 connections by default, and of as large entries.
#[btf_map]
pub static TABLE: LruHashMap<[u32; 4], ConntrackValue<Addr4>, 524_288> = LruHashMap::new();

/// The value that is written to it.
#[btf_map]
pub static VALUE: Array<ConntrackValue<Addr4>, 1> = Array::new();

/// Passes every frame: the cheapest program, and what a veth peer needs to accept frames sent by XDP.
#[xdp]
pub fn xdp_pass(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Sends every frame back.
#[xdp]
pub fn xdp_tx(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// Feeds [`xdp_pass`].
#[xdp]
pub fn feed_pass(ctx: XdpContext) -> u32 {
    feed::<PASS>(&ctx)
}

/// Feeds [`xdp_tx`].
#[xdp]
pub fn feed_tx(ctx: XdpContext) -> u32 {
    feed::<TX>(&ctx)
}

/// Feeds the data plane's program for uplinks.
#[xdp]
pub fn feed_balancer(ctx: XdpContext) -> u32 {
    feed::<BALANCER>(&ctx)
}

/// Feeds [`lru_insert`].
#[xdp]
pub fn feed_insert(ctx: XdpContext) -> u32 {
    feed::<INSERT>(&ctx)
}

/// Writes one entry for the flow: what any program pays for remembering it.
#[xdp]
pub fn lru_insert(ctx: XdpContext) -> u32 {
    const ADDRESSES_AND_PORTS: usize = ETHERNET_LEN + 12;
    let (start, end) = (ctx.data() + ADDRESSES_AND_PORTS, ctx.data_end());
    let Some(value) = VALUE.get(0) else {
        return xdp_action::XDP_ABORTED;
    };
    if start + size_of::<[u32; 3]>() > end {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: in bounds by the check above.
    let [source, destination, ports] = unsafe { *(start as *const [u32; 3]) };
    match TABLE.insert([source, destination, ports, 0], value, BPF_ANY.into()) {
        Ok(()) => xdp_action::XDP_TX,
        Err(_) => xdp_action::XDP_ABORTED,
    }
}

/// Writes the frame and goes on to a program. Aborts if it cannot.
///
/// The number of the program is a constant so that the kernel makes it a direct jump.
#[inline(always)]
fn feed<const CALLEE: u32>(ctx: &XdpContext) -> u32 {
    const SOURCE: usize = ETHERNET_LEN + 12;
    const SOURCE_PORT: usize = ETHERNET_LEN + 20;
    let (start, end) = (ctx.data(), ctx.data_end());
    let Some(input) = INPUT.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    if start + FRAME_LEN > end {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: the element is there, only the bench's one thread runs this program, and the frame
    // has room for all that is written by the check above.
    unsafe {
        let input = &mut *input;
        // Volatile, or else the compiler calls `memmove`, which here is a loop over bytes.
        for word in 0..FRAME_WORDS {
            (start as *mut u64)
                .add(word)
                .write_volatile(input.frame[word]);
        }
        if input.rotate != 0 {
            let flow = input.next.wrapping_mul(input.flow_stride) & input.flow_mask;
            let (address, port) = flow_client(input, flow);
            input.next = input.next.wrapping_add(1);
            *((start + SOURCE) as *mut Addr4) = Addr4(address.to_be());
            *((start + SOURCE_PORT) as *mut Be16) = Be16::new(port);
        }
        CALLEES.tail_call(ctx, CALLEE);
    }
    xdp_action::XDP_ABORTED
}

/// See `main.rs`.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
