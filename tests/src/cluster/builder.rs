//! Saying what a cluster shall be like.

use std::path::PathBuf;

use anyhow::Result;

use super::Cluster;
use super::build::{self, Wires};
use crate::agent::AgentConfig;
use crate::plan::{Plan, PodWiring, Shape, Via};
use crate::{manifest, run};

/// Describes a cluster to be.
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    name: String,
    nodes: usize,
    pods_per_node: usize,
    more_pods: Vec<(String, usize)>,
    clients: Vec<(String, Via)>,
    agents: Option<AgentConfig>,
    manifests: Option<PathBuf>,
    wires: Wires,
    wiring: PodWiring,
    agents_later: bool,
}

impl ClusterBuilder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            nodes: 2,
            pods_per_node: 0,
            more_pods: Vec::new(),
            clients: Vec::new(),
            agents: Some(AgentConfig::default()),
            manifests: None,
            wires: Wires::default(),
            wiring: PodWiring::default(),
            agents_later: false,
        }
    }

    /// With this many nodes, called `node1`, `node2`, ... (two, if not said)
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// With this many pods on each node, called `web-1`, `web-2`, ... across the nodes.
    #[must_use]
    pub fn pods_per_node(mut self, pods: usize) -> Self {
        self.pods_per_node = pods;
        self
    }

    /// With one more pod, on the node of this number, from 1.
    #[must_use]
    pub fn pod_on(mut self, node: usize, name: &str) -> Self {
        self.more_pods
            .push((name.to_owned(), node.saturating_sub(1)));
        self
    }

    /// With a client that reaches service addresses through `node1`.
    #[must_use]
    pub fn client(mut self, name: &str) -> Self {
        self.clients.push((name.to_owned(), Via::Node(0)));
        self
    }

    /// With a client whose connections spread over all nodes.
    #[must_use]
    pub fn client_of_all_nodes(mut self, name: &str) -> Self {
        self.clients.push((name.to_owned(), Via::AllNodes));
        self
    }

    /// With agents configured like this.
    #[must_use]
    pub fn agents(mut self, config: AgentConfig) -> Self {
        self.agents = Some(config);
        self
    }

    /// With the files of `directory` as manifests, instead of those that describe the members.
    #[must_use]
    pub fn manifests(mut self, directory: PathBuf) -> Self {
        self.manifests = Some(directory);
        self
    }

    /// With agents that wait for [`Cluster::start_agents`], or for each to be started.
    #[must_use]
    pub fn agents_later(mut self) -> Self {
        self.agents_later = true;
        self
    }

    /// With this MTU on all wires, in bytes; those of the pods are wires, too.
    #[must_use]
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.wires.mtu = Some(bytes);
        self
    }

    /// With wires as veths are, in place of wires that pass for those of network cards: checksums are left
    /// to a receiver that needs none, and what XDP sends is lost.
    #[must_use]
    pub fn plain_wires(mut self) -> Self {
        self.wires.are_plain = true;
        self
    }

    /// With pods that hang on their nodes like this.
    #[must_use]
    pub fn wiring(mut self, wiring: PodWiring) -> Self {
        self.wiring = wiring;
        self
    }

    /// Without agents: nodes only route.
    #[must_use]
    pub fn without_agents(mut self) -> Self {
        self.agents = None;
        self
    }

    /// Builds the cluster and returns when all agents are ready, unless they are for later.
    ///
    /// # Errors
    ///
    /// When the machine does not allow it or an agent does not become ready; nothing is left then.
    pub fn start(&self) -> Result<Cluster> {
        let (removed, problems) = run::sweep();
        for id in removed {
            eprintln!("removed what was left of cluster {id}");
        }
        for error in problems {
            eprintln!("{error:#}");
        }
        let plan = Plan::new(&self.shape())?;
        let cluster = build::build(&self.name, &plan, self.agents.as_ref(), self.wires)?;
        if let Some(agents) = &self.agents {
            match &self.manifests {
                // Agents that follow something else shall find nothing here.
                _ if !agents.source.is_null() => {}
                Some(directory) => cluster.apply_directory(directory)?,
                None => {
                    cluster.apply(&manifest::members(&cluster.plan.nodes, &cluster.plan.pods))?;
                }
            }
            if !self.agents_later {
                cluster.start_agents()?;
            }
        }
        Ok(cluster)
    }

    fn shape(&self) -> Shape {
        let mut pods = Vec::new();
        for node in 0..self.nodes {
            for _ in 0..self.pods_per_node {
                pods.push((format!("web-{}", pods.len() + 1), node));
            }
        }
        pods.extend(self.more_pods.clone());
        Shape {
            nodes: self.nodes,
            pods,
            clients: self.clients.clone(),
            wiring: self.wiring,
        }
    }
}
