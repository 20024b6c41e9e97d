//! Nodes, pods and clients.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    pub(super) log: PathBuf,
    pub(super) server: Mutex<Option<Child>>,
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

    /// Its ranges of pods, IPv4 first.
    pub fn pod_ranges(&self) -> &[String; 2] {
        &self.plan.pod_ranges
    }

    /// Starts servers on the node itself and returns when they listen; they end with the node.
    ///
    /// # Errors
    ///
    /// When they run already or do not come up.
    pub fn serve(&self) -> Result<()> {
        start_server(&self.place, self.address(), &self.log, &self.server)
    }

    /// Removes what the kernel has of the data plane, as a reboot does: programs, maps and pins.
    ///
    /// # Errors
    ///
    /// When nothing can be run on the node.
    pub fn forget_data_plane(&self) -> Result<()> {
        let forget = "rm -rf /sys/fs/bpf/weir
            for link in $(ls /sys/class/net); do tc qdisc delete dev $link clsact || true; done";
        self.output("sh", &["-c", forget]).map(drop)
    }

    pub(super) fn detach(&self) {
        self.agent.iter().for_each(Agent::detach);
        lock(&self.server).take();
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
        start_server(&self.place, self.address(), &self.log, &self.server)
    }

    /// Ends its servers at once, as a pod that is killed.
    pub fn stop_serving(&self) {
        end_server(&self.server);
    }

    pub(super) fn detach(&self) {
        lock(&self.server).take();
    }
}

impl Deref for Pod {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        end_server(&self.server);
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

type Slot = Mutex<Option<Child>>;

fn lock(slot: &Slot) -> MutexGuard<'_, Option<Child>> {
    // A panic under the lock leaves a child or none: both are good states.
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start_server(place: &Place, addresses: DualAddress, log: &Path, slot: &Slot) -> Result<()> {
    let mut server = lock(slot);
    if server.is_some() {
        bail!("the servers of {} run already", place.name());
    }
    let job = Server {
        name: place.name().to_owned(),
        addresses: addresses.both().to_vec(),
    };
    let open_log = OpenOptions::new().create(true).append(true).open(log);
    let open_log = open_log.with_context(|| format!("open {}", log.display()))?;
    let mut command = place.command(Binary::Traffic.path()?)?;
    command
        .args([Server::KIND, &serde_json::to_string(&job)?])
        .process_group(0);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(open_log);
    let mut child = command
        .spawn()
        .with_context(|| format!("{}: start", place.name()))?;
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
        let log = std::fs::read_to_string(log).unwrap_or_default();
        bail!(
            "the servers of {} did not come up: {line}{log}",
            place.name()
        );
    }
    Ok(())
}

fn end_server(slot: &Slot) {
    if let Some(mut server) = lock(slot).take() {
        // Errors mean that it is gone; waiting makes sure that no zombie stays.
        let _ = server.kill();
        let _ = server.wait();
    }
}
