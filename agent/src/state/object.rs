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
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Pod(_) => Kind::Pod,
            Self::Node(_) => Kind::Node,
            Self::Namespace(_) => Kind::Namespace,
        }
    }

    /// What identifies the object.
    pub fn key(&self) -> ObjectKey {
        let kind = self.kind();
        let name = match self {
            Self::Service(service) => service.name.clone(),
            Self::EndpointSlice(slice) => slice.name.clone(),
            Self::Pod(pod) => pod.name.clone(),
            Self::Node(node) => ObjectName::new("", &*node.name),
            Self::Namespace(namespace) => ObjectName::new("", &*namespace.name),
        };
        ObjectKey { kind, name }
    }
}
