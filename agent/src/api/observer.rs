//! The flow API: `observer.Observer`.

mod stream;

use std::pin::Pin;

use futures::Stream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};
use weir_proto::observer::observer_server::Observer;
use weir_proto::observer::{
    GetAgentEventsRequest, GetAgentEventsResponse, GetDebugEventsRequest, GetDebugEventsResponse,
    GetFlowsRequest, GetFlowsResponse, GetNamespacesRequest, GetNamespacesResponse,
    GetNodesRequest, GetNodesResponse, Namespace, Node, ServerStatusRequest, ServerStatusResponse,
    Tls,
};
use weir_proto::relay::NodeState;
use weir_proto::{FLOW_API_LEVEL, SERVER_VERSION_HEADER};

use self::stream::FlowStream;
use super::Api;

/// Serves flows of one node.
pub(super) struct ObserverService {
    api: Api,
    stop: CancellationToken,
}

impl ObserverService {
    pub(super) fn new(api: Api, stop: CancellationToken) -> Self {
        Self { api, stop }
    }
}

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// An answer that says which level of the API it follows.
#[expect(clippy::unnecessary_wraps, reason = "what every handler returns")]
fn answer<T>(message: T) -> Result<Response<T>, Status> {
    let mut response = Response::new(message);
    let level = MetadataValue::from_static(FLOW_API_LEVEL);
    response.metadata_mut().insert(SERVER_VERSION_HEADER, level);
    Ok(response)
}

#[tonic::async_trait]
impl Observer for ObserverService {
    type GetFlowsStream = Answers<GetFlowsResponse>;
    type GetAgentEventsStream = Answers<GetAgentEventsResponse>;
    type GetDebugEventsStream = Answers<GetDebugEventsResponse>;

    async fn get_flows(
        &self,
        request: Request<GetFlowsRequest>,
    ) -> Result<Response<Self::GetFlowsStream>, Status> {
        let request = request.into_inner();
        let stop = self.stop.clone();
        let stream = FlowStream::open(&self.api.hub, &self.api.node_name, &request, stop)?;
        answer(Box::pin(stream.into_stream()))
    }

    async fn get_agent_events(
        &self,
        _request: Request<GetAgentEventsRequest>,
    ) -> Result<Response<Self::GetAgentEventsStream>, Status> {
        Err(Status::unimplemented("this agent keeps no agent events"))
    }

    async fn get_debug_events(
        &self,
        _request: Request<GetDebugEventsRequest>,
    ) -> Result<Response<Self::GetDebugEventsStream>, Status> {
        Err(Status::unimplemented("this agent keeps no debug events"))
    }

    async fn get_nodes(
        &self,
        _request: Request<GetNodesRequest>,
    ) -> Result<Response<GetNodesResponse>, Status> {
        let stats = self.api.hub.stats();
        let node = Node {
            name: self.api.node_name.clone(),
            version: version(),
            // Reached through the socket that this answer comes from; it has no other address.
            address: String::new(),
            state: NodeState::NodeConnected.into(),
            tls: Some(Tls::default()),
            uptime_ns: stats.uptime.as_nanos() as u64,
            num_flows: stats.stored,
            max_flows: stats.capacity,
            seen_flows: stats.seen,
        };
        answer(GetNodesResponse { nodes: vec![node] })
    }

    async fn get_namespaces(
        &self,
        _request: Request<GetNamespacesRequest>,
    ) -> Result<Response<GetNamespacesResponse>, Status> {
        let names = self.api.hub.namespaces();
        let namespace = |name: &std::sync::Arc<str>| Namespace {
            cluster: String::new(),
            namespace: name.to_string(),
        };
        answer(GetNamespacesResponse {
            namespaces: names.iter().map(namespace).collect(),
        })
    }

    async fn server_status(
        &self,
        _request: Request<ServerStatusRequest>,
    ) -> Result<Response<ServerStatusResponse>, Status> {
        let stats = self.api.hub.stats();
        answer(ServerStatusResponse {
            num_flows: stats.stored,
            max_flows: stats.capacity,
            seen_flows: stats.seen,
            uptime_ns: stats.uptime.as_nanos() as u64,
            num_connected_nodes: None,
            num_unavailable_nodes: None,
            unavailable_nodes: Vec::new(),
            version: version(),
            flows_rate: stats.rate,
        })
    }
}

/// The product's own version, in words.
fn version() -> String {
    format!("weir v{}", env!("CARGO_PKG_VERSION"))
}
