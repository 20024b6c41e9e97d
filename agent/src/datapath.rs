//! The kernel side of the agent: what it can do, what is loaded into it, and where it is attached.

pub mod interfaces;
