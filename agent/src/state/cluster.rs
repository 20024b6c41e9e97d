//! All tables together, and the handle that sources and readers share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::watch;

use super::{
    EndpointSlice, Kind, L4Protocol, Namespace, Node, ObjectKey, ObjectName, Pod, Problem, Service,
};

/// An object of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service(Service),
    /// An EndpointSlice.
    EndpointSlice(EndpointSlice),
    /// A Pod.
    Pod(Pod),
    /// A Node.
    Node(Node),
    /// A Namespace.
    Namespace(Namespace),
}

/// One step of the desired state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The object is now like this.
    Upsert(Object),
    /// The object is gone.
    Delete(ObjectKey),
}

/// The tables. Lookups are pure; secondary indexes are private and follow every change.
#[derive(Clone, Debug, Default)]
pub struct ClusterState {
    services: BTreeMap<ObjectName, Service>,
    slices: BTreeMap<ObjectName, EndpointSlice>,
    pods: BTreeMap<ObjectName, Pod>,
    nodes: BTreeMap<String, Node>,
    namespaces: BTreeMap<String, Namespace>,
    problems: Vec<Problem>,
}
