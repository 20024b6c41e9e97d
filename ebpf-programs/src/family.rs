//! What differs between IPv4 and IPv6: maps, header offsets, address family of the kernel.

use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::btf_maps::lpm_trie::Key;
use ebpf_abi::packet::IPV6_LEN;
use ebpf_abi::{
    Addr4, Addr6, Address, BackendId, BackendValue, ConntrackValue, DatapathConfig, FlowKey,
    FlowValue, FrontendKey, FrontendValue, IpcacheValue, Tuple,
};

#[cfg(feature = "log")]
use aya_log_ebpf::macro_support::{Argument, IpFormatter};

use crate::access::per_cpu;
use crate::maps::{
    BACKENDS4, BACKENDS6, CONNECTIONS, CONNTRACK4, CONNTRACK6, FLOWS, FLOWS4, FLOWS6, FRONTENDS4,
    FRONTENDS6, IPCACHE4, IPCACHE6, PENDING4, PENDING6, Pending,
};

/// The kernel's `AF_INET`.
const AF_INET: u8 = 2;
/// The kernel's `AF_INET6`.
const AF_INET6: u8 = 10;

/// An address family, as the programs use it.
pub trait Ip: Address {
    /// `AF_INET` or `AF_INET6`.
    const AF: u8;
    /// Offset of the source address in the network header; the destination follows it.
    const ADDRESSES_OFFSET: usize;
    /// Offset of the TTL or hop limit in the network header.
    const TTL_OFFSET: usize;
    /// Offset of the header checksum in the network header, if it has one.
    const CHECKSUM_OFFSET: Option<usize>;
    /// Bytes of the network header without options.
    const NETWORK_LEN: usize;
    /// Bytes of network and TCP header without options.
    const HEADERS_LEN: u32;

    fn conntrack() -> &'static LruHashMap<Tuple<Self>, ConntrackValue<Self>, CONNECTIONS>;
    fn flows() -> &'static LruHashMap<FlowKey<Self>, FlowValue, FLOWS>;
    fn frontend(key: &FrontendKey<Self>) -> Option<FrontendValue>;
    fn backend(id: BackendId) -> Option<BackendValue<Self>>;
    /// The node's own address, the source of what it sends on; zero if it has none.
    fn node(config: &DatapathConfig) -> Self;
    fn is_unset(self) -> bool;
    /// Whose address this is.
    fn ipcache(address: &Self) -> Option<IpcacheValue>;
    /// True if it is the address of a pod of this node.
    #[inline(always)]
    fn is_own_pod(&self) -> bool {
        const OWN_POD: u32 = IpcacheValue::POD | IpcacheValue::LOCAL;
        Self::ipcache(self).is_some_and(|known| known.flags & OWN_POD == OWN_POD)
    }
    /// This CPU's room for opening a connection.
    fn pending() -> Option<&'static mut Pending<Self>>;
    /// The address as log lines take it.
    #[cfg(feature = "log")]
    fn shown(self) -> impl Argument + IpFormatter;
}

impl Ip for Addr4 {
    const AF: u8 = AF_INET;
    const ADDRESSES_OFFSET: usize = 12;
    const TTL_OFFSET: usize = 8;
    const CHECKSUM_OFFSET: Option<usize> = Some(10);
    const NETWORK_LEN: usize = 20;
    const HEADERS_LEN: u32 = 40;

    #[inline(always)]
    fn conntrack() -> &'static LruHashMap<Tuple<Self>, ConntrackValue<Self>, CONNECTIONS> {
        &CONNTRACK4
    }

    #[inline(always)]
    fn flows() -> &'static LruHashMap<FlowKey<Self>, FlowValue, FLOWS> {
        &FLOWS4
    }

    #[inline(always)]
    fn frontend(key: &FrontendKey<Self>) -> Option<FrontendValue> {
        // SAFETY: not preallocated, so the kernel frees a removed entry only after the program ends.
        unsafe { FRONTENDS4.get(key) }.copied()
    }

    #[inline(always)]
    fn backend(id: BackendId) -> Option<BackendValue<Self>> {
        // SAFETY: as for frontends.
        unsafe { BACKENDS4.get(id) }.copied()
    }

    #[inline(always)]
    fn node(config: &DatapathConfig) -> Self {
        config.node4
    }

    #[inline(always)]
    fn is_unset(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    fn ipcache(address: &Self) -> Option<IpcacheValue> {
        IPCACHE4.get(&Key::new(32, *address)).copied()
    }

    #[inline(always)]
    fn pending() -> Option<&'static mut Pending<Self>> {
        per_cpu(&PENDING4, 0)
    }

    #[cfg(feature = "log")]
    #[inline(always)]
    fn shown(self) -> impl Argument + IpFormatter {
        self.0.to_ne_bytes()
    }
}

impl Ip for Addr6 {
    const AF: u8 = AF_INET6;
    const ADDRESSES_OFFSET: usize = 8;
    const TTL_OFFSET: usize = 7;
    const CHECKSUM_OFFSET: Option<usize> = None;
    const NETWORK_LEN: usize = IPV6_LEN;
    const HEADERS_LEN: u32 = 60;

    #[inline(always)]
    fn conntrack() -> &'static LruHashMap<Tuple<Self>, ConntrackValue<Self>, CONNECTIONS> {
        &CONNTRACK6
    }

    #[inline(always)]
    fn flows() -> &'static LruHashMap<FlowKey<Self>, FlowValue, FLOWS> {
        &FLOWS6
    }

    #[inline(always)]
    fn frontend(key: &FrontendKey<Self>) -> Option<FrontendValue> {
        // SAFETY: as for IPv4.
        unsafe { FRONTENDS6.get(key) }.copied()
    }

    #[inline(always)]
    fn backend(id: BackendId) -> Option<BackendValue<Self>> {
        // SAFETY: as for IPv4.
        unsafe { BACKENDS6.get(id) }.copied()
    }

    #[inline(always)]
    fn node(config: &DatapathConfig) -> Self {
        config.node6
    }

    #[inline(always)]
    fn is_unset(self) -> bool {
        let [a, b, c, d] = self.0;
        a | b | c | d == 0
    }

    #[inline(always)]
    fn ipcache(address: &Self) -> Option<IpcacheValue> {
        IPCACHE6.get(&Key::new(128, *address)).copied()
    }

    #[inline(always)]
    fn pending() -> Option<&'static mut Pending<Self>> {
        per_cpu(&PENDING6, 0)
    }

    #[cfg(feature = "log")]
    #[inline(always)]
    fn shown(self) -> impl Argument + IpFormatter {
        bytemuck::cast::<[u32; 4], [u8; 16]>(self.0)
    }
}
