//! A cluster of network namespaces and its members.
//!
//! Dropping a [`Cluster`] prints the ends of its agents' logs and removes it, also while a panic
//! unwinds; a signal removes it too, and what a killed process left is removed when the next
//! cluster starts (see [`crate::run`]).

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::capture::between::NodeOnWire;
use crate::manifest::Manifest;
use crate::plan::{self, Plan, UPLINK};
use crate::run::{self, Record};
use crate::wait;

mod build;
mod builder;
mod members;

pub use builder::ClusterBuilder;
pub use members::{Client, Node, Pod};

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    record: Record,
    plan: Plan,
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    clients: Vec<Client>,
    underlay: crate::Place,
    native_xdp: Result<(), String>,
    kept: bool,
}

impl Cluster {
    /// A cluster called `name`: two nodes with agents, no pods, no clients, until said otherwise.
    pub fn builder(name: &str) -> ClusterBuilder {
        ClusterBuilder::new(name)
    }

    /// Id of the run: in the names of everything that belongs to it.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// What is known of the run without this object.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// All names and addresses.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The pods.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// The clients.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// The pods called `web-1`, `web-2`, ...: those of [`ClusterBuilder::pods_per_node`].
    pub fn web_pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods
            .iter()
            .filter(|pod| pod.name().starts_with("web-"))
    }

    /// The node `name`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        find(&self.nodes, name, |node| node.name())
    }

    /// The pod `name`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        find(&self.pods, name, |pod| pod.name())
    }

    /// The client `name`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn client(&self, name: &str) -> Result<&Client> {
        find(&self.clients, name, |client| client.name())
    }

    /// The underlay's own namespace, with the bridge and its ends of all uplinks.
    pub fn underlay(&self) -> &crate::Place {
        &self.underlay
    }

    /// All members and the underlay, as places.
    pub fn places(&self) -> impl Iterator<Item = &crate::Place> {
        let nodes = self.nodes.iter().map(|node| &**node);
        let pods = self.pods.iter().map(|pod| &**pod);
        let clients = self.clients.iter().map(|client| &**client);
        nodes.chain(pods).chain(clients).chain([&self.underlay])
    }

    /// All nodes as someone on the wire between them tells them apart.
    ///
    /// # Errors
    ///
    /// When a node has lost its uplink.
    pub fn nodes_on_wire(&self) -> Result<Vec<NodeOnWire>> {
        let on_wire = self.nodes.iter().map(|node| {
            Ok(NodeOnWire {
                hardware: node.hardware_address(UPLINK)?,
                addresses: node.address().both(),
            })
        });
        on_wire.collect()
    }

    /// Load balancer addresses number `index`, from 0, IPv4 first.
    pub fn vips(&self, index: u8) -> [IpAddr; 2] {
        plan::vip(index).both()
    }

    /// Why nodes cannot send from XDP in native mode, if they cannot.
    pub fn native_xdp(&self) -> Result<(), &str> {
        self.native_xdp.as_ref().copied().map_err(String::as_str)
    }

    /// Starts the servers of all pods.
    ///
    /// # Errors
    ///
    /// When one does not come up.
    pub fn serve(&self) -> Result<()> {
        self.pods.iter().try_for_each(Pod::serve)
    }

    /// Starts all agents and returns when they are ready.
    ///
    /// # Errors
    ///
    /// When one does not become ready in time.
    pub fn start_agents(&self) -> Result<()> {
        self.nodes
            .iter()
            .try_for_each(|node| node.agent()?.launch())?;
        self.nodes
            .iter()
            .try_for_each(|node| node.agent()?.wait_ready())
    }

    /// Writes `manifest` to the manifests directory of every agent.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn apply(&self, manifest: &Manifest) -> Result<()> {
        self.apply_text(&manifest.file, &manifest.to_yaml()?)
    }

    fn apply_directory(&self, directory: &Path) -> Result<()> {
        let context = || format!("read the manifests in {}", directory.display());
        for entry in fs::read_dir(directory).with_context(context)? {
            let path = entry.with_context(context)?.path();
            if let (Some("yaml"), Some(file)) = (extension(&path), path.file_stem()) {
                let text = fs::read_to_string(&path).with_context(context)?;
                self.apply_text(&file.to_string_lossy(), &text)?;
            }
        }
        Ok(())
    }

    /// Writes `text` as `file`.yaml to the manifests directory of every agent, each in one step.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn apply_text(&self, file: &str, text: &str) -> Result<()> {
        for node in &self.nodes {
            let directory = node.agent()?.manifests();
            let (draft, path) = (
                directory.join(".draft"),
                directory.join(format!("{file}.yaml")),
            );
            fs::write(&draft, text).with_context(|| format!("write {}", draft.display()))?;
            fs::rename(&draft, &path).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// Gives the key that each node has published to all others, as whoever distributes manifests
    /// does; waits until all have published one.
    ///
    /// # Errors
    ///
    /// When a node publishes none in time.
    pub fn distribute_keys(&self) -> Result<()> {
        let mut records = Vec::new();
        for node in &self.nodes {
            let file = format!("{}.yaml", node.name());
            let path = node.agent()?.manifests().join("published").join(&file);
            let what = format!("the key of {}", node.name());
            let text = wait::until(&what, Duration::from_secs(20), || {
                fs::read_to_string(&path).context("read it")
            })?;
            records.push((file, text));
        }
        for (file, text) in &records {
            self.publish(file, text)?;
        }
        Ok(())
    }

    /// Makes the records of all nodes at each node what their owners have published, or have withdrawn.
    ///
    /// # Errors
    ///
    /// When one cannot be written.
    pub fn mirror_keys(&self) -> Result<()> {
        for owner in &self.nodes {
            let file = format!("{}.yaml", owner.name());
            let path = |node: &Node| -> Result<PathBuf> {
                Ok(node.agent()?.manifests().join("published").join(&file))
            };
            if let Ok(text) = fs::read_to_string(path(owner)?) {
                self.publish(&file, &text)?;
                continue;
            }
            for other in self.nodes.iter().filter(|it| it.name() != owner.name()) {
                // Most often it is not there.
                let _ = fs::remove_file(path(other)?);
            }
        }
        Ok(())
    }

    /// Gives a record to all nodes but the one that it is of, each in one step.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn publish(&self, file: &str, text: &str) -> Result<()> {
        for node in &self.nodes {
            let folder = node.agent()?.manifests().join("published");
            let (draft, path) = (folder.join(".draft"), folder.join(file));
            let is_known = || fs::read_to_string(&path).is_ok_and(|known| known == text);
            if file == format!("{}.yaml", node.name()) || is_known() {
                continue;
            }
            fs::create_dir_all(&folder).context("create the folder of records")?;
            fs::write(&draft, text).context("write a record")?;
            fs::rename(&draft, &path).context("write a record")?;
        }
        Ok(())
    }

    /// Removes `file`.yaml from the manifests directory of every agent.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn delete(&self, file: &str) -> Result<()> {
        for node in &self.nodes {
            let path = node.agent()?.manifests().join(format!("{file}.yaml"));
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Lets the cluster live on after this object and this process, until [`Record::remove`].
    ///
    /// # Errors
    ///
    /// When the record cannot be changed; the cluster is removed then.
    pub fn keep(mut self) -> Result<Record> {
        self.record.kept = true;
        self.record.write()?;
        self.kept = true;
        run::forget(&self.record.id);
        self.nodes.iter().for_each(Node::detach);
        self.pods.iter().for_each(Pod::detach);
        Ok(self.record.clone())
    }

    /// Removes the cluster now and says what could not be removed.
    ///
    /// # Errors
    ///
    /// When something is left.
    pub fn remove(mut self) -> Result<()> {
        self.kept = true;
        let _changing = run::changing();
        self.record.remove()
    }

    fn show_logs(&self) {
        for agent in self.nodes.iter().filter_map(|node| node.agent().ok()) {
            eprintln!("{}", agent.log_tail(40));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Whoever is content calls `remove` or `keep`. A test harness shows this of failed tests.
        self.show_logs();
        let _changing = run::changing();
        if let Err(error) = self.record.remove() {
            eprintln!("{error:#}");
        }
    }
}

fn extension(path: &Path) -> Option<&str> {
    path.extension()?.to_str()
}

fn find<'a, T>(all: &'a [T], name: &str, name_of: impl Fn(&T) -> &str) -> Result<&'a T> {
    let Some(found) = all.iter().find(|one| name_of(one) == name) else {
        let names: Vec<_> = all.iter().map(name_of).collect();
        bail!("there is no {name:?} among {names:?}")
    };
    Ok(found)
}
