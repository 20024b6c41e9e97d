//! From a plan to namespaces, links and processes' places: the order of steps.
//!
//! Record and run directory first, so that whatever follows can be removed by id; then network
//! namespaces, the nodes' mounts, links from the underlay inwards, and what XDP needs of veths.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use super::{Client, Cluster, Node, Pod};
use crate::agent::{Agent, AgentConfig};
use crate::mounts::NodeMounts;
use crate::plan::{Plan, PodWiring, UPLINK};
use crate::run::{self, Record};
use crate::{Place, namespace, offload, veth_xdp, wiring};

/// Kernel settings of every namespace: router, strict about sources, no waiting for addresses.
const SETTINGS: [(&str, &str); 10] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/conf/all/rp_filter", "1"),
    ("ipv4/conf/default/rp_filter", "1"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv4/fib_multipath_hash_policy", "1"),
    ("ipv6/fib_multipath_hash_policy", "1"),
    // A load of short connections needs more ports than the default, and needs them again soon.
    ("ipv4/ip_local_port_range", "30000 65535"),
    ("ipv4/tcp_tw_reuse", "1"),
];

/// A segment is a wire: it carries broken packets too, and no firewall looks at them.
const BRIDGE_SETTINGS: [&str; 3] = [
    "bridge-nf-call-iptables",
    "bridge-nf-call-ip6tables",
    "bridge-nf-call-arptables",
];

/// What is particular about the wires.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wires {
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// As veths are, see [`ClusterBuilder::plain_wires`](super::ClusterBuilder::plain_wires).
    pub are_plain: bool,
}

/// Builds everything but running agents.
pub fn build(
    name: &str,
    plan: &Plan,
    agents: Option<&AgentConfig>,
    wires: Wires,
) -> Result<Cluster> {
    let _changing = run::changing();
    let record = run::start(name, &plan.members().collect::<Vec<_>>())?;
    let build = Build {
        record: &record,
        plan,
        wires,
    };
    match build.build(agents) {
        Ok(cluster) => Ok(cluster),
        Err(error) => {
            // The first error says more than what the removal might add.
            let _ = record.remove();
            Err(error)
        }
    }
}

struct Build<'a> {
    record: &'a Record,
    plan: &'a Plan,
    wires: Wires,
}

impl Build<'_> {
    fn build(&self, agents: Option<&AgentConfig>) -> Result<Cluster> {
        for member in self.plan.members() {
            namespace::create(&self.record.namespace_of(member), || apply_settings(member))
                .with_context(|| format!("make the network namespace of {member}"))?;
        }
        let underlay = self.place("underlay", "underlay", None)?;
        let nodes = self.nodes(agents)?;
        let pods = self.pods(&nodes)?;
        let clients = self.clients()?;
        self.wire()?;
        let native_xdp = self.prepare_uplinks(&underlay);
        Ok(Cluster {
            record: self.record.clone(),
            plan: self.plan.clone(),
            nodes,
            pods,
            clients,
            underlay,
            native_xdp: native_xdp?,
            kept: false,
        })
    }

    /// The place of `member` with the cgroup `cgroup`, which is made.
    fn place(&self, member: &str, cgroup: &str, mounts: Option<PathBuf>) -> Result<Place> {
        let cgroup = self.record.cgroup.join(cgroup);
        create_directory(&cgroup)?;
        Ok(Place::new(member, self.network(member), mounts, cgroup))
    }

    fn network(&self, member: &str) -> PathBuf {
        namespace::path(&self.record.namespace_of(member))
    }

    fn nodes(&self, agents: Option<&AgentConfig>) -> Result<Vec<Node>> {
        let mut nodes = Vec::with_capacity(self.plan.nodes.len());
        for plan in &self.plan.nodes {
            let directory = self.record.directory().join(&plan.name);
            let (run, mounts) = (directory.join("run"), directory.join("mounts"));
            let scratch = directory.join("scratch");
            [&directory, &run, &scratch]
                .into_iter()
                .try_for_each(|path| create_directory(path))?;
            let place = self.place(&plan.name, &plan.name, Some(mounts.clone()))?;
            create_directory(&place.cgroup().join("agent"))?;
            let cgroup = place.cgroup().to_path_buf();
            let node_mounts = NodeMounts {
                network: self.network(&plan.name),
                run: run.clone(),
                cgroup,
                scratch,
            };
            node_mounts
                .create(&mounts)
                .with_context(|| format!("make mounts of {}", plan.name))?;
            let agent = agents
                .map(|config| Agent::prepare(place.clone(), &run, config))
                .transpose()?;
            nodes.push(Node {
                plan: plan.clone(),
                place,
                agent,
                log: directory.join("server.log"),
                server: Mutex::new(None),
            });
        }
        Ok(nodes)
    }

    fn pods(&self, nodes: &[Node]) -> Result<Vec<Pod>> {
        let pods = self.plan.pods.iter().map(|plan| {
            let node = nodes[plan.node].name().to_owned();
            let place = self.place(&plan.name, &format!("{node}/{}", plan.name), None)?;
            let log = self.record.directory().join(format!("{}.log", plan.name));
            Ok(Pod {
                plan: plan.clone(),
                node,
                place,
                log,
                server: Mutex::new(None),
            })
        });
        pods.collect()
    }

    fn clients(&self) -> Result<Vec<Client>> {
        let clients = self.plan.clients.iter().map(|plan| {
            let place = self.place(&plan.name, &plan.name, None)?;
            Ok(Client {
                plan: plan.clone(),
                place,
            })
        });
        clients.collect()
    }

    fn wire(&self) -> Result<()> {
        for (member, batch) in wiring::batches(self.plan, |name| self.record.namespace_of(name)) {
            // Building is not the member's doing: it runs in no cgroup and no mounts of it.
            let place = Place::new(
                &member,
                self.network(&member),
                None,
                self.record.cgroup.clone(),
            );
            run_batch(&place, &batch)?;
        }
        if self.plan.wiring == PodWiring::ProxyArp {
            self.answer_for_any_address()?;
        }
        self.wires.mtu.map_or(Ok(()), |bytes| self.set_mtu(bytes))
    }

    /// Has the nodes' ends of pods' links answer for whatever address a pod asks for.
    fn answer_for_any_address(&self) -> Result<()> {
        for pod in &self.plan.pods {
            let network = self.network(&self.plan.nodes[pod.node].name);
            let path = format!("/proc/sys/net/ipv4/conf/{}/proxy_arp", pod.host_interface);
            namespace::run_inside(&network, None, || fs::write(&path, "1"))?
                .with_context(|| format!("write {path}"))?;
        }
        Ok(())
    }

    /// Sets the MTU of every wire at both its ends.
    fn set_mtu(&self, bytes: u32) -> Result<()> {
        for member in self.plan.members() {
            let place = Place::new(
                member,
                self.network(member),
                None,
                self.record.cgroup.clone(),
            );
            let links = place.output("ip", &["-br", "link", "show", "type", "veth"])?;
            let names = links
                .lines()
                .filter_map(|line| line.split(['@', ' ']).next());
            let lines: Vec<_> = names
                .map(|name| format!("link set {name} mtu {bytes}\n"))
                .collect();
            run_batch(&place, &lines.concat())?;
        }
        Ok(())
    }

    /// Makes uplinks behave like network cards where XDP is concerned.
    ///
    /// The inner error is why frames cannot be sent from native XDP.
    fn prepare_uplinks(&self, underlay: &Place) -> Result<Result<(), String>> {
        let nodes = self.plan.nodes.iter().map(|node| &node.name);
        let members: Vec<_> = nodes
            .chain(self.plan.clients.iter().map(|c| &c.name))
            .cloned()
            .collect();
        if self.wires.are_plain {
            return Ok(Err("the wires are plain".into()));
        }
        for member in &members {
            namespace::run_inside(&self.network(member), None, || {
                offload::finish_checksums(UPLINK)
            })?
            .with_context(|| format!("prepare {UPLINK} of {member}"))?;
        }
        namespace::run_inside(underlay.network(), None, || {
            members
                .iter()
                .try_for_each(|interface| offload::finish_checksums(interface))
        })??;
        let pins = self.record.directory().join("bpf");
        let attached = veth_xdp::attach(underlay.network(), &members, &pins);
        Ok(attached.map_err(|error| format!("{error:#}")))
    }
}

fn create_directory(path: &Path) -> Result<()> {
    fs::create_dir(path).with_context(|| format!("create {}", path.display()))
}

/// Writes the kernel settings of the calling thread's network namespace.
fn apply_settings(member: &str) -> Result<()> {
    for name in BRIDGE_SETTINGS {
        // Only there if the kernel can pass bridged packets through netfilter.
        let _ = fs::write(format!("/proc/sys/net/bridge/{name}"), "0");
    }
    for (name, value) in SETTINGS {
        let path = format!("/proc/sys/net/{name}");
        fs::write(&path, value).with_context(|| format!("{member}: write {value:?} to {path}"))?;
    }
    Ok(())
}

fn run_batch(place: &Place, batch: &str) -> Result<()> {
    let mut command = place.command("ip")?;
    command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("start ip (of iproute2)")?;
    let mut stdin = child.stdin.take().context("its standard input is a pipe")?;
    stdin.write_all(batch.as_bytes()).context("write to ip")?;
    drop(stdin);
    let output = child.wait_with_output().context("wait for ip")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{}: ip refused: {}in\n{batch}", place.name(), text);
    }
    Ok(())
}
