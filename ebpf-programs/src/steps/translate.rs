//! The only place where a packet is rewritten: addresses, ports, checksums, TTL, Ethernet.

use core::ffi::c_void;

use aya_ebpf::bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM};
use aya_ebpf::helpers::generated::{bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_store_bytes};
use ebpf_abi::packet::{
    ETHERNET_LEN, Packet, SegmentSize, TRANSPORT_OFFSET_MAX, TcpHeader, UdpHeader,
};
use ebpf_abi::{Be16, ConntrackValue, DropReason, NextHop, Protocol, checksum};

use crate::access::{copy, header};
use crate::family::Ip;
use crate::hook::Skb;

/// What one hop less adds to a header checksum: the TTL is the first byte of its 16-bit word.
const ONE_HOP: u32 = Be16::new(0x0100).0 as u32;

/// Offset of the checksum in a TCP header.
const TCP_CHECKSUM_OFFSET: u32 = 16;
/// Offset of the checksum in a UDP header.
const UDP_CHECKSUM_OFFSET: u32 = 6;

/// Writes an entry's addresses and ports into a frame and takes `hops` (0 or 1) off its TTL.
///
/// Both headers are checked for room before the first byte is written, so a failure leaves the
/// frame as it was.
#[inline(always)]
pub fn frame<A: Ip>(
    start: usize,
    end: usize,
    packet: &Packet<A>,
    entry: &ConntrackValue<A>,
    hops: u8,
) -> Result<(), DropReason> {
    // The verifier cannot bound an offset that was spilled as a 16-bit value. The parser has.
    let offset = usize::from(packet.transport_offset) & TRANSPORT_OFFSET_MAX;
    let delta = checksum::fold(u32::from(entry.address_delta) + u32::from(entry.port_delta));
    if packet.tuple.protocol == Protocol::TCP {
        let tcp = header::<TcpHeader>(start, end, offset).ok_or(DropReason::WriteFailed)?;
        tcp.source_port = entry.rewrite.source_port;
        tcp.destination_port = entry.rewrite.destination_port;
        tcp.checksum = checksum::update(tcp.checksum, delta);
    } else {
        let udp = header::<UdpHeader>(start, end, offset).ok_or(DropReason::WriteFailed)?;
        udp.source_port = entry.rewrite.source_port;
        udp.destination_port = entry.rewrite.destination_port;
        if udp.checksum != 0 {
            udp.checksum = checksum::update_udp(udp.checksum, delta);
        }
    }
    network_header::<A>(start, end, entry, hops)
}

#[inline(always)]
fn network_header<A: Ip>(
    start: usize,
    end: usize,
    entry: &ConntrackValue<A>,
    hops: u8,
) -> Result<(), DropReason> {
    let addresses = header::<[A; 2]>(start, end, ETHERNET_LEN + A::ADDRESSES_OFFSET)
        .ok_or(DropReason::WriteFailed)?;
    copy(&mut addresses[0], entry.rewrite.source);
    copy(&mut addresses[1], entry.rewrite.destination);
    if let Some(offset) = A::CHECKSUM_OFFSET {
        let field =
            header::<u16>(start, end, ETHERNET_LEN + offset).ok_or(DropReason::WriteFailed)?;
        let mut delta = u32::from(entry.address_delta);
        if hops != 0 {
            delta += u32::from(checksum::delta(ONE_HOP, 0));
        }
        *field = checksum::update(*field, checksum::fold(delta));
    }
    if hops != 0 {
        let ttl = header::<u8>(start, end, ETHERNET_LEN + A::TTL_OFFSET)
            .ok_or(DropReason::WriteFailed)?;
        *ttl -= hops;
    }
    Ok(())
}

/// Addresses a frame to a neighbour.
#[inline(always)]
pub fn ethernet(start: usize, end: usize, next_hop: &NextHop) -> Result<(), DropReason> {
    // Both addresses as words: fields of bytes would be copied byte by byte.
    let addresses = header::<[u32; 3]>(start, end, 0).ok_or(DropReason::WriteFailed)?;
    let [_, to, between, from]: [u32; 4] = bytemuck::cast(*next_hop);
    *addresses = [to, between, from];
    Ok(())
}

/// Writes an entry's addresses and ports into a buffer, through the helpers that know about
/// checksums which the hardware or the receiver completes.
///
/// A buffer may carry its device's sum over the packet. The helper for pseudo headers counts on an
/// IPv4 header checksum to make up for the change of addresses; see [`store_network`] for IPv6.
/// Ports without a checksum (UDP) leave the sum wrong, but then nobody asks for it.
#[inline(always)]
pub fn skb<A: Ip>(
    skb: *mut __sk_buff,
    packet: &Packet<A>,
    entry: &ConntrackValue<A>,
) -> Result<(), DropReason> {
    let transport = u32::from(packet.transport_offset);
    let (checksum_offset, flags) = match packet.tuple.protocol {
        Protocol::TCP => (transport + TCP_CHECKSUM_OFFSET, 0),
        // Zero means that the sender computed none; it stays so.
        _ => (
            transport + UDP_CHECKSUM_OFFSET,
            u64::from(BPF_F_MARK_MANGLED_0),
        ),
    };
    let addresses = [entry.rewrite.source, entry.rewrite.destination];
    let ports = [entry.rewrite.source_port, entry.rewrite.destination_port];
    let (address_delta, port_delta) = (entry.address_delta.into(), entry.port_delta.into());
    // SAFETY: the context is valid; the helpers check offsets and report what they refuse.
    let failed = unsafe {
        bpf_l4_csum_replace(skb, checksum_offset, 0, port_delta, flags) != 0
            || bpf_l4_csum_replace(
                skb,
                checksum_offset,
                0,
                address_delta,
                flags | u64::from(BPF_F_PSEUDO_HDR),
            ) != 0
            || A::CHECKSUM_OFFSET.is_some_and(|offset| {
                let offset = (ETHERNET_LEN + offset) as u32;
                bpf_l3_csum_replace(skb, offset, 0, address_delta, 0) != 0
            })
            || store_network::<A, _>(skb, (ETHERNET_LEN + A::ADDRESSES_OFFSET) as u32, &addresses)
            || store(skb, transport, &ports, 0)
    };
    if failed {
        Err(DropReason::WriteFailed)
    } else {
        Ok(())
    }
}

/// Replaces the largest segment that a TCP header offers.
///
/// The size may stand at an odd offset of the header, whose checksum then has its bytes swapped
/// (RFC 1071, section 2). A failure leaves the packet as it was, which is a slow connection at worst.
#[inline(always)]
pub fn segment_size<A: Ip>(
    skb: *mut __sk_buff,
    packet: &Packet<A>,
    offered: &SegmentSize,
    allowed: Be16,
) {
    let (transport, offset) = (
        u32::from(packet.transport_offset),
        u32::from(offered.offset),
    );
    let in_sum = |size: Be16| match (offset - transport) % 2 {
        0 => size.0,
        _ => size.0.swap_bytes(),
    };
    let (from, to) = (in_sum(offered.size), in_sum(allowed));
    // SAFETY: the context is valid; the helpers check offsets and report what they refuse.
    unsafe {
        let checksum = transport + TCP_CHECKSUM_OFFSET;
        if bpf_l4_csum_replace(skb, checksum, from.into(), to.into(), 2) == 0 {
            let _ = store(skb, offset, &allowed, 0);
        }
    }
}

/// Takes one hop off a buffer's TTL.
#[inline(always)]
pub fn skb_ttl<A: Ip>(skb: &Skb<'_>, packet: &Packet<A>) -> Result<(), DropReason> {
    let offset = ETHERNET_LEN + A::TTL_OFFSET;
    let failed = if A::CHECKSUM_OFFSET.is_some() {
        // The checksum follows the TTL and the protocol: one store for all costs less than the helper for
        // sums, and a sum over the packet stays as it is.
        let next = skb.bytes().read::<[u16; 2]>(offset).map(|[hops, sum]| {
            let delta = checksum::delta(ONE_HOP, 0);
            [
                hops.wrapping_sub(ONE_HOP as u16),
                checksum::update(sum, delta),
            ]
        });
        // SAFETY: the buffer's context is valid.
        next.is_none_or(|next| unsafe { store(skb.skb(), offset as u32, &next, 0) })
    } else {
        // SAFETY: as above.
        unsafe { store_network::<A, _>(skb.skb(), offset as u32, &(packet.ttl - 1)) }
    };
    if failed {
        Err(DropReason::WriteFailed)
    } else {
        Ok(())
    }
}

/// Stores a part of the network header. True if the kernel refused.
///
/// IPv4 has a checksum for it, so a sum over the packet stays as it is; IPv6 has none, so the sum has
/// to follow.
///
/// # Safety
/// `skb` is the context of the running program.
#[inline(always)]
unsafe fn store_network<A: Ip, T>(skb: *mut __sk_buff, offset: u32, value: &T) -> bool {
    let flags = match A::CHECKSUM_OFFSET {
        Some(_) => 0,
        None => u64::from(BPF_F_RECOMPUTE_CSUM),
    };
    // SAFETY: as the caller says.
    unsafe { store(skb, offset, value, flags) }
}

/// Stores a value at an offset of a buffer. True if the kernel refused.
///
/// # Safety
/// `skb` is the context of the running program.
#[inline(always)]
unsafe fn store<T>(skb: *mut __sk_buff, offset: u32, value: &T, flags: u64) -> bool {
    let from = (&raw const *value).cast::<c_void>();
    // SAFETY: `from` points to `size_of::<T>()` readable bytes; the caller vouches for `skb`.
    unsafe {
        bpf_skb_store_bytes(
            skb,
            offset,
            from.cast_mut().cast(),
            size_of::<T>() as u32,
            flags,
        ) != 0
    }
}
