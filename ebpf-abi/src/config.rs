//! Settings of the data plane, in the one element of the array map `CONFIG`.

use bytemuck::{Pod, Zeroable};

use crate::layout::layout;
use crate::{Addr4, Addr6, Be16};

/// What the agent tells the programs. All zero means "not configured yet": the programs then pass
/// every packet untouched.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct DatapathConfig {
    /// Raised whenever a known connection may need another look: a backend or a route went away.
    /// Entries of the connection table that carry another number are checked at their next packet.
    pub generation: u32,
    /// Timer frequency of this kernel (`CONFIG_HZ`), for `jiffies`.
    pub jiffies_per_second: u32,
    /// Source address for connections to IPv4 backends on other nodes; zero if there is none.
    pub node4: Addr4,
    /// Likewise for IPv6.
    pub node6: Addr6,
    /// First port of the range for those connections, host order.
    pub snat_port_first: u16,
    /// Last port of that range, host order, inclusive.
    pub snat_port_last: u16,
    /// A TCP connection idle for longer is forgotten.
    pub tcp_idle_seconds: u32,
    /// A UDP conversation idle for longer is forgotten.
    pub udp_idle_seconds: u32,
    /// How often a running flow is reported.
    pub flow_report_seconds: u32,
    /// Bits of [`DatapathConfig::CAPTURE_FLOWS`].
    pub flags: u32,
    /// Mark of packets that the WireGuard device has encrypted (`skb->mark`).
    pub encrypted_mark: u32,
    /// MTU of the WireGuard device, bytes from the network header on; zero while there is none.
    pub encrypted_mtu: u32,
    /// Until then (`CLOCK_MONOTONIC`) the connection table may still be filled from that of another
    /// layout: what is not found in it may be known all the same. Zero almost always.
    pub carrying_over_until_ns: u64,
    /// The largest packet that every peer of the device can be sent, bytes from the network header on.
    pub encrypted_mtu_least: u32,
    /// Number of the WireGuard device's interface; zero while there is none.
    pub encrypted_ifindex: u32,
    /// UDP port of the WireGuard devices of all nodes.
    pub encrypted_port: Be16,
    /// Zero.
    pub _pad: [u16; 3],
    /// Zero.
    #[cfg(feature = "wider-layout")]
    pub _wider: u64,
}

impl DatapathConfig {
    /// Emit flow events.
    pub const CAPTURE_FLOWS: u32 = 1;
    /// Traffic between pods of different nodes is encrypted.
    pub const ENCRYPT: u32 = 2;
    /// Such traffic is dropped where it would leave in clear text.
    pub const STRICT: u32 = 4;
    /// What nodes themselves send each other is encrypted too.
    pub const ENCRYPT_NODES: u32 = 8;
    /// Packets of pods pass the node's stack by on their way to the WireGuard device and from it.
    pub const BPF_HOST_ROUTING: u32 = 16;
}

/// Bytes that the feature `wider-layout` adds.
const WIDER: usize = if cfg!(feature = "wider-layout") { 8 } else { 0 };

layout!(DatapathConfig, size = 80 + WIDER, node4 @ 8, node6 @ 12, snat_port_first @ 28, flags @ 44, encrypted_mtu @ 52, carrying_over_until_ns @ 56, encrypted_mtu_least @ 64, encrypted_port @ 72);
