//! EndpointSlices: the addresses behind a Service.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

use super::{L4Protocol, ObjectName};

/// A port that all endpoints of a slice serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointPort {
    /// Name of the Service port it belongs to, empty if unnamed.
    pub name: String,
    /// Protocol.
    pub protocol: L4Protocol,
    /// Port the endpoint listens on.
    pub port: u16,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its address. (Kubernetes allows several and defines only the first.)
    pub address: IpAddr,
    /// `conditions.ready`, true when absent.
    pub ready: bool,
    /// `conditions.serving`, the value of `ready` when absent.
    pub serving: bool,
    /// `conditions.terminating`, false when absent.
    pub terminating: bool,
    /// Node it runs on, if known.
    pub node_name: Option<Arc<str>>,
    /// Zone of that node, if known.
    pub zone: Option<Arc<str>>,
}

/// A slice of the endpoints of one Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSlice {
    /// Name of the slice.
    pub name: ObjectName,
    /// Name of its Service (label `kubernetes.io/service-name`), in the same namespace; empty if it is of
    /// none, and then it has no endpoints here.
    pub service: Arc<str>,
    /// Ports of all its endpoints.
    pub ports: Vec<EndpointPort>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
}
