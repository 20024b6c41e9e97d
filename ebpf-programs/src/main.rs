//! The kernel half of the data plane: entry points only.
//!
//! On the path of a packet this is where it comes in and where the verdict becomes a kernel code.
//! What happens in between is in [`balance`] (a packet to a service), [`steps`] (its single steps)
//! and [`observe`] (what is remembered and reported of a flow); what must not leave unencrypted is in
//! [`encryption`], what passes the node's stack by on its way there in [`host_routing`], sockets are in
//! [`socket`].
//!
//! | program | hook | does |
//! | --- | --- | --- |
//! | `xdp_uplink` | XDP, uplink | balances; sends on to other nodes |
//! | `tc_uplink_in` | TC, from the network | balances what XDP left; observes traffic to the node |
//! | `tc_uplink_out` | TC, to the network | translates replies back; observes the node's traffic |
//! | `tc_pod_from` | TC, out of a pod | balances what a pod dials; observes; may send into the device |
//! | `tc_pod_to` | TC, into a pod | translates replies back; observes |
//! | `tc_wireguard_in` | TC, decrypted | hands answers to the balancer; observes; may send to pods |
//! | `tc_wireguard_out` | TC, to be encrypted | counts; limits TCP segments; observes |
//! | `cg_*` | cgroup v2 | translates a socket once, instead of its packets |
#![expect(
    missing_docs,
    reason = "the attribute macros emit undocumented functions; the table above documents them"
)]
#![allow(
    clippy::needless_pass_by_value,
    reason = "entry points take the context as the macros hand it over"
)]
#![allow(
    clippy::needless_borrows_for_generic_args,
    clippy::trivially_copy_pass_by_ref,
    reason = "a copy of a key takes stack that is counted in bytes"
)]
#![allow(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "helpers return kernel codes as wide signed integers"
)]
#![allow(clippy::unused_self, reason = "a call's facts are asked of the call")]
#![allow(
    clippy::needless_range_loop,
    clippy::manual_is_multiple_of,
    clippy::nonminimal_bool,
    reason = "written as the compiler turns them into the fewest instructions"
)]
#![no_std]
#![no_main]

mod access;
mod balance;
mod emit;
mod encryption;
mod family;
mod hook;
mod host_routing;
mod log;
mod maps;
mod observe;
mod socket;
mod steps;

use aya_ebpf::bindings::{TC_ACT_OK, TC_ACT_SHOT, xdp_action};
use aya_ebpf::macros::{cgroup_sock_addr, classifier, xdp};
use aya_ebpf::programs::{SockAddrContext, TcContext, XdpContext};

use balance::{Place, Verdict};
use ebpf_abi::event::ObservationPoint;
use encryption::receiver::{self, Receiver};
use encryption::{device, uplink};
use hook::{BareSkb, Skb, XdpFrame};

#[xdp]
pub fn xdp_uplink(ctx: XdpContext) -> u32 {
    match balance::frame(&XdpFrame::new(&ctx), Place::Uplink) {
        Verdict::Pass | Verdict::Translated => xdp_action::XDP_PASS,
        Verdict::Transmit => xdp_action::XDP_TX,
        Verdict::Redirect(code) => code,
        Verdict::Drop => xdp_action::XDP_DROP,
    }
}

#[classifier]
pub fn tc_uplink_in(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    if uplink::is_to_decrypt(&skb) {
        return TC_ACT_OK;
    }
    skb.pull_headers();
    tc_code(balance::then_observe(
        &skb,
        Place::Uplink,
        ObservationPoint::TO_HOST,
        Receiver::UNKNOWN,
    ))
}

#[classifier]
pub fn tc_uplink_out(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    if uplink::is_encrypted(&skb) {
        return TC_ACT_OK;
    }
    skb.pull_headers();
    if uplink::stops(&skb) {
        return TC_ACT_SHOT;
    }
    tc_code(balance::reply_and_observe(
        &skb,
        ObservationPoint::TO_NETWORK,
    ))
}

#[classifier]
pub fn tc_pod_from(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    skb.pull_headers();
    let receiver = receiver::of(&skb);
    if receiver == Receiver::UNREACHABLE {
        return TC_ACT_SHOT;
    }
    tc_code(balance::then_observe(
        &skb,
        Place::Pod,
        ObservationPoint::FROM_ENDPOINT,
        receiver,
    ))
}

#[classifier]
pub fn tc_pod_to(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    skb.pull_headers();
    tc_code(balance::reply_and_observe(
        &skb,
        ObservationPoint::TO_ENDPOINT,
    ))
}

#[classifier]
pub fn tc_wireguard_in(ctx: TcContext) -> i32 {
    tc_code(device::enter(&BareSkb::new(&ctx)))
}

#[classifier]
pub fn tc_wireguard_out(ctx: TcContext) -> i32 {
    device::leave(&BareSkb::new(&ctx));
    TC_ACT_OK
}

fn tc_code(verdict: Verdict) -> i32 {
    match verdict {
        // TC programs never bounce a packet themselves; `Transmit` is XDP's.
        Verdict::Pass | Verdict::Translated | Verdict::Transmit => TC_ACT_OK,
        Verdict::Redirect(code) => code as i32,
        Verdict::Drop => TC_ACT_SHOT,
    }
}

#[cgroup_sock_addr(connect4)]
pub fn cg_connect4(ctx: SockAddrContext) -> i32 {
    socket::dial4(&ctx)
}

#[cgroup_sock_addr(connect6)]
pub fn cg_connect6(ctx: SockAddrContext) -> i32 {
    socket::dial6(&ctx)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn cg_sendmsg4(ctx: SockAddrContext) -> i32 {
    socket::dial4(&ctx)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn cg_sendmsg6(ctx: SockAddrContext) -> i32 {
    socket::dial6(&ctx)
}

#[cgroup_sock_addr(recvmsg4)]
pub fn cg_recvmsg4(ctx: SockAddrContext) -> i32 {
    socket::answer4(&ctx)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn cg_recvmsg6(ctx: SockAddrContext) -> i32 {
    socket::answer6(&ctx)
}

#[cgroup_sock_addr(getpeername4)]
pub fn cg_getpeer4(ctx: SockAddrContext) -> i32 {
    socket::answer4(&ctx)
}

#[cgroup_sock_addr(getpeername6)]
pub fn cg_getpeer6(ctx: SockAddrContext) -> i32 {
    socket::answer6(&ctx)
}

/// The object as a whole is offered under either licence; the kernel asks for a GPL-compatible one.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
