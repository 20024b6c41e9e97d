//! The kernel side of the agent: what it can do, what is loaded into it, and where it is attached.
//!
//! The only importer of aya. On start the maps pinned by an earlier agent are adopted and the new
//! programs take the place of the running ones link by link, each replacement atomic, so packets
//! never find a hook empty. Nothing here is undone when the agent stops; see [`remove`] for that.
//!
//! - [`probe`]: what this kernel and its devices support.
//! - [`interfaces`]: which interfaces there are, and what they are to the data plane.
//! - [`pins`]: where maps and links stay between two agents.
//! - [`load`]: maps and programs into the kernel.
//! - [`carry_over`]: from another version's maps and links to those of this one.
//! - [`attach`]: programs to interfaces and the cgroup.
//! - [`maps`], [`settings`], [`counters`], [`events`], [`encryption_maps`]: typed handles on the maps.
//! - [`link`], `syscall`: replacing the program behind a link, and other calls of bpf(2) for which
//!   aya has nothing safe.
//! - [`program_log`]: what programs say that were built for debugging.

pub mod attach;
pub mod carry_over;
pub mod counters;
pub mod encryption_maps;
pub mod events;
pub mod interfaces;
pub mod link;
pub mod load;
pub mod maps;
pub mod pins;
#[cfg(test)]
pub(crate) mod private_namespace;
pub mod probe;
pub mod program_log;
pub mod remove;
pub mod settings;
mod syscall;

pub use load::{LoadError, Loaded};
pub use pins::Pins;
