//! All maps: who writes, who reads, what a miss means.
//!
//! Capacities here are defaults; the agent overrides those of the tables it sizes by configuration.

use aya_ebpf::bindings::{BPF_F_INNER_MAP, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{
    Array, HashMap, HashOfMaps, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf,
};
use aya_ebpf::macros::btf_map;
use ebpf_abi::backend::MaglevChunk;
use ebpf_abi::frontend::FRONTEND_WORDS;
use ebpf_abi::{
    Addr4, Addr6, BackendId, BackendValue, ConntrackValue, Counter, DatapathConfig, FlowEvent,
    FlowKey, FlowValue, FrontendKey, FrontendValue, IpcacheValue, ServiceId, SocketKey,
    SocketValue, TrafficKey, TrafficValue, Tuple,
};

/// 64 Ki frontends: 20,000 Services of three ports.
const FRONTENDS: usize = 65_536;
/// One table per port and address family of a Service.
const SERVICES: usize = 65_536;
const BACKENDS: usize = 131_072;
pub(crate) const CONNECTIONS: usize = 262_144;
pub(crate) const FLOWS: usize = 65_536;
const SOCKETS: usize = 65_536;
/// Ranges of 5,000 nodes with exceptions, or the single pods of a cluster whose nodes have no ranges.
const IPCACHE: usize = 524_288;
/// Eight ways to each of 8,192 nodes.
const TRAFFIC_ACCOUNTS: usize = 65_536;
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// What clients dial → the service behind it.
///
/// Written by the agent only, after the table and the backends it leads to; on removal it goes
/// first. Read on a connection's first packet and when a socket dials. Miss: not a service.
#[btf_map]
pub static FRONTENDS4: HashMap<FrontendKey<Addr4>, FrontendValue, FRONTENDS, NO_PREALLOC> =
    HashMap::new();
/// As [`FRONTENDS4`].
#[btf_map]
pub static FRONTENDS6: HashMap<FrontendKey<Addr6>, FrontendValue, FRONTENDS, NO_PREALLOC> =
    HashMap::new();

/// Which addresses and ports may be frontends, see [`ebpf_abi::frontend::frontend_bit`]: most
/// packets are for none, and this spares them two look-ups.
///
/// Written by the agent before the frontend. Never cleared: connections outlive the frontend they
/// were opened through.
#[btf_map]
pub static FRONTEND_BITS: Array<u64, FRONTEND_WORDS> = Array::new();

/// Backend number → address and port.
///
/// Written by the agent before any table names the number, removed after none does. A miss for a
/// known connection means its backend was removed.
#[btf_map]
pub static BACKENDS4: HashMap<BackendId, BackendValue<Addr4>, BACKENDS, NO_PREALLOC> =
    HashMap::new();
/// As [`BACKENDS4`].
#[btf_map]
pub static BACKENDS6: HashMap<BackendId, BackendValue<Addr6>, BACKENDS, NO_PREALLOC> =
    HashMap::new();

/// One service's Maglev table. Its size differs from service to service, which the kernel allows
/// for arrays with `BPF_F_INNER_MAP` (5.10).
pub type MaglevTable = Array<MaglevChunk, 1, { BPF_F_INNER_MAP as usize }>;

/// Service → its Maglev table. Replaced as a whole by the agent. Miss: no backends.
#[btf_map]
pub static MAGLEV: HashOfMaps<ServiceId, MaglevTable, SERVICES> = HashOfMaps::new();

/// Packet as it arrives → what to make of it. Written and read by the programs; the least recently
/// used entries make room. Miss: first packet of a connection, or none of ours.
#[btf_map]
pub static CONNTRACK4: LruHashMap<Tuple<Addr4>, ConntrackValue<Addr4>, CONNECTIONS> =
    LruHashMap::new();
/// As [`CONNTRACK4`].
#[btf_map]
pub static CONNTRACK6: LruHashMap<Tuple<Addr6>, ConntrackValue<Addr6>, CONNECTIONS> =
    LruHashMap::new();

/// What was reported of a flow. Kept apart from the connection table so that traffic we merely
/// observe never evicts a connection that we translate. Miss: a flow to report.
#[btf_map]
pub static FLOWS4: LruHashMap<FlowKey<Addr4>, FlowValue, FLOWS> = LruHashMap::new();
/// As [`FLOWS4`].
#[btf_map]
pub static FLOWS6: LruHashMap<FlowKey<Addr6>, FlowValue, FLOWS> = LruHashMap::new();

/// Socket and backend → the frontend that the process dialled. Miss: not translated.
#[btf_map]
pub static SOCKETS4: LruHashMap<SocketKey<Addr4>, SocketValue<Addr4>, SOCKETS> = LruHashMap::new();
/// As [`SOCKETS4`].
#[btf_map]
pub static SOCKETS6: LruHashMap<SocketKey<Addr6>, SocketValue<Addr6>, SOCKETS> = LruHashMap::new();

/// Range of addresses → whose they are.
///
/// Written by the agent only. Read at the uplinks and pods while encryption is on. Miss: no address
/// of the cluster.
#[btf_map]
pub static IPCACHE4: LpmTrie<Addr4, IpcacheValue, IPCACHE> = LpmTrie::new();
/// As [`IPCACHE4`].
#[btf_map]
pub static IPCACHE6: LpmTrie<Addr6, IpcacheValue, IPCACHE> = LpmTrie::new();

/// Node and way → packets and bytes that went there. Removed by the agent when a node is gone. Miss:
/// none so far.
#[btf_map]
pub static TRAFFIC: PerCpuHashMap<TrafficKey, TrafficValue, TRAFFIC_ACCOUNTS, NO_PREALLOC> =
    PerCpuHashMap::new();

/// Flow events for the agent. Full means an event is lost, which [`Counter::EventsLost`] counts.
#[btf_map]
pub static EVENTS: RingBuf<FlowEvent, { 4 << 20 }> = RingBuf::new();

/// [`Counter`]s.
#[btf_map]
pub static COUNTERS: PerCpuArray<u64, { Counter::COUNT }> = PerCpuArray::new();

/// Of [`Counter::EventsLost`], how many an agent has told of. Written and read by agents alone; here, as
/// it has to begin and end with the counter.
#[btf_map]
pub static EVENTS_LOST_TOLD: Array<u64, 1> = Array::new();

/// The one [`DatapathConfig`], written by the agent.
#[btf_map]
pub static CONFIG: Array<DatapathConfig, 1> = Array::new();

/// A connection being opened: too large for the stack, which calls share 512 bytes of.
#[repr(C)]
pub struct Pending<A> {
    /// Entry for the client's packets; its key is the packet's own tuple.
    pub request: ConntrackValue<A>,
    /// Entry for the answers.
    pub reply: ConntrackValue<A>,
    /// Key of that entry.
    pub reply_key: Tuple<A>,
}

/// Room for one [`Pending`] per CPU.
///
/// Used at ingress hooks only. They run with bottom halves disabled, so one program at a time uses
/// a CPU's element.
#[btf_map]
pub static PENDING4: PerCpuArray<Pending<Addr4>, 1> = PerCpuArray::new();
/// As [`PENDING4`].
#[btf_map]
pub static PENDING6: PerCpuArray<Pending<Addr6>, 1> = PerCpuArray::new();
