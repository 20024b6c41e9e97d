//! Where the desired state comes from.
//!
//! On the path of a change, first step: a source watches something (the API server, or a directory
//! of manifests), reads Kubernetes objects, [`convert`]s them into the types of `state` and
//! applies the differences in one update. Nothing behind `state` knows which source it was.
//!
//! Input is what users wrote, so nothing in it may stop the agent or harm another object: whatever
//! is wrong becomes a [`Finding`], which names the field and says what happens instead.

pub mod convert;
mod finding;
pub mod kubernetes;
pub mod manifests;

pub use finding::{Finding, Findings};
