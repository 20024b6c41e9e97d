//! The desired state: typed tables of what the cluster looks like, as the sources told it.
//!
//! On the path of a change: `source` converts objects into these types and applies them; `lb` reads
//! them to plan map writes; `flows` reads them to name addresses. Pure and synchronous: no I/O, no
//! runtime, no Kubernetes type. Nothing here knows which source an object came from.

pub mod cluster;
pub mod endpoint_slice;
pub mod name;
pub mod namespace;
pub mod node;
pub mod pod;
pub mod problem;
pub mod service;

pub use cluster::{Change, ClusterState, Object, SharedState};
pub use endpoint_slice::{Endpoint, EndpointPort, EndpointSlice};
pub use name::{Kind, ObjectKey, ObjectName};
pub use namespace::Namespace;
pub use node::Node;
pub use pod::{Pod, Workload};
pub use problem::{Problem, Severity};
pub use service::{L4Protocol, Service, ServicePort};
