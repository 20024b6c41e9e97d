//! A real server on a socket of its own, asked by real clients.

use std::num::NonZeroUsize;
use std::path::Path;

use ebpf_abi::Counter;
use tokio::task::JoinHandle;
use tokio_stream::{StreamExt as _, iter};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use weir_proto::admin as proto;
use weir_proto::admin::admin_client::AdminClient;
use weir_proto::observer::observer_client::ObserverClient;
use weir_proto::observer::{
    GetAgentEventsRequest, GetFlowsRequest, GetNamespacesRequest, GetNodesRequest,
    ServerStatusRequest,
};

use super::admin::{
    AgentStatus, Backend, BackendState, EndpointInterface, Frontend, Scope, Service, ServicePort,
    TcMode,
};
use super::*;
use crate::flows::Entry;
use crate::flows::record::EndpointInfo;
use crate::flows::record::tests::{event, record};
use crate::state::{Change, L4Protocol, Object, ObjectName, Pod, Problem, Severity, SharedState};

mod encryption;
mod reflection;

struct Told;

impl StatusSource for Told {
    fn counter(&self, counter: Counter) -> anyhow::Result<u64> {
        Ok(counter as u64)
    }

    fn status(&self) -> anyhow::Result<AgentStatus> {
        Ok(AgentStatus {
            counters: vec![("events_sent".into(), 7)],
            ..AgentStatus::default()
        })
    }

    fn services(&self) -> anyhow::Result<Vec<Service>> {
        let port = ServicePort {
            name: "http".into(),
            id: 3,
            protocol: L4Protocol::Tcp,
            frontends: vec![Frontend {
                address: "[fd00::1]:80".parse()?,
                scope: Scope::LoadBalancer,
            }],
            backends: vec![Backend {
                id: 4,
                address: "[fd00::2]:8080".parse()?,
                local: true,
                state: BackendState::Terminating,
                slots: 0,
            }],
            table_size: 251,
        };
        let service = |name| Service {
            name: ObjectName::new("shop", name),
            ports: vec![port.clone()],
        };
        Ok(vec![service("web"), service("api")])
    }

    fn endpoint_interfaces(&self) -> anyhow::Result<Vec<EndpointInterface>> {
        anyhow::ensure!(Path::new("/").exists());
        Ok(vec![EndpointInterface {
            address: "10.0.0.1".parse()?,
            name: "veth1".into(),
            index: 12,
            tc_mode: Some(TcMode::Tcx),
        }])
    }
}

struct Running {
    folder: tempfile::TempDir,
    hub: Arc<FlowHub>,
    state: SharedState,
    health: Health,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
    channel: Channel,
}

async fn start() -> Running {
    start_with(None).await
}

async fn start_with(encryption: Option<EncryptionHandle>) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let api = Api {
        node_name: "node-1".into(),
        hub: Arc::new(FlowHub::new(NonZeroUsize::new(100).unwrap())),
        identities: Arc::default(),
        state: SharedState::new(),
        status: Arc::new(Told),
        encryption,
    };
    let (hub, state) = (Arc::clone(&api.hub), api.state.clone());
    let (health, stop) = (Health::starting().await, CancellationToken::new());
    let socket = ApiSocket::bind(&path).unwrap();
    let (served, stopped) = (health.clone(), stop.clone());
    let task = tokio::spawn(async move { api.serve(socket, &served, stopped).await });
    let endpoint = Endpoint::try_from(format!("unix://{}", path.display())).unwrap();
    let channel = endpoint.connect().await.unwrap();
    Running {
        folder,
        hub,
        state,
        health,
        stop,
        task,
        channel,
    }
}

fn publish(hub: &FlowHub, namespace: &str) {
    let mut record = record(event(("10.0.0.1", 1), ("10.0.0.2", 2)));
    let info = EndpointInfo {
        namespace: namespace.into(),
        ..EndpointInfo::default()
    };
    record.source = Arc::new(info);
    hub.publish(&mut vec![Arc::new(Entry::Flow(record))]);
}

#[tokio::test]
async fn the_observer_answers_every_call() {
    let running = start().await;
    publish(&running.hub, "shop");
    publish(&running.hub, "bank");
    let mut client = ObserverClient::new(running.channel.clone());

    let response = client.get_flows(GetFlowsRequest::default()).await.unwrap();
    assert_eq!(
        response.metadata().get("hubble-server-version").unwrap(),
        "1.19.4"
    );
    let flows: Vec<_> = response.into_inner().collect().await;
    assert_eq!(flows.len(), 2);
    assert!(
        flows
            .iter()
            .all(|flow| flow.as_ref().unwrap().node_name == "node-1")
    );

    let status = client
        .server_status(ServerStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.num_flows, status.max_flows, status.seen_flows),
        (2, 100, 2)
    );
    assert!(status.num_connected_nodes.is_none() && status.uptime_ns > 0);
    assert!(status.flows_rate > 0.0);

    let nodes = client
        .get_nodes(GetNodesRequest {})
        .await
        .unwrap()
        .into_inner()
        .nodes;
    assert_eq!(
        (nodes.len(), nodes[0].name.as_str(), nodes[0].num_flows),
        (1, "node-1", 2)
    );

    let names = client
        .get_namespaces(GetNamespacesRequest {})
        .await
        .unwrap()
        .into_inner();
    let names: Vec<_> = names
        .namespaces
        .into_iter()
        .map(|found| found.namespace)
        .collect();
    assert_eq!(names, ["bank", "shop"]);

    let events = client
        .get_agent_events(GetAgentEventsRequest::default())
        .await;
    assert_eq!(events.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_follower_gets_its_headers_at_once_and_is_told_of_the_shutdown() {
    let running = start().await;
    let mut client = ObserverClient::new(running.channel.clone());
    let request = GetFlowsRequest {
        follow: true,
        ..GetFlowsRequest::default()
    };
    let opened = tokio::time::timeout(Duration::from_secs(10), client.get_flows(request)).await;
    let mut stream = opened
        .expect("headers before the first flow")
        .unwrap()
        .into_inner();
    publish(&running.hub, "shop");
    assert!(stream.message().await.unwrap().is_some());
    running.stop.cancel();
    assert_eq!(
        stream.message().await.unwrap_err().code(),
        Code::Unavailable
    );
    drop((client, stream, running.channel));
    let stopped = tokio::time::timeout(Duration::from_secs(10), running.task).await;
    stopped.expect("the server stops").unwrap().unwrap();
    assert!(!running.folder.path().join("agent.sock").exists());
}

#[tokio::test]
async fn a_client_that_stays_does_not_keep_the_server_from_stopping() {
    let running = start().await;
    let mut client = ObserverClient::new(running.channel.clone());
    client.server_status(ServerStatusRequest {}).await.unwrap();
    running.stop.cancel();
    let stopped = tokio::time::timeout(Duration::from_secs(10), running.task).await;
    stopped.expect("the server stops").unwrap().unwrap();
}

#[tokio::test]
async fn health_follows_readiness() {
    let running = start().await;
    let mut client = HealthClient::new(running.channel.clone());
    for (ready, expected) in [(None, 2), (Some(true), 1), (Some(false), 2)] {
        if let Some(ready) = ready {
            running.health.set_ready(ready).await;
        }
        for service in ["", "hubble.server.Observer"] {
            let request = HealthCheckRequest {
                service: service.into(),
            };
            let status = client.check(request).await.unwrap().into_inner().status;
            assert_eq!(status, expected, "{service:?} {ready:?}");
        }
    }
    let other = HealthCheckRequest {
        service: "other".into(),
    };
    assert_eq!(
        client.check(other).await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn the_admin_service_joins_what_it_knows_with_what_it_is_told() {
    let running = start().await;
    publish(&running.hub, "shop");
    running.state.update(|cluster| {
        let problem = |severity, message: &str| Problem {
            severity,
            origin: "a.yaml:1".into(),
            object: String::new(),
            field: String::new(),
            message: message.into(),
        };
        let problems = vec![
            problem(Severity::Warning, "unknown"),
            problem(Severity::Error, "wrong"),
        ];
        cluster.set_problems("manifests", problems);
        let pod = |name: &str, node: &str, host_network| {
            Change::Upsert(Object::Pod(Pod {
                name: ObjectName::new("shop", name),
                ips: ["10.0.0.1".parse().unwrap()].into(),
                node_name: Some(node.into()),
                host_network,
                finished: false,
                labels: crate::state::Labels::default(),
                service_account: "".into(),
                workload: None,
            }))
        };
        let pods = vec![
            pod("web", "node-1", false),
            pod("far", "node-2", false),
            pod("h", "node-1", true),
        ];
        cluster.apply(pods)
    });
    let mut client = AdminClient::new(running.channel.clone());

    let status = client
        .status(proto::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.node_name.as_str(), status.counters[0].value),
        ("node-1", 7)
    );
    let messages: Vec<_> = status.problems.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(messages, ["wrong", "unknown"]);
    let flows = status.flows.unwrap();
    assert_eq!(
        (flows.seen, flows.stored, flows.capacity, flows.lost.len()),
        (1, 1, 100, 3)
    );

    let services = client
        .list_services(proto::ListServicesRequest {})
        .await
        .unwrap()
        .into_inner();
    let names: Vec<_> = services
        .services
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert_eq!(names, ["api", "web"]);
    let frontend = &services.services[0].ports[0].frontends[0];
    assert_eq!((frontend.address.as_str(), frontend.port), ("fd00::1", 80));
    assert_eq!(frontend.scope(), proto::Scope::LoadBalancer);

    let backends = client
        .list_backends(proto::ListBackendsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(backends.backends.len(), 1);
    assert_eq!(backends.backends[0].services, ["shop/web", "shop/api"]);

    let endpoints = client
        .list_endpoints(proto::ListEndpointsRequest {})
        .await
        .unwrap();
    let endpoints = endpoints.into_inner().endpoints;
    assert_eq!(endpoints.len(), 1);
    let endpoint = &endpoints[0];
    assert_eq!(
        (endpoint.name.as_str(), endpoint.interface.as_str()),
        ("web", "veth1")
    );
    assert_eq!(endpoint.tc_mode(), proto::TcMode::Tcx);
    assert!(endpoint.identity >= 256 && !endpoint.labels.is_empty());
}
