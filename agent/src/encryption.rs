//! WireGuard between nodes: keys, the device, its peers, the routes that lead into it.
//!
//! Part of the path of a change: what the cluster's nodes ask for is compared with what the kernel
//! has, and only the difference is written. The modules here know the kernel and nothing of
//! Kubernetes: [`key`] (the node's private key and the secrets of pairs), [`device`] (the WireGuard
//! device, in the kernel or in a process of its own), [`peers`] (what to change about peers, pure),
//! [`routing`] (rules and routes in a table of our own), [`settings`] (what else of the host
//! decides whether packets pass) and [`mtu`]. [`apart`] serves a userspace device beside the agent.
//!
//! Invariants: what is not ours is never changed, only named; a private key is never printed;
//! a session is never reset for a change that concerns another peer.

pub mod apart;
pub mod desired;
pub mod device;
pub mod guarded;
pub mod key;
pub mod link;
pub mod mtu;
pub mod peers;
pub mod published;
pub mod reconcile;
pub mod routing;
pub mod settings;
pub mod snapshot;
pub mod tunnel;
mod values;
pub mod ways;

pub use values::{
    FirewallMark, InterfaceName, InvalidValue, Port, Prefix, RouteTable, RulePriority,
};
