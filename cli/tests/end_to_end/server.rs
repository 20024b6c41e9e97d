//! The server: the agent's API over a cluster of one pod, without an agent.

use std::net::Ipv4Addr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ebpf_abi::{Counter, FlowEvent};
use tokio_util::sync::CancellationToken;
use weir_agent::api::admin::{
    AgentStatus, Backend, BackendState, EndpointInterface, Frontend, Scope, Service, ServicePort,
    SourceStatus, StatusSource,
};
use weir_agent::api::socket::ApiSocket;
use weir_agent::api::{Api, Health};
use weir_agent::flows::enrich::KernelInterfaceNames;
use weir_agent::flows::{Enricher, Entry, FlowHub};
use weir_agent::state::{Change, L4Protocol, Object, ObjectName, Pod, SharedState};

struct Told {
    /// How many the only Service has.
    backends: u32,
}

impl Told {
    fn backends(&self) -> impl Iterator<Item = Backend> {
        let first = Ipv4Addr::new(10, 0, 0, 1).to_bits();
        (0..self.backends).map(move |number| Backend {
            id: 7 + number,
            address: (Ipv4Addr::from_bits(first + number), 8080).into(),
            local: true,
            state: BackendState::Ready,
            slots: 251,
        })
    }
}

impl StatusSource for Told {
    fn counter(&self, _counter: Counter) -> anyhow::Result<u64> {
        Ok(0)
    }

    fn status(&self) -> anyhow::Result<AgentStatus> {
        let source = SourceStatus {
            kind: "manifests".into(),
            location: "/etc/weir/manifests".into(),
            revision: 1,
            synced: true,
        };
        Ok(AgentStatus {
            source,
            ..AgentStatus::default()
        })
    }

    fn services(&self) -> anyhow::Result<Vec<Service>> {
        Ok(vec![Service {
            name: ObjectName::new("shop", "web"),
            ports: vec![ServicePort {
                name: "http".into(),
                id: 1,
                protocol: L4Protocol::Tcp,
                frontends: vec![Frontend {
                    address: "10.96.0.1:80".parse()?,
                    scope: Scope::ClusterIp,
                }],
                backends: self.backends().collect(),
                table_size: 251,
            }],
        }])
    }

    fn endpoint_interfaces(&self) -> anyhow::Result<Vec<EndpointInterface>> {
        Ok(Vec::new())
    }
}

/// A server on a thread of its own, with flows to publish.
pub struct Server {
    pub folder: tempfile::TempDir,
    pub hub: Arc<FlowHub>,
    pub state: SharedState,
    enricher: Enricher,
    pub stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<anyhow::Result<()>>>,
}

impl Server {
    pub fn start() -> Self {
        Self::with_backends(1)
    }

    /// With a Service of so many backends.
    pub fn with_backends(backends: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        let api = Api {
            node_name: "node-1".into(),
            hub: Arc::new(FlowHub::new(NonZeroUsize::new(20_000).unwrap())),
            identities: Arc::default(),
            state: SharedState::new(),
            status: Arc::new(Told { backends }),
            encryption: None,
        };
        let (hub, state) = (Arc::clone(&api.hub), api.state.clone());
        let names = Box::new(KernelInterfaceNames);
        let mut enricher = Enricher::new("node-1", Arc::clone(&api.identities), names);
        state.update(|cluster| {
            cluster.apply(vec![Change::Upsert(Object::Pod(Pod {
                name: ObjectName::new("shop", "web-1"),
                ips: ["10.0.0.1".parse().unwrap()].into(),
                node_name: Some("node-1".into()),
                host_network: false,
                finished: false,
                labels: [("app", "web")].into_iter().collect(),
                service_account: "".into(),
                workload: None,
            }))])
        });
        enricher.refresh(&state.read());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (bound, ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let health = Health::starting().await;
                health.set_ready(true).await;
                let socket = ApiSocket::bind(&socket)?;
                bound.send(())?;
                api.serve(socket, &health, stopped).await
            })
        });
        ready
            .recv_timeout(Duration::from_secs(10))
            .expect("the server listens");
        Self {
            folder,
            hub,
            state,
            enricher,
            stop,
            thread: Some(thread),
        }
    }

    pub fn publish(&mut self, event: FlowEvent) {
        // 2026-01-31 08:00:00.5 UTC.
        let record = self
            .enricher
            .enrich(event, 1_769_846_400_500_000_000, &self.state.read());
        self.hub.publish(&mut vec![Arc::new(Entry::Flow(record))]);
    }

    pub fn weir(&self, arguments: &[&str]) -> Command {
        let path: PathBuf = self.folder.path().join("agent.sock");
        weir(&format!("unix://{}", path.display()), arguments)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap().unwrap();
        }
    }
}

/// The program, asked of this server.
pub fn weir(server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .args(arguments)
        .env("WEIR_SERVER", server)
        .stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
