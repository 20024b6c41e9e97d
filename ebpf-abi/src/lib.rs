//! Every byte that crosses the line between the kernel programs and userspace, declared once.
//!
//! Layouts (map keys, map values, ring-buffer records) are `#[repr(C)]`, hold only fixed-width
//! integers and newtypes over them, spell out their padding, and assert size and offsets, so a
//! change that would silently shift a field does not compile. The packet code (parsing, hashing,
//! checksum arithmetic) is here too, because it runs in the kernel *and* under `cargo test`.
//!
//! # Byte order
//! [`Be16`], [`Addr4`] and [`Addr6`] hold bytes as they are on the wire. Every other integer is in
//! host order. A bare integer field in network order would end in `_be`; there is none.
//!
//! # Changing a layout
//! Bump [`ABI_VERSION`]: maps are pinned below a folder of that name, so an agent with another
//! layout never adopts them. It carries their entries over instead, up and down, by a rule that needs
//! no knowledge of the other version:
//!
//! - a map's name stands for its kind, its key and the meaning of its fields. What changes one of
//!   them gets a new name, and starts empty;
//! - fields are only ever added at the end of a value, and zero in them means "not known". An entry
//!   is carried over by cutting it off there, or by filling it up with zeros.
//!
//! Counters, drop reasons and the other numbered lists are append-only.
#![cfg_attr(not(test), no_std)]

pub mod address;
pub mod backend;
pub mod bench;
pub mod checksum;
pub mod config;
pub mod conntrack;
pub mod counter;
pub mod drop_reason;
pub mod event;
pub mod flow;
pub mod frontend;
pub mod hash;
pub mod ipcache;
mod layout;
pub mod packet;
pub mod socket;
pub mod tcp;
pub mod traffic;
pub mod tuple;

pub use address::{Addr4, Addr6, Address, Be16, Family};
pub use backend::{BackendId, BackendValue};
pub use config::DatapathConfig;
pub use conntrack::{ConntrackValue, NextHop};
pub use counter::Counter;
pub use drop_reason::DropReason;
pub use event::FlowEvent;
pub use flow::{FlowKey, FlowValue};
pub use frontend::{FrontendKey, FrontendValue, ServiceId};
pub use ipcache::{IpcacheValue, NodeId};
pub use socket::{SocketKey, SocketValue};
pub use traffic::{TrafficKey, TrafficPath, TrafficValue};
pub use tuple::{Protocol, Tuple};

/// Version of every layout in this crate. Part of the path below which maps are pinned.
///
/// With the feature `wider-layout`, for tests of upgrades, it is one more.
pub const ABI_VERSION: u32 = 4 + cfg!(feature = "wider-layout") as u32;
