//! WireGuard between nodes: keys, the device, its peers, the routes that lead into it.
//!
//! Part of the path of a change: what the objects in `state` ask for is compared with what the
//! kernel has, and only the difference is written.
//!
//! ```text
//!          ┌─▶ peers ──▶ peers::plan ───▶ device    ─┐
//! desired ─┼─▶ routes ─▶ routing::plan ─▶ routing    ├─ driven by reconcile ─▶ snapshot
//! pure     └─▶ ranges ──────────────────▶ maps, file ─┘
//!                        pure
//! ```
//!
//! - [`desired`] (pure): who is a peer, which routes lead there, which ranges are guarded.
//! - [`peers`] (pure): what to change about the device's peers.
//! - [`routing`]: rules and routes in a table of our own; what to change about them is decided by
//!   its `plan` (pure).
//! - [`device`]: the WireGuard device, in the kernel or in a process. [`userspace`] is that process;
//!   [`wireguard_service`] runs it as a service beside the agent.
//! - [`guarded`]: the guarded ranges in a file, for the time after a reboot.
//! - [`reconcile`]: drives device, routing and guarded ranges, in an order that leaves nothing
//!   unguarded.
//! - [`snapshot`]: what came of it, for status, the admin API and metrics.
//! - [`key`], [`published`]: the node's private key and the secrets of pairs; the public keys of all
//!   nodes, on Node objects or in a folder.
//! - [`path_mtu`], [`mtu`]: how large packets to each peer may be.
//! - [`settings`]: what else of the host decides whether packets pass.
//! - [`link`], `values`: network interfaces; types for the kernel's numbers and names.
//!
//! Invariants: what is not ours is never changed, only named; a private key is never printed;
//! a session is never reset for a change that concerns another peer.

pub mod desired;
pub mod device;
pub mod guarded;
pub mod key;
pub mod link;
pub mod mtu;
pub mod path_mtu;
pub mod peers;
pub mod published;
pub mod reconcile;
pub mod routing;
pub mod settings;
pub mod snapshot;
pub mod userspace;
mod values;
pub mod wireguard_service;

pub use values::{
    FirewallMark, InterfaceName, InvalidValue, Port, Prefix, RouteTable, RulePriority,
};
