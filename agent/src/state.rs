//! The desired state: typed tables of what the cluster looks like, as the sources told it.
//!
//! On the path of a change: `source` converts objects into these types and applies them; `lb` reads
//! them to plan map writes; `flows` reads them to name addresses. Pure and synchronous: no I/O, no
//! Kubernetes type, and a runtime only in [`SharedState`], whose readers wait for its revisions.
//! Nothing here knows which source an object came from.

pub mod cluster;
pub mod endpoint_slice;
pub mod frontend;
mod index;
mod interner;
pub mod labels;
pub mod name;
pub mod namespace;
pub mod node;
pub mod object;
pub mod pod;
mod pods;
pub mod problem;
pub mod service;
pub mod shared;

pub use cluster::{ClusterState, Revisions};
pub use endpoint_slice::{Endpoint, EndpointPort, EndpointSlice};
pub use labels::Labels;
pub use name::{Kind, ObjectKey, ObjectName};
pub use namespace::Namespace;
pub use node::{KEY_ANNOTATION, NEXT_KEY_ANNOTATION, Node, OwnAnnotations};
pub use object::{Change, Object};
pub use pod::{Pod, Workload};
pub use problem::{Problem, Severity};
pub use service::{AsksMore, L4Protocol, Service, ServicePort};
pub use shared::SharedState;
