//! What `cargo xtask bench` measures.

pub mod encryption;
pub mod maglev;
pub mod xdp;
