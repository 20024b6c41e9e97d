//! Nodes, pods and clients.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::Place;
use crate::agent::Agent;
use crate::binary::Binary;
use crate::plan::{ClientPlan, DualAddress, NodePlan, PodPlan};
use crate::traffic::{Job as _, Server, server};

/// A node: a place with an agent.
#[derive(Debug)]
pub struct Node {
    pub(super) plan: NodePlan,
    pub(super) place: Place,
    pub(super) agent: Option<Agent>,
}

impl Node {
    /// Addresses on the underlay.
    pub fn address(&self) -> DualAddress {
        self.plan.address
    }

    /// The node's agent.
    ///
    /// # Errors
    ///
    /// When the cluster was built without agents.
    pub fn agent(&self) -> Result<&Agent> {
        self.agent.as_ref().context("this cluster has no agents")
    }

    pub(super) fn detach(&self) {
        self.agent.iter().for_each(Agent::detach);
    }
}

impl Deref for Node {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

/// A pod: a place with servers, once started.
#[derive(Debug)]
pub struct Pod {
    pub(super) plan: PodPlan,
    pub(super) node: String,
    pub(super) place: Place,
    pub(super) log: PathBuf,
    pub(super) server: Mutex<Option<Child>>,
}

impl Pod {
    /// Its addresses.
    pub fn address(&self) -> DualAddress {
        self.plan.address
    }

    /// Name of its node.
    pub fn node_name(&self) -> &str {
        &self.node
    }

    /// The node's end of its veth.
    pub fn host_interface(&self) -> &str {
        &self.plan.host_interface
    }

    /// Starts its servers and returns when they listen.
    ///
    /// # Errors
    ///
    /// When they run already or do not come up; their words are in the pod's log.
    pub fn serve(&self) -> Result<()> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if server.is_some() {
            bail!("the servers of {} run already", self.name());
        }
        let name = self.name().to_owned();
        let job = Server {
            name,
            addresses: self.address().both().to_vec(),
        };
        let mut command = self.command(Binary::Traffic.path()?)?;
        command
            .args([Server::KIND, &serde_json::to_string(&job)?])
            .process_group(0);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.open_log()?);
        let mut child = command
            .spawn()
            .with_context(|| format!("{}: start", self.name()))?;
        let stdout = child
            .stdout
            .take()
            .context("its standard output is a pipe")?;
        *server = Some(child);
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .context("read from the server")?;
        if line.trim_end() != server::READY {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            bail!(
                "the servers of {} did not come up: {line}{log}",
                self.name()
            );
        }
        Ok(())
    }

    /// Ends its servers at once, as a pod that is killed.
    pub fn stop_serving(&self) {
        let server = self
            .server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut server) = server {
            // Errors mean that it is gone; waiting makes sure that no zombie stays.
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    fn open_log(&self) -> Result<File> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        log.with_context(|| format!("open {}", self.log.display()))
    }

    pub(super) fn detach(&self) {
        self.server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

impl Deref for Pod {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.stop_serving();
    }
}

/// A machine outside the cluster.
#[derive(Debug)]
pub struct Client {
    pub(super) plan: ClientPlan,
    pub(super) place: Place,
}

impl Client {
    /// Addresses on the underlay.
    pub fn address(&self) -> DualAddress {
        self.plan.address
    }
}

impl Deref for Client {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}
