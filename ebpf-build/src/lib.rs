//! Finds the eBPF toolchain and compiles the kernel programs with it.
//!
//! Place in the three paths: none at run time. `ebpf-object/build.rs` calls this crate to embed
//! the objects, `xtask` calls it to say what a machine lacks.
//!
//! Two toolchains serve, and the search takes the first that is complete: a rustup nightly with
//! the `rust-src` component, or the distribution's compiler with its packaged sources (Debian's
//! `rustc-web` and `rust-web-src`). Both need `bpf-linker`.
//!
//! Invariants:
//! - A missing toolchain is a value ([`MissingToolchain`]), never a failed build: the userspace
//!   crates must build with plain stable Rust.
//! - An error in the programs is a failed build ([`CompileError`]), never a missing object.
//! - Nothing here writes outside the target directory it was given, and nothing here installs.

mod compile;
mod environment;
mod places;
mod toolchain;

pub use compile::{BINARIES, CompileError, Compiled, Request, clippy, compile};
pub use places::Places;
pub use toolchain::{
    Compiler, Flavor, Linker, Missing, MissingToolchain, OLDEST_COMPILER, Toolchain,
};
