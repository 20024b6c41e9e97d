//! Objects of any kind, and changes to them.

use super::{EndpointSlice, Kind, Namespace, Node, ObjectKey, ObjectName, Pod, Service};

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

impl Object {
    /// What identifies the object.
    pub fn key(&self) -> ObjectKey {
        let (kind, name) = match self {
            Self::Service(service) => (Kind::Service, service.name.clone()),
            Self::EndpointSlice(slice) => (Kind::EndpointSlice, slice.name.clone()),
            Self::Pod(pod) => (Kind::Pod, pod.name.clone()),
            Self::Node(node) => (Kind::Node, ObjectName::new("", &*node.name)),
            Self::Namespace(namespace) => (Kind::Namespace, ObjectName::new("", &*namespace.name)),
        };
        ObjectKey { kind, name }
    }
}
