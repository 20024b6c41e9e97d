//! Follows the network interfaces of this node: which the data plane attaches to, as what, and
//! which addresses the node has.
//!
//! [`decode`] reads messages and [`select`] decides on roles (both pure), [`table`] remembers what the kernel said and what was told to the
//! reader and works out the difference (pure), [`watch`] talks to the kernel. The reader gets the
//! present state first, then [`InterfaceEvent::SnapshotComplete`], then changes. Notifications are
//! only hints to look again: when the kernel says that some were lost, everything is read anew and
//! the reader gets the difference.
//!
//! Only uplinks and interfaces of pods are told. A link that stops being either counts as removed,
//! whether or not it still exists.
//!
//! Which addresses the cluster knows this node by comes from elsewhere ([`NodeAddresses`]), and may come
//! late or never: until then, what an earlier agent attached to stays, see [`InterfaceEvent::Settled`].

pub mod decode;
pub mod route;
pub mod select;
pub mod table;
pub mod watch;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use select::DeviceSelector;
pub use watch::InterfaceWatcher;

/// What an interface is to the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Faces other nodes and clients outside.
    Uplink,
    /// Faces a pod.
    Pod,
}

/// Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Debug for MacAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.map(|byte| format!("{byte:02x}")).join(":"))
    }
}

/// An interface the data plane attaches to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Number of the interface in this network namespace; never used twice while the node runs.
    pub ifindex: u32,
    /// Name, which an operator may change.
    pub name: String,
    /// What the interface is.
    pub role: Role,
    /// Largest packet in bytes, counted from the network header.
    pub mtu: u32,
    /// Address of the interface.
    pub mac: MacAddr,
    /// Whether it is one end of a veth pair, whose frames never were on a wire.
    pub is_veth: bool,
}

/// Addresses of this node on its uplinks: the source of connections to backends on other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct UplinkAddresses {
    /// IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// IPv6 address that is not link-local.
    pub v6: Option<Ipv6Addr>,
}

impl UplinkAddresses {
    /// The first of each family.
    fn first_of(addresses: &[IpAddr]) -> Self {
        let v4 = |address: &IpAddr| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        };
        let v6 = |address: &IpAddr| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(*address),
        };
        Self {
            v4: addresses.iter().find_map(v4),
            v6: addresses.iter().find_map(v6),
        }
    }

    /// Those there are, IPv4 first.
    pub fn all(self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.map(IpAddr::V4);
        v4.into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

/// What the uplinks make of the node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OwnAddresses {
    /// Where its connections to backends on other nodes start.
    pub source: UplinkAddresses,
    /// Where it answers node ports, besides the addresses of its Node object: at one of each family of
    /// every uplink, and at those above.
    pub served: BTreeSet<IpAddr>,
}

/// The addresses that the cluster knows this node by.
#[derive(Clone, Debug)]
pub struct NodeAddresses {
    /// Those that the data path was found with: they stand in for the others until these are known.
    pub adopted: Vec<IpAddr>,
    /// Those that the Node object names, the best one first; `None` while nobody can tell. They stay as
    /// they are when the sender is gone.
    pub named: tokio::sync::watch::Receiver<Option<Vec<IpAddr>>>,
}

impl NodeAddresses {
    /// Nobody ever tells.
    pub fn unknown() -> Self {
        Self {
            adopted: Vec::new(),
            named: tokio::sync::watch::channel(None).1,
        }
    }
}

/// Something to act upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceEvent {
    /// Attach to this interface.
    Added(Interface),
    /// The name, MTU or MAC of an interface told before became this. Its role never changes this
    /// way: that is a removal and an addition.
    Changed(Interface),
    /// Detach from this interface; it may be gone already.
    Removed(Interface),
    /// The node's addresses are these now. Told before the snapshot is complete, if there are any.
    Addresses(OwnAddresses),
    /// Everything there was at the start has been told, but for uplinks that only the Node object makes
    /// such. Comes exactly once.
    SnapshotComplete,
    /// Those have been told, too: what has not been is no interface of ours, whatever an earlier agent
    /// took it for. Comes once, after [`Self::SnapshotComplete`]; not before the Node object or its absence
    /// is known where uplinks depend on it.
    Settled,
}
