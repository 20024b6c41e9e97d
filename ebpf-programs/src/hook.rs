//! The two kinds of packet context behind one trait, so that balancing is written once.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{
    bpf_redirect_neigh, bpf_skb_change_head, bpf_skb_pull_data, bpf_skb_store_bytes,
};
use aya_ebpf::programs::{TcContext, XdpContext};
use core::ffi::c_void;
use core::mem::size_of;
use ebpf_abi::packet::{self, ETHERNET_LEN, Frame, Packet};
use ebpf_abi::{Be16, ConntrackValue, Counter, DropReason, NextHop};

use crate::access::count;
use crate::balance::Verdict;
use crate::family::Ip;
use crate::steps::{route, translate};

/// A packet at a hook.
pub trait Hook {
    /// The kernel's context, for helpers.
    fn as_ptr(&self) -> *mut c_void;

    /// Interface of the hook.
    fn ifindex(&self) -> u32;
}

/// A packet in an Ethernet frame, which can be balanced.
pub trait EthernetHook: Hook {
    /// The bytes that can be read directly.
    fn frame(&self) -> Frame<'_>;

    /// Writes an entry's addresses and ports into the packet.
    fn translate<A: Ip>(
        &self,
        packet: &Packet<A>,
        entry: &ConntrackValue<A>,
    ) -> Result<(), DropReason>;

    /// True if a packet with this next hop can be sent from this hook.
    fn can_send(&self, next_hop: &NextHop) -> bool;

    /// Rewrites a packet whose connection leaves the node again, and sends it.
    fn send<A: Ip>(
        &self,
        packet: &Packet<A>,
        entry: &ConntrackValue<A>,
    ) -> Result<Verdict, DropReason>;
}

/// A frame at the XDP hook.
pub struct XdpFrame<'a> {
    ctx: &'a XdpContext,
    start: usize,
    end: usize,
}

impl<'a> XdpFrame<'a> {
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        Self {
            ctx,
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }
}

impl Hook for XdpFrame<'_> {
    #[inline(always)]
    fn as_ptr(&self) -> *mut c_void {
        self.ctx.as_ptr()
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }
}

impl EthernetHook for XdpFrame<'_> {
    #[inline(always)]
    fn frame(&self) -> Frame<'_> {
        // SAFETY: the context's frame is readable while the program runs.
        unsafe {
            Frame::new(
                self.start as *const u8,
                self.end as *const u8,
                self.end - self.start,
            )
        }
    }

    #[inline(always)]
    fn translate<A: Ip>(
        &self,
        packet: &Packet<A>,
        entry: &ConntrackValue<A>,
    ) -> Result<(), DropReason> {
        translate::frame(self.start, self.end, packet, entry, 0)
    }

    #[inline(always)]
    fn can_send(&self, next_hop: &NextHop) -> bool {
        next_hop.ifindex == self.ifindex()
    }

    /// Sends the frame back out of the interface it came in by. For any other route, or without a
    /// known neighbour, the frame is left as it is: TC sees it next and has the means.
    #[inline(always)]
    fn send<A: Ip>(
        &self,
        packet: &Packet<A>,
        entry: &ConntrackValue<A>,
    ) -> Result<Verdict, DropReason> {
        if !self.can_send(&entry.next_hop) {
            count(Counter::XdpLeftToTc);
            return Ok(Verdict::Pass);
        }
        translate::frame(self.start, self.end, packet, entry, 1)?;
        translate::ethernet(self.start, self.end, &entry.next_hop)?;
        Ok(Verdict::Transmit)
    }
}

/// A socket buffer at a TC hook, with a link-layer header of `LINK_LEN` bytes.
pub struct Skb<'a, const LINK_LEN: usize = ETHERNET_LEN> {
    ctx: &'a TcContext,
}

/// A buffer of a device that carries IP packets without a link layer.
pub type BareSkb<'a> = Skb<'a, 0>;

impl<'a, const LINK_LEN: usize> Skb<'a, LINK_LEN> {
    #[inline(always)]
    pub fn new(ctx: &'a TcContext) -> Self {
        Self { ctx }
    }

    /// The kernel's context.
    #[inline(always)]
    pub fn skb(&self) -> *mut __sk_buff {
        self.ctx.skb.skb
    }

    /// Makes the headers readable if the driver left them in a fragment. Rare: drivers and the local
    /// stack both keep headers in the linear part, the latter often nothing else, and then there is
    /// nothing to do: it would cost a copy of the headers for each segment of a stream.
    #[inline(always)]
    pub fn pull_headers(&self) {
        let linear = self.ctx.data_end() - self.ctx.data();
        let len = self.ctx.len();
        if linear >= packet::HEADERS_MAX
            || linear >= len as usize
            || linear >= packet::headers_len(&self.bytes(), self.network_protocol())
        {
            return;
        }
        // SAFETY: the context is valid; failure leaves the buffer as it was, and parsing then
        // reports it as malformed.
        let _ = unsafe { bpf_skb_pull_data(self.skb(), len.min(packet::HEADERS_MAX as u32)) };
    }

    /// Interface the packet came in by; zero if this node made it.
    #[inline(always)]
    pub fn ingress_ifindex(&self) -> u32 {
        // SAFETY: reads a field of the context the kernel gave us.
        unsafe { (*self.skb()).ingress_ifindex }
    }

    /// Mark that the node's stack or a device put on the packet.
    #[inline(always)]
    pub fn mark(&self) -> u32 {
        // SAFETY: reads a field of the context the kernel gave us.
        unsafe { (*self.skb()).mark }
    }

    /// Packets on the wire that the buffer stands for.
    #[inline(always)]
    pub fn segments(&self) -> u32 {
        // SAFETY: reads a field of the context the kernel gave us.
        unsafe { (*self.skb()).gso_segs }.max(1)
    }

    /// The bytes that can be read directly.
    #[inline(always)]
    pub fn bytes(&self) -> Frame<'_, LINK_LEN> {
        // SAFETY: the context's linear bytes are readable until a helper moves them, and callers
        // parse before they call one.
        unsafe {
            Frame::new(
                self.ctx.data() as *const u8,
                self.ctx.data_end() as *const u8,
                self.ctx.len() as usize,
            )
        }
    }

    /// Bytes from the network header on.
    #[inline(always)]
    pub fn network_len(&self) -> u32 {
        self.ctx.len().saturating_sub(LINK_LEN as u32)
    }

    /// Bytes from the network header on of the largest packet that the buffer becomes on the wire.
    #[inline(always)]
    pub fn segment_len(&self) -> u32 {
        // SAFETY: reads a field of the context the kernel gave us.
        let payload = unsafe { (*self.skb()).gso_size };
        if payload == 0 {
            return self.network_len();
        }
        let headers = packet::headers_len(&self.bytes(), self.network_protocol());
        (headers - LINK_LEN) as u32 + payload
    }

    /// The EtherType that the kernel keeps beside the packet.
    #[inline(always)]
    pub fn network_protocol(&self) -> Be16 {
        // SAFETY: reads a field of the context the kernel gave us.
        Be16(unsafe { (*self.skb()).protocol } as u16)
    }

    /// True if the tag was taken out of the frame into the buffer's metadata.
    #[inline(always)]
    pub fn has_vlan_tag(&self) -> bool {
        // SAFETY: reads a field of the context the kernel gave us.
        unsafe { (*self.skb()).vlan_present != 0 }
    }
}

impl<'a> BareSkb<'a> {
    /// Puts an Ethernet header of zeros in front. On failure nothing is changed.
    #[inline(always)]
    pub fn with_room_for_ethernet(&self) -> Option<Skb<'a>> {
        // SAFETY: the context is valid; on success the buffer has so many bytes more at its start.
        let failed = unsafe { bpf_skb_change_head(self.skb(), ETHERNET_LEN as u32, 0) };
        (failed == 0).then_some(Skb { ctx: self.ctx })
    }

    /// Puts an Ethernet header in front, its addresses zero.
    #[inline(always)]
    pub fn with_ethernet_header(&self) -> Result<Skb<'a>, DropReason> {
        const ETHERTYPE_OFFSET: u32 = 12;
        let ethertype = self.network_protocol();
        let framed = self.with_room_for_ethernet();
        let framed = framed.ok_or(DropReason::WriteFailed)?;
        // SAFETY: the context is valid; the header was just made.
        let failed = unsafe {
            bpf_skb_store_bytes(
                self.skb(),
                ETHERTYPE_OFFSET,
                (&raw const ethertype).cast_mut().cast(),
                size_of::<Be16>() as u32,
                0,
            )
        };
        if failed != 0 {
            return Err(DropReason::WriteFailed);
        }
        Ok(framed)
    }
}

impl<const LINK_LEN: usize> Hook for Skb<'_, LINK_LEN> {
    #[inline(always)]
    fn as_ptr(&self) -> *mut c_void {
        self.ctx.as_ptr()
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: reads a field of the context the kernel gave us.
        unsafe { (*self.skb()).ifindex }
    }
}

impl EthernetHook for Skb<'_> {
    #[inline(always)]
    fn frame(&self) -> Frame<'_> {
        self.bytes()
    }

    #[inline(always)]
    fn translate<A: Ip>(
        &self,
        packet: &Packet<A>,
        entry: &ConntrackValue<A>,
    ) -> Result<(), DropReason> {
        translate::skb(self.skb(), packet, entry)
    }

    #[inline(always)]
    fn can_send(&self, _next_hop: &NextHop) -> bool {
        true
    }

    /// Rewrites and hands the packet to the neighbour layer, which resolves the next hop if it must.
    #[inline(always)]
    fn send<A: Ip>(
        &self,
        packet: &Packet<A>,
        entry: &ConntrackValue<A>,
    ) -> Result<Verdict, DropReason> {
        let ifindex = match entry.next_hop.ifindex {
            0 => route::egress::<A>(self, &entry.rewrite)?,
            known => known,
        };
        translate::skb(self.skb(), packet, entry)?;
        translate::skb_ttl(self, packet)?;
        // SAFETY: no parameters: the helper looks the next hop up itself (5.10).
        let code = unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) };
        Ok(Verdict::Redirect(code as u32))
    }
}
