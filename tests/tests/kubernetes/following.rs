//! The source at work in this process.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use weir_agent::config;
use weir_agent::lifecycle::Readiness;
use weir_agent::source::kubernetes::{self, Inputs, Pauses, Record, Timing};
use weir_agent::state::{ClusterState, OwnAnnotations, Service, SharedState};
use weir_tests::wait::patiently;

/// How long anything may take.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Name of the node whose agent it would be.
pub const NODE: &str = "this";

/// Times of a test: short.
pub fn timing() -> Timing {
    Timing {
        page_idle: Duration::from_millis(500),
        page: Duration::from_secs(2),
        watch: Duration::from_mins(1),
        watch_idle: Duration::from_mins(1),
        pauses: Pauses {
            first: Duration::from_millis(20),
            longest: Duration::from_millis(200),
        },
        healthy: Duration::from_secs(2),
        mistakes: Duration::from_millis(100),
        renewal: Duration::from_millis(100),
        patience: Duration::from_millis(700),
    }
}

/// The source, and what it fills.
pub struct Following {
    pub state: SharedState,
    pub synced: watch::Receiver<bool>,
    pub readiness: Readiness,
    pub annotations: watch::Sender<OwnAnnotations>,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Following {
    /// Follows the server at a URL, says nothing of the node, and keeps its files in `folder`.
    pub fn url(url: &str, folder: &Path, timing: Timing) -> Self {
        let mut settings = settings_for(url, folder);
        settings.node.publish = false;
        settings.node.taint = None;
        settings.events.enabled = false;
        Self::start(settings, folder, timing)
    }

    /// Likewise, and says of the node and of mistakes what there is to say.
    pub fn talking(url: &str, folder: &Path, timing: Timing) -> Self {
        Self::start(settings_for(url, folder), folder, timing)
    }

    pub fn start(settings: config::Kubernetes, folder: &Path, timing: Timing) -> Self {
        let (state, readiness) = (SharedState::new(), Readiness::new());
        let (synced_sender, synced) = watch::channel(false);
        let (annotations, receiver) = watch::channel(OwnAnnotations::new());
        let stop = CancellationToken::new();
        let inputs = Inputs {
            settings,
            node_name: NODE.to_owned(),
            state_folder: folder.to_owned(),
            state: state.clone(),
            synced: synced_sender,
            record: Record {
                readiness: readiness.clone(),
                annotations: receiver,
            },
            timing,
        };
        let task = tokio::spawn(kubernetes::run(inputs, stop.clone()));
        Self {
            state,
            synced,
            readiness,
            annotations,
            stop,
            task,
        }
    }

    /// Waits until it has told that it is in step.
    pub async fn synced(&mut self) {
        let synced = self.synced.wait_for(|synced| *synced);
        let in_time = timeout(patiently(DEADLINE), synced).await.is_ok();
        assert!(in_time, "not in step: {:?}", self.problems());
    }

    /// Waits for a condition of the tables.
    pub async fn until(&self, what: &str, holds: impl Fn(&ClusterState) -> bool) {
        let start = Instant::now();
        while !holds(&self.state.read()) {
            let is_late = start.elapsed() > patiently(DEADLINE);
            assert!(!is_late, "waited for {what}; {:?}", self.problems());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the Services, by name, have these first addresses.
    pub async fn until_ips(&self, expected: &[&str]) {
        let what = format!("{expected:?}");
        self.until(&what, |cluster| ips(cluster) == expected).await;
    }

    /// Waits until nothing is wrong.
    pub async fn until_well(&self) {
        let is_well = |cluster: &ClusterState| cluster.problems().next().is_none();
        self.until("the problems to go", is_well).await;
    }

    pub fn problems(&self) -> Vec<String> {
        let cluster = self.state.read();
        cluster.problems().map(ToString::to_string).collect()
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// Settings with a kubeconfig that leads to this server.
pub fn settings_for(url: &str, folder: &Path) -> config::Kubernetes {
    let text = json!({
        "clusters": [{ "name": "c", "cluster": { "server": url } }],
        "users": [{ "name": "u", "user": {} }],
        "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u" } }],
        "current-context": "x",
    });
    settings(folder, &text.to_string())
}

/// Settings with a kubeconfig of this text.
pub fn settings(folder: &Path, kubeconfig: &str) -> config::Kubernetes {
    let path = folder.join("kubeconfig");
    fs::write(&path, kubeconfig).unwrap();
    config::Kubernetes {
        kubeconfig: Some(path),
        ..config::Kubernetes::default()
    }
}

/// First addresses of all Services that have one, by name.
pub fn ips(cluster: &ClusterState) -> Vec<String> {
    let first = |service: &Service| service.cluster_ips.first().map(ToString::to_string);
    cluster.services().filter_map(first).collect()
}
