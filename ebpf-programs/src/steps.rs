//! The single steps of a packet's path. None of them knows a kernel verdict code.

pub mod conntrack;
pub mod frontend;
pub mod open;
pub mod refresh;
pub mod route;
pub mod select;
pub mod translate;
