//! gRPC on the agent's unix socket: the flow API, the admin API, health and reflection.
//!
//! The last step of the path of a flow, and a window on the other two. Handlers read; the one that
//! changes something (`RotateKey`) asks the task that does it.

pub mod admin;
mod observer;
pub mod socket;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService as _;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tracing::warn;
use weir_proto::admin::admin_server::AdminServer;
use weir_proto::observer::observer_server::ObserverServer;

use self::admin::{AdminService, StatusSource};
use self::observer::ObserverService;
use self::socket::ApiSocket;
use crate::encryption::snapshot::handle::EncryptionHandle;
use crate::flows::{FlowHub, Identities};
use crate::state::SharedState;

/// How long a shutdown waits for calls that are under way.
const GRACE: Duration = Duration::from_secs(3);

/// What the services answer from.
#[derive(Clone)]
pub struct Api {
    /// Node that this agent serves.
    pub node_name: String,
    /// The flow store.
    pub hub: Arc<FlowHub>,
    /// Numbers of label sets, shared with the enricher.
    pub identities: Arc<Identities>,
    /// The desired state.
    pub state: SharedState,
    /// What the rest of the agent tells of itself.
    pub status: Arc<dyn StatusSource>,
    /// Encryption; `None` while it is off.
    pub encryption: Option<EncryptionHandle>,
}

/// Tells clients whether the agent is ready. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

impl Health {
    /// Health of an agent that is not ready yet.
    pub async fn starting() -> Self {
        let health = Self(HealthReporter::new());
        health.set_ready(false).await;
        health
    }

    /// Answers all health checks alike from now on.
    pub async fn set_ready(&self, ready: bool) {
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in ["", weir_proto::OBSERVER_HEALTH_SERVICE] {
            self.0.set_service_status(service, status).await;
        }
    }
}

impl Api {
    /// Serves until `stop` is cancelled. Streams that follow end with UNAVAILABLE then, and calls
    /// under way get a few seconds to end. The socket file is gone afterwards.
    pub async fn serve(
        self,
        socket: ApiSocket,
        health: &Health,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let (listener, guard) = socket.into_listener()?;
        let router = self.router(health, stop.clone())?;
        let incoming = UnixListenerStream::new(listener);
        let serving = router.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
        let deadline = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        let result = tokio::select! {
            result = serving => result.context("serving the API"),
            () = deadline => {
                warn!("calls of the API were still under way at shutdown");
                Ok(())
            }
        };
        drop(guard);
        result
    }

    fn router(self, health: &Health, stop: CancellationToken) -> anyhow::Result<Router> {
        // Only what is served is listed; the descriptors know more.
        let reflection = |own_name: &str| {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(weir_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name(ObserverServer::<ObserverService>::NAME)
                .with_service_name(AdminServer::<AdminService>::NAME)
                .with_service_name(HealthServer::<HealthService>::NAME)
                .with_service_name(own_name)
        };
        let v1 = reflection("grpc.reflection.v1.ServerReflection");
        let v1alpha = reflection("grpc.reflection.v1alpha.ServerReflection");
        let health = HealthService::from_health_reporter(health.0.clone());
        let observer = ObserverService::new(self.clone(), stop);
        Ok(Server::builder()
            .add_service(HealthServer::new(health))
            .add_service(v1.build_v1().context("building reflection v1")?)
            .add_service(
                v1alpha
                    .build_v1alpha()
                    .context("building reflection v1alpha")?,
            )
            .add_service(AdminServer::new(AdminService::new(self)))
            .add_service(ObserverServer::new(observer)))
    }
}

#[cfg(test)]
mod tests;
