//! The agent's own service: `weir.admin.v1.Admin`.
//!
//! What it tells of flows and pods it knows itself; the rest it asks of a [`StatusSource`], which
//! the wiring implements over the data path and the balancer.

mod convert;
mod encryption;
mod model;

use std::collections::BTreeMap;
use std::sync::Arc;

use ebpf_abi::Counter;
use tonic::{Request, Response, Status};
use weir_proto::admin as proto;
use weir_proto::admin::admin_server::Admin;

pub use self::model::{
    AgentStatus, Backend, BackendState, BalancerStatus, DatapathStatus, EndpointInterface,
    Frontend, Interface, InterfaceRole, MapLevel, Scope, Service, ServicePort, SourceStatus,
    StatusSource, TcMode, XdpMode,
};
use super::Api;
use crate::encryption::snapshot::handle::RotateError;
use crate::flows::hub::HubStats;
use crate::flows::identity::pod_labels;
use crate::state::{L4Protocol, Pod};

/// Serves the admin API.
pub(super) struct AdminService(Api);

impl AdminService {
    pub(super) fn new(api: Api) -> Self {
        Self(api)
    }

    /// Asks the source on a thread that may block, because it reads maps.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn StatusSource) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        let source = Arc::clone(&self.0.status);
        blocking(move || question(&*source)).await
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn status(
        &self,
        _request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        let status = self.ask(|source| source.status()).await?;
        let flows = flow_status(&self.0.hub.stats());
        let mut problems: Vec<_> = self.0.state.read().problems().cloned().collect();
        problems.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
        Ok(Response::new(proto::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node_name: self.0.node_name.clone(),
            uptime: self.0.hub.stats().uptime.try_into().ok(),
            datapath: Some(status.datapath.into()),
            counters: status
                .counters
                .into_iter()
                .map(|(name, value)| proto::Counter { name, value })
                .collect(),
            maps: status.maps.into_iter().map(Into::into).collect(),
            source: Some(status.source.into()),
            problems: problems.into_iter().map(Into::into).collect(),
            flows: Some(flows),
            waiting_for: status.waiting_for,
            failures: status.failures,
            encryption: Some(encryption::summary(self.0.encryption.as_ref())),
        }))
    }

    async fn list_services(
        &self,
        _request: Request<proto::ListServicesRequest>,
    ) -> Result<Response<proto::ListServicesResponse>, Status> {
        let mut services = self.ask(|source| source.services()).await?;
        services.sort_by(|a, b| a.name.cmp(&b.name));
        let services = services.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListServicesResponse { services }))
    }

    async fn list_backends(
        &self,
        _request: Request<proto::ListBackendsRequest>,
    ) -> Result<Response<proto::ListBackendsResponse>, Status> {
        let services = self.ask(|source| source.services()).await?;
        Ok(Response::new(proto::ListBackendsResponse {
            backends: backend_uses(&services),
        }))
    }

    async fn list_endpoints(
        &self,
        _request: Request<proto::ListEndpointsRequest>,
    ) -> Result<Response<proto::ListEndpointsResponse>, Status> {
        let interfaces = self.ask(|source| source.endpoint_interfaces()).await?;
        let cluster = self.0.state.read();
        let here = Some(self.0.node_name.as_str());
        let endpoint = |pod: &Pod| {
            let interface = interfaces
                .iter()
                .find(|found| pod.ips.contains(&found.address));
            let labels = pod_labels(pod, cluster.namespace(&pod.name.namespace));
            convert::endpoint(pod, interface, self.0.identities.of(&labels), labels)
        };
        // Pods on the host network have no interface and no identity of their own.
        let mut endpoints: Vec<_> = cluster
            .pods()
            .filter(|pod| pod.node_name.as_deref() == here && !pod.host_network && !pod.finished)
            .map(endpoint)
            .collect();
        endpoints.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok(Response::new(proto::ListEndpointsResponse { endpoints }))
    }

    async fn encryption_status(
        &self,
        _request: Request<proto::EncryptionStatusRequest>,
    ) -> Result<Response<proto::EncryptionStatusResponse>, Status> {
        let handle = self.0.encryption.as_ref();
        Ok(Response::new(encryption::status(handle)))
    }

    async fn list_peers(
        &self,
        _request: Request<proto::ListPeersRequest>,
    ) -> Result<Response<proto::ListPeersResponse>, Status> {
        let handle = encryption::on(self.0.encryption.as_ref())?;
        Ok(Response::new(encryption::peers(&handle.snapshot())))
    }

    async fn encryption_report(
        &self,
        _request: Request<proto::EncryptionReportRequest>,
    ) -> Result<Response<proto::EncryptionReportResponse>, Status> {
        let handle = encryption::on(self.0.encryption.as_ref())?;
        let snapshot = handle.snapshot();
        let account = blocking(move || handle.account()).await?;
        let unaccounted = |source: &dyn StatusSource| source.counter(Counter::TrafficUnaccounted);
        let mut report = encryption::report(&snapshot, &account);
        report.unaccounted_packets = self.ask(unaccounted).await?;
        Ok(Response::new(report))
    }

    async fn rotate_key(
        &self,
        _request: Request<proto::RotateKeyRequest>,
    ) -> Result<Response<proto::RotateKeyResponse>, Status> {
        let handle = encryption::on(self.0.encryption.as_ref())?;
        let rotation = handle.rotate().await.map_err(|error| match error {
            RotateError::InProgress { .. } => Status::failed_precondition(error.to_string()),
            RotateError::Store(_) => Status::internal(crate::error_chain(&error)),
            RotateError::Ended => Status::unavailable(error.to_string()),
        })?;
        let rotation = Some(encryption::rotation(rotation));
        Ok(Response::new(proto::RotateKeyResponse { rotation }))
    }
}

/// Answers on a thread that may block.
async fn blocking<T: Send + 'static>(
    question: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(question)
        .await
        .map_err(|_| Status::internal("the agent failed to answer; its log has the reason"))?
        .map_err(|error| Status::internal(format!("{error:#}")))
}

fn flow_status(stats: &HubStats) -> proto::Flows {
    proto::Flows {
        seen: stats.seen,
        stored: stats.stored,
        capacity: stats.capacity,
        rate: stats.rate,
        lost: stats
            .lost
            .by_place()
            .map(|(name, value)| proto::Counter {
                name: name.to_owned(),
                value,
            })
            .into_iter()
            .collect(),
    }
}

/// One element per backend, with all services that use it.
fn backend_uses(services: &[Service]) -> Vec<proto::BackendUse> {
    let mut rows: BTreeMap<_, (Backend, Vec<String>)> = BTreeMap::new();
    for service in services {
        for port in &service.ports {
            for backend in &port.backends {
                let key = (backend.address, port.protocol, backend.id);
                let (total, users) = rows.entry(key).or_insert_with(|| {
                    (
                        Backend {
                            slots: 0,
                            ..*backend
                        },
                        Vec::new(),
                    )
                });
                total.slots += backend.slots;
                let name = service.name.to_string();
                if !users.contains(&name) {
                    users.push(name);
                }
            }
        }
    }
    rows.into_iter()
        .map(
            |((_, protocol, _), (backend, services))| proto::BackendUse {
                backend: Some(backend.into()),
                protocol: proto_protocol(protocol).into(),
                services,
            },
        )
        .collect()
}

fn proto_protocol(protocol: L4Protocol) -> proto::Protocol {
    match protocol {
        L4Protocol::Tcp => proto::Protocol::Tcp,
        L4Protocol::Udp => proto::Protocol::Udp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ObjectName;

    #[test]
    fn a_backend_of_several_services_is_listed_once() {
        let backend = |id, address: &str, slots| Backend {
            id,
            address: address.parse().unwrap(),
            local: false,
            state: BackendState::Ready,
            slots,
        };
        let service = |name: &str, protocol, backends| Service {
            name: ObjectName::new("shop", name),
            ports: vec![ServicePort {
                name: String::new(),
                id: 1,
                protocol,
                frontends: Vec::new(),
                backends,
                table_size: 251,
            }],
        };
        let tcp = L4Protocol::Tcp;
        let services = [
            service(
                "a",
                tcp,
                vec![backend(2, "10.0.0.2:80", 5), backend(1, "10.0.0.1:80", 6)],
            ),
            service("b", tcp, vec![backend(1, "10.0.0.1:80", 7)]),
            service("c", L4Protocol::Udp, vec![backend(9, "10.0.0.1:80", 1)]),
        ];
        let uses: Vec<_> = backend_uses(&services)
            .into_iter()
            .map(|one| {
                let backend = one.backend.unwrap();
                (
                    backend.id,
                    backend.address,
                    backend.slots,
                    one.services.join(" "),
                )
            })
            .collect();
        let row = |id, address: &str, slots, services: &str| {
            (id, address.to_owned(), slots, services.to_owned())
        };
        assert_eq!(
            uses,
            [
                row(1, "10.0.0.1", 13, "shop/a shop/b"),
                row(9, "10.0.0.1", 1, "shop/c"),
                row(2, "10.0.0.2", 5, "shop/a"),
            ]
        );
    }
}
