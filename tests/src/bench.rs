//! What `cargo xtask bench` measures.

pub mod maglev;
pub mod xdp;
