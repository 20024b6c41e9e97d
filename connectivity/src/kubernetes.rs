//! A place on Kubernetes: makes pods and services in a namespace of its own, runs probes in them by
//! `exec`, asks the agents in theirs, and removes everything.
//!
//! Pods are bare and each wants one node by name, so that two nodes are enough for a cluster of any
//! size, names tell where a pod is, and no controller stands between the suite and what is not
//! ready. The image is that of the agents, which has `weir`, unless another one is given.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};

use crate::inventory::Inventory;

mod connect;
mod error;
mod exec;
mod members;
pub mod objects;
mod ready;

pub use error::KubernetesError;
use members::{Agents, members};
use objects::Plan;

/// Pause between two looks at what is not ready yet, or not gone yet.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the API server may take to remove a namespace with all that is in it.
const REMOVAL_DEADLINE: Duration = Duration::from_mins(2);
/// Where the cluster's DNS lives, and the label by which everyone finds it.
const DNS: (&str, &str) = ("kube-system", "k8s-app=kube-dns");
/// Label of the pods of agents, as they are installed.
const AGENTS: &str = "app.kubernetes.io/component=agent";

/// What to make, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// File with addresses and credentials; where `kubectl` looks if none is given.
    pub kubeconfig: Option<PathBuf>,
    /// Context of the file; the current one if none is given.
    pub context: Option<String>,
    /// Namespace to make; it must not be there.
    pub namespace: String,
    /// Image with `weir`; that of the agents if none is given.
    pub image: Option<String>,
    /// Most nodes to use.
    pub nodes: usize,
    /// Namespace of the agents; they are looked for in all if none is given.
    pub agents: Option<String>,
    /// This machine is outside of the cluster and reaches the addresses of its nodes.
    pub outside: bool,
    /// How long pods and services may take to be ready.
    pub ready_within: Duration,
}

/// The pods and services of the suite in a cluster.
pub struct Kubernetes {
    client: Client,
    settings: Settings,
    plan: Plan,
    nodes: Vec<Node>,
    agents: Agents,
    has_dns: bool,
}

impl Kubernetes {
    /// Connects and looks around; makes nothing yet.
    pub async fn prepare(settings: Settings) -> Result<Self, KubernetesError> {
        let client = connect::connect(&settings).await?;
        let all: Vec<Node> = list(&Api::all(client.clone()), "").await?;
        let agents = Agents::find(&client, settings.agents.as_deref()).await?;
        let nodes = objects::choose_nodes(&all, &agents.by_node, settings.nodes)?;
        let (image, pull_policy) = match (&settings.image, &agents.image) {
            (Some(image), _) => (image.clone(), None),
            (None, Some(image)) => (image.clone(), agents.pull_policy.clone()),
            (None, None) => return Err(KubernetesError::NoImage),
        };
        let services: Api<Service> = Api::namespaced(client.clone(), DNS.0);
        let has_dns = !list(&services, DNS.1).await?.is_empty();
        let names = nodes.iter().filter_map(|node| node.metadata.name.clone());
        let plan = Plan {
            namespace: settings.namespace.clone(),
            image,
            pull_policy,
            nodes: names.collect(),
        };
        Ok(Self {
            client,
            settings,
            plan,
            nodes,
            agents,
            has_dns,
        })
    }

    /// Where it looked, and what it found, for people.
    pub fn about(&self) -> String {
        let agents = match self.agents.by_node.len() {
            0 => "no agents: flows and encryption are not looked at".to_owned(),
            count => format!("{count} agents"),
        };
        let Plan {
            image,
            nodes,
            namespace,
            ..
        } = &self.plan;
        let nodes = nodes.join(", ");
        format!("namespace {namespace} on {nodes}, with the image {image}; {agents}")
    }

    /// Makes the namespace and all that is in it.
    ///
    /// A namespace that is there already is left alone, and nothing is made.
    pub async fn create_namespace(&self) -> Result<(), KubernetesError> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        match namespaces
            .create(&PostParams::default(), &self.plan.namespace())
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(
                KubernetesError::NamespaceExists(self.settings.namespace.clone()),
            ),
            Err(source) => Err(self.refused("the namespace", source)),
        }
    }

    /// Makes the pods and services. If it fails, what was made stays for [`Kubernetes::remove`].
    pub async fn create(&self) -> Result<(), KubernetesError> {
        let (pods, services) = (self.pods(), self.services());
        for service in self.plan.services() {
            let made = services.create(&PostParams::default(), &service).await;
            made.map_err(|source| self.refused("a service", source))?;
        }
        for pod in self.plan.pods() {
            let made = pods.create(&PostParams::default(), &pod).await;
            made.map_err(|source| self.refused("a pod", source))?;
        }
        Ok(())
    }

    /// Waits until pods and services are ready, and describes them.
    pub async fn wait_ready(&self, progress: &dyn Fn(&str)) -> Result<Inventory, KubernetesError> {
        let start = Instant::now();
        let mut last = Vec::new();
        loop {
            let pods = list(&self.pods(), "").await?;
            let services = list(&self.services(), "").await?;
            let slices: Api<EndpointSlice> = self.namespaced();
            let slices = list(&slices, "").await?;
            let waiting = ready::waiting_for(&self.plan, &pods, &services, &slices);
            if waiting.is_empty() {
                return Ok(self.inventory(&pods, &services));
            }
            if start.elapsed() >= self.settings.ready_within {
                return Err(KubernetesError::NotReady {
                    namespace: self.settings.namespace.clone(),
                    after: self.settings.ready_within,
                    waiting,
                });
            }
            if waiting != last {
                progress(&format!("waiting for {}", waiting.join("; ")));
                last = waiting;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn inventory(&self, pods: &[Pod], services: &[Service]) -> Inventory {
        let found = members::Found {
            plan: &self.plan,
            nodes: &self.nodes,
            pods,
            services,
            agents: &self.agents,
            has_dns: self.has_dns,
            outside: self.settings.outside,
        };
        members(&found)
    }

    /// Removes the namespace with all that is in it, and waits until it is gone.
    pub async fn remove(&self) -> Result<(), KubernetesError> {
        let name = &self.settings.namespace;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let deleted = namespaces.delete(name, &DeleteParams::default()).await;
        match deleted {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(source) => return Err(self.refused("the removal of the namespace", source)),
        }
        let start = Instant::now();
        while start.elapsed() < REMOVAL_DEADLINE {
            let found = namespaces.get_opt(name).await;
            if found
                .map_err(|source| self.refused("a look at the namespace", source))?
                .is_none()
            {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(KubernetesError::NotRemoved {
            namespace: name.clone(),
            after: REMOVAL_DEADLINE,
        })
    }

    fn refused(&self, what: &str, source: kube::Error) -> KubernetesError {
        let namespace = &self.settings.namespace;
        KubernetesError::Refused {
            what: format!("{what} ({namespace})"),
            source: Box::new(source),
        }
    }

    fn pods(&self) -> Api<Pod> {
        self.namespaced()
    }

    fn services(&self) -> Api<Service> {
        self.namespaced()
    }

    fn namespaced<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.settings.namespace)
    }
}

/// All objects with these labels.
async fn list<K>(api: &Api<K>, labels: &str) -> Result<Vec<K>, KubernetesError>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let found = api.list(&ListParams::default().labels(labels)).await;
    found
        .map(|found| found.items)
        .map_err(|source| KubernetesError::Refused {
            what: format!("the list of {}", api.resource_url()),
            source: Box::new(source),
        })
}

/// Names of pods by that of their node.
type ByNode = BTreeMap<String, String>;
