use std::net::IpAddr;

use super::super::memory::MemoryMaps;
use super::*;
use crate::lifecycle::Readiness;
use crate::state::{
    AsksMore, Change, Endpoint, EndpointPort, EndpointSlice, Kind, L4Protocol, Labels, Node,
    Object, ObjectKey, ObjectName, Pod, Service, ServicePort,
};

fn ip(last: u8) -> IpAddr {
    [10, 1, 0, last].into()
}

fn service() -> Change {
    service_at(Vec::new())
}

fn service_at(external_ips: Vec<IpAddr>) -> Change {
    let port = ServicePort {
        name: String::new(),
        protocol: L4Protocol::Tcp,
        port: 80,
        node_port: None,
    };
    Change::Upsert(Object::Service(Service {
        name: ObjectName::new("shop", "web"),
        cluster_ips: vec![[10, 96, 0, 1].into()],
        external_ips,
        load_balancer_ips: vec![],
        ports: vec![port],
        publish_not_ready: false,
        asks_more: AsksMore::default(),
    }))
}

fn slice(address: u8, node: Option<&str>) -> Change {
    Change::Upsert(Object::EndpointSlice(EndpointSlice {
        name: ObjectName::new("shop", "web-1"),
        service: "web".into(),
        ports: vec![EndpointPort {
            name: String::new(),
            protocol: L4Protocol::Tcp,
            port: 8080,
        }],
        endpoints: vec![Endpoint {
            address: ip(address),
            ready: true,
            serving: true,
            terminating: false,
            node_name: node.map(Into::into),
            zone: None,
        }],
    }))
}

fn pod(address: u8, account: &str) -> Change {
    Change::Upsert(Object::Pod(Pod {
        name: ObjectName::new("shop", format!("web-{address}")),
        ips: [ip(address)].into(),
        node_name: Some("this".into()),
        host_network: false,
        finished: false,
        labels: Labels::default(),
        service_account: account.into(),
        workload: None,
    }))
}

fn pod_is_gone(address: u8) -> Change {
    Change::Delete(ObjectKey {
        kind: Kind::Pod,
        name: ObjectName::new("shop", format!("web-{address}")),
    })
}

/// A node whose pods have these addresses.
fn node(pods: &str) -> Change {
    Change::Upsert(Object::Node(Node {
        name: "other".to_owned(),
        created_at_seconds: None,
        addresses: Vec::new(),
        pod_cidrs: vec![pods.parse().unwrap()],
        labels: [].into(),
        annotations: [].into(),
    }))
}

/// The task over an empty node, which has made its first pass.
struct Running {
    state: SharedState,
    balanced: Arc<ArcSwap<Balanced>>,
    readiness: Readiness,
    _addresses: watch::Sender<BTreeSet<IpAddr>>,
    _task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn start(changes: Vec<Change>) -> Self {
        Self::over(MemoryMaps::default(), changes).await
    }

    async fn over(maps: MemoryMaps, changes: Vec<Change>) -> Self {
        let (state, balanced) = (SharedState::new(), Arc::default());
        state.update(|cluster| cluster.apply(changes));
        let (addresses, receiver) = watch::channel(BTreeSet::new());
        let (_, synced) = watch::channel(true);
        let readiness = Readiness::new();
        let inputs = Inputs {
            state: state.clone(),
            addresses: receiver,
            node: ThisNode {
                name: "this".to_owned(),
                ..ThisNode::default()
            },
            balanced: Arc::clone(&balanced),
        };
        let guard = readiness.guard("the first pass");
        let reconciler = Reconciler::new(maps, 100).unwrap();
        let task = tokio::spawn(run(
            reconciler,
            inputs,
            synced,
            guard,
            CancellationToken::new(),
        ));
        readiness.wait().await;
        Self {
            state,
            balanced,
            readiness,
            _addresses: addresses,
            _task: task,
        }
    }

    /// Makes a change; whether a pass came of it.
    async fn passes_after(&self, change: Change) -> bool {
        let before = self.balanced.load_full();
        self.state.update(|cluster| cluster.apply(vec![change]));
        // By then any rest between two passes is over. The clock is the test's.
        tokio::time::sleep(REST_MAX * 2).await;
        !Arc::ptr_eq(&before, &self.balanced.load_full())
    }

    fn frontends(&self) -> usize {
        self.balanced.load().actual.frontends.len()
    }

    fn is_local(&self) -> bool {
        let balanced = self.balanced.load();
        balanced
            .actual
            .backends
            .values()
            .any(|backend| backend.local)
    }
}

#[tokio::test(start_paused = true)]
async fn pods_ask_for_a_pass_by_what_slices_do_not_say_and_by_nothing_else() {
    let running = Running::start(vec![service(), slice(1, Some("other"))]).await;
    assert!(!running.passes_after(pod(1, "a")).await);
    assert!(!running.is_local());
    assert!(running.passes_after(slice(1, None)).await);
    assert!(running.is_local(), "the pod says so");
    assert!(
        !running.passes_after(pod(2, "a")).await,
        "it is no endpoint"
    );
    assert!(!running.passes_after(pod(1, "b")).await, "it is still here");
    assert!(running.passes_after(pod_is_gone(1)).await);
    assert!(!running.is_local());
    assert!(running.passes_after(pod(1, "b")).await);
    assert!(running.is_local());
    assert!(running.passes_after(slice(2, Some("other"))).await);
    assert!(!running.passes_after(pod_is_gone(1)).await);
}

#[tokio::test(start_paused = true)]
async fn an_external_ip_that_becomes_pods_is_served_no_more() {
    let external = vec![ip(9), [203, 0, 113, 9].into()];
    let changes = vec![service_at(external), slice(1, Some("other"))];
    let running = Running::start(changes).await;
    assert_eq!(running.frontends(), 3);
    assert!(!running.passes_after(pod(2, "a")).await);
    assert!(running.passes_after(pod(9, "a")).await);
    assert_eq!(running.frontends(), 2);
    assert!(!running.passes_after(node("10.2.0.0/24")).await);
    assert!(running.passes_after(node("203.0.113.0/24")).await);
    assert_eq!(running.frontends(), 1);
    assert!(running.passes_after(pod_is_gone(9)).await);
    assert_eq!(running.frontends(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_services_cannot_be_applied_is_not_ready_for_long() {
    let maps = MemoryMaps {
        failing_after: Some(0),
        ..MemoryMaps::default()
    };
    let running = Running::over(maps, Vec::new()).await;
    running
        .state
        .update(|cluster| cluster.apply(vec![service(), slice(1, Some("other"))]));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(running.balanced.load().failure.is_some());
    assert!(running.readiness.is_ready(), "it may yet succeed");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(running.readiness.pending(), ["the first pass"]);
}
