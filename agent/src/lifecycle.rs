//! How the agent starts, runs and stops.
//!
//! - [`ready`]: what still has to happen before the agent counts as ready.
//! - [`drain`]: the set of long-running tasks, and how they end together.
//! - [`pace`]: how often work may be done that changes ask for.
//! - [`signal`]: what the operator asks for by signal.
//! - [`log`]: the log on standard error.
//!
//! Stopping never touches the data plane: programs, maps and links stay attached and pinned.

pub mod drain;
pub mod log;
pub mod pace;
pub mod ready;
pub mod signal;

pub use drain::{Outcome, TaskSet};
pub use pace::Pace;
pub use ready::{InStep, Readiness, ReadyGuard};
pub use signal::{Signal, Signals};
