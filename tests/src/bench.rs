//! What `cargo xtask bench` measures.

pub mod encryption;
pub mod maglev;
pub mod source;
pub mod xdp;
