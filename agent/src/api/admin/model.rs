//! What the agent tells of itself, as plain data.

use std::net::{IpAddr, SocketAddr};

use ebpf_abi::Counter;

use crate::state::{L4Protocol, ObjectName};

/// Answers what the admin API cannot know itself. Called on threads that may block.
///
/// An error is shown to the person who asked; it should say what failed and where to look.
pub trait StatusSource: Send + Sync {
    /// State of the data path and of the source.
    fn status(&self) -> anyhow::Result<AgentStatus>;

    /// One counter of the programs.
    fn counter(&self, counter: Counter) -> anyhow::Result<u64>;

    /// The services that the data path balances.
    fn services(&self) -> anyhow::Result<Vec<Service>>;

    /// The interfaces that lead to pods of this node.
    fn endpoint_interfaces(&self) -> anyhow::Result<Vec<EndpointInterface>>;
}

/// State of the data path and of the source.
#[derive(Clone, Debug, Default)]
pub struct AgentStatus {
    /// The programs in the kernel.
    pub datapath: DatapathStatus,
    /// Names and values of the counters, in the order to show them.
    pub counters: Vec<(String, u64)>,
    /// The maps that can run full.
    pub maps: Vec<MapLevel>,
    /// How much is balanced.
    pub balancer: BalancerStatus,
    /// Where the desired state comes from.
    pub source: SourceStatus,
    /// What the agent has yet to finish before it is ready.
    pub waiting_for: Vec<String>,
    /// What of its own work failed or is missing, and what to do.
    pub failures: Vec<String>,
}

/// The programs in the kernel.
#[derive(Clone, Debug, Default)]
pub struct DatapathStatus {
    /// [`ebpf_abi::ABI_VERSION`] of the pinned maps.
    pub abi_version: u32,
    /// Interfaces with programs on them.
    pub interfaces: Vec<Interface>,
    /// Attach types of the cgroup hooks: `connect4`.
    pub cgroup_hooks: Vec<String>,
    /// Path of their cgroup; empty if there are none.
    pub cgroup: String,
    /// The maps of an earlier agent were adopted.
    pub adopted: bool,
    /// [`ebpf_abi::DatapathConfig::generation`].
    pub generation: u32,
}

/// An interface with programs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index in the node's network namespace.
    pub index: u32,
    /// What it leads to.
    pub role: InterfaceRole,
    /// How XDP runs on it; `None` without an XDP program.
    pub xdp_mode: Option<XdpMode>,
    /// How TC programs are attached to it; `None` without TC programs.
    pub tc_mode: Option<TcMode>,
}

/// What an interface leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceRole {
    /// The network outside.
    Uplink,
    /// A pod.
    Pod,
}

/// How XDP runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the stack.
    Generic,
}

/// How TC programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcMode {
    /// By a BPF link.
    Tcx,
    /// As a filter of the qdisc `clsact`.
    Clsact,
}

/// How much is balanced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalancerStatus {
    /// Sets of backends: one per port and address family of a Service.
    pub services: usize,
    /// Addresses that clients dial.
    pub frontends: usize,
    /// Backends, each counted once.
    pub backends: usize,
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapLevel {
    /// Its name.
    pub name: String,
    /// Entries in it.
    pub entries: u64,
    /// Entries it can hold.
    pub capacity: u64,
}

/// Where the desired state comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// `manifests` or another kind.
    pub kind: String,
    /// Where it reads.
    pub location: String,
    /// Revision of the state.
    pub revision: u64,
    /// The first full read is done and taken over.
    pub synced: bool,
}

/// A Service as the data path balances it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// Its sets of backends: one per port and address family.
    pub ports: Vec<ServicePort>,
}

/// A set of backends and the frontends that share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name of the port in the Service, empty if it has none.
    pub name: String,
    /// [`ebpf_abi::ServiceId`] of the set.
    pub id: u32,
    /// Transport protocol.
    pub protocol: L4Protocol,
    /// What clients dial.
    pub frontends: Vec<Frontend>,
    /// Where it goes.
    pub backends: Vec<Backend>,
    /// Slots in its Maglev table; zero while there is no backend.
    pub table_size: u32,
}

/// What clients dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// Address and port.
    pub address: SocketAddr,
    /// Kind of the address.
    pub scope: Scope,
}

/// Kinds of frontend addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Address of the Service inside the cluster.
    ClusterIp,
    /// Port on the addresses of the nodes.
    NodePort,
    /// Entry of `spec.externalIPs`.
    ExternalIp,
    /// Address given by a load balancer.
    LoadBalancer,
}

/// Where a service's traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// [`ebpf_abi::BackendId`].
    pub id: u32,
    /// Address and port.
    pub address: SocketAddr,
    /// It runs on this node.
    pub local: bool,
    /// Whether it gets connections.
    pub state: BackendState,
    /// Slots of the set's Maglev table that hold it.
    pub slots: u32,
}

/// Whether a backend gets connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// It gets new connections.
    Ready,
    /// It keeps its connections and gets no new ones.
    Terminating,
    /// It gets none.
    NotReady,
}

/// The interface that leads to an address of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointInterface {
    /// The pod's address.
    pub address: IpAddr,
    /// Name of the node's end of the interface.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// How TC programs are attached to it; `None` without TC programs.
    pub tc_mode: Option<TcMode>,
}
