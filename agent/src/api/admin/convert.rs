//! The plain data of the admin API -> protobuf.

use weir_proto::admin as proto;

use super::model::{
    Backend, BackendState, DatapathStatus, EndpointInterface, Interface, InterfaceRole, MapLevel,
    Scope, Service, ServicePort, SourceStatus, TcMode, XdpMode,
};
use super::proto_protocol;
use crate::flows::identity::IdentityId;
use crate::state::{Pod, Problem, Severity};

impl From<DatapathStatus> for proto::Datapath {
    fn from(status: DatapathStatus) -> Self {
        Self {
            abi_version: status.abi_version,
            interfaces: status.interfaces.into_iter().map(Into::into).collect(),
            cgroup_hooks: status.cgroup_hooks,
            cgroup: status.cgroup,
            adopted: status.adopted,
            generation: status.generation,
        }
    }
}

impl From<Interface> for proto::Interface {
    fn from(interface: Interface) -> Self {
        let role = match interface.role {
            InterfaceRole::Uplink => proto::InterfaceRole::Uplink,
            InterfaceRole::Pod => proto::InterfaceRole::Pod,
        };
        let xdp_mode = match interface.xdp_mode {
            Some(XdpMode::Native) => proto::XdpMode::Native,
            Some(XdpMode::Generic) => proto::XdpMode::Generic,
            None => proto::XdpMode::Unspecified,
        };
        Self {
            name: interface.name,
            index: interface.index,
            role: role.into(),
            xdp_mode: xdp_mode.into(),
            tc_mode: tc_mode(interface.tc_mode).into(),
        }
    }
}

fn tc_mode(mode: Option<TcMode>) -> proto::TcMode {
    match mode {
        Some(TcMode::Tcx) => proto::TcMode::Tcx,
        Some(TcMode::Clsact) => proto::TcMode::Clsact,
        None => proto::TcMode::Unspecified,
    }
}

impl From<MapLevel> for proto::MapLevel {
    fn from(level: MapLevel) -> Self {
        Self {
            name: level.name,
            entries: level.entries,
            capacity: level.capacity,
        }
    }
}

impl From<SourceStatus> for proto::Source {
    fn from(source: SourceStatus) -> Self {
        Self {
            kind: source.kind,
            location: source.location,
            revision: source.revision,
            synced: source.synced,
        }
    }
}

impl From<Problem> for proto::Problem {
    fn from(problem: Problem) -> Self {
        let severity = match problem.severity {
            Severity::Warning => proto::Severity::Warning,
            Severity::Error => proto::Severity::Error,
        };
        Self {
            severity: severity.into(),
            origin: problem.origin,
            object: problem.object,
            field: problem.field,
            message: problem.message,
        }
    }
}

impl From<Service> for proto::Service {
    fn from(service: Service) -> Self {
        Self {
            namespace: service.name.namespace.to_string(),
            name: service.name.name.to_string(),
            ports: service.ports.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<ServicePort> for proto::ServicePort {
    fn from(port: ServicePort) -> Self {
        let frontend = |frontend: super::Frontend| proto::Frontend {
            address: frontend.address.ip().to_string(),
            port: frontend.address.port().into(),
            protocol: proto_protocol(port.protocol).into(),
            scope: scope(frontend.scope).into(),
        };
        Self {
            name: port.name,
            id: port.id,
            frontends: port.frontends.into_iter().map(frontend).collect(),
            backends: port.backends.into_iter().map(Into::into).collect(),
            table_size: port.table_size,
        }
    }
}

fn scope(scope: Scope) -> proto::Scope {
    match scope {
        Scope::ClusterIp => proto::Scope::ClusterIp,
        Scope::NodePort => proto::Scope::NodePort,
        Scope::ExternalIp => proto::Scope::ExternalIp,
        Scope::LoadBalancer => proto::Scope::LoadBalancer,
    }
}

impl From<Backend> for proto::Backend {
    fn from(backend: Backend) -> Self {
        let state = match backend.state {
            BackendState::Ready => proto::BackendState::Ready,
            BackendState::Terminating => proto::BackendState::Terminating,
            BackendState::NotReady => proto::BackendState::NotReady,
        };
        Self {
            id: backend.id,
            address: backend.address.ip().to_string(),
            port: backend.address.port().into(),
            local: backend.local,
            state: state.into(),
            slots: backend.slots,
        }
    }
}

/// A pod of this node with what is known of its interface.
pub(super) fn endpoint(
    pod: &Pod,
    interface: Option<&EndpointInterface>,
    identity: IdentityId,
    labels: Vec<String>,
) -> proto::Endpoint {
    proto::Endpoint {
        namespace: pod.name.namespace.to_string(),
        name: pod.name.name.to_string(),
        addresses: pod.ips.iter().map(ToString::to_string).collect(),
        identity: identity.0,
        interface: interface
            .map(|found| found.name.clone())
            .unwrap_or_default(),
        interface_index: interface.map_or(0, |found| found.index),
        tc_mode: tc_mode(interface.and_then(|found| found.tc_mode)).into(),
        labels,
    }
}
