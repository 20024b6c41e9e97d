//! Checks what a cluster promises with real connections: pods reach pods and services, nodes reach
//! pods, node ports answer from outside, nothing leaves in clear text, and the agents saw it all.
//!
//! The suite knows a cluster as an [`Inventory`]: who asks, who answers, under which addresses. From
//! it [`mod@plan`] makes cases, which is pure; [`Suite`] runs them wherever a [`Place`] can run
//! `weir`: by commands such as `ip netns exec` or `ssh` ([`Commands`]), or in pods that it made
//! itself ([`kubernetes`]). Whoever asks and answers is the program `weir` itself ([`probe`],
//! [`serve`]), so that nothing else must be installed.
//!
//! ```text
//! file ────────┐
//!              ├─▶ Inventory ─▶ plan ─▶ cases ─▶ Place runs probes ─▶ judge ─▶ Report
//! Kubernetes ──┘                                 Place asks agents ─▶ flows, encryption
//! ```

mod check;
mod commands;
mod encryption;
mod expect;
pub mod flows;
pub mod inventory;
pub mod kubernetes;
mod place;
pub mod plan;
pub mod probe;
mod report;
pub mod serve;
mod suite;

pub use check::{Check, Selection};
pub use commands::{Commands, StartError};
pub use inventory::Inventory;
pub use place::{Place, Ran, Spot, Unreachable};
pub use report::{CaseResult, Group, Outcome, Report};
pub use suite::{Settings, Suite};
