//! The demo: the main job from one end to the other, with real packets.
//!
//! Manifests in a directory become Maglev tables, XDP spreads real HTTP requests from a client
//! outside over four pods on two nodes, and the flows of it are read back with the CLI. With
//! encryption, a capture between the nodes shows that none of it can be read there. With Kubernetes,
//! the manifests go to a real API server, and agents take everything from it, on a third node too, which
//! has no pod of the Service. Whatever is printed was measured in this run; if anything is amiss the demo
//! fails.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::agent::{AgentConfig, Status};
use crate::capture::Capture;
use crate::plan;
use crate::traffic::HttpReport;
use crate::{Cluster, ControlPlane, control_plane, wait};

mod api_server;
mod screen;
mod wire;

use screen::Screen;
use wire::WireFigures;

/// Requests over IPv4.
const REQUESTS_V4: u32 = 2_000;
/// Requests over IPv6.
const REQUESTS_V6: u32 = 500;
/// Requests between two lines of progress.
const STEP: u32 = 250;
/// Requests at a time.
const PARALLEL: u32 = 8;
/// Port of the Service.
const PORT: u16 = 80;
/// Addresses of its pods, of both families together.
const BACKENDS: usize = 8;
/// How long flows may take from the packet to the answer of the agent.
const FLOWS_DEADLINE: Duration = Duration::from_secs(30);
/// How long the manifests may take to become balanced packets.
const SERVICE_DEADLINE: Duration = Duration::from_secs(30);

/// The figures of a demo; the names are relied on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Figures {
    requests: u64,
    failed: u64,
    backends: BTreeMap<SocketAddr, u64>,
    flows_seen: u64,
    flows_lost: u64,
    xdp_mode: &'static str,
    nodes: usize,
    #[serde(flatten)]
    wire: Option<WireFigures>,
}

/// What is asked of the demo.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Leave the cluster up.
    pub keep: bool,
    /// Encrypt between the nodes, and look at the wire.
    pub encrypt: bool,
    /// Take everything from a real API server.
    pub kubernetes: bool,
    /// Write the figures to this file.
    pub json: Option<PathBuf>,
}

/// The manifests of the demo.
pub fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/demo")
}

/// Runs the demo.
///
/// # Errors
///
/// When a request failed, a backend got none, no flow was seen, something between the nodes could be
/// read although it was to be encrypted, or anything before that failed.
pub fn run(options: &Options) -> Result<()> {
    if options.kubernetes {
        control_plane::require()?;
    }
    let screen = Screen::new(std::io::stdout().is_terminal());
    screen.heading("A cluster in network namespaces");
    let start = Instant::now();
    let mut config = AgentConfig {
        encryption: options.encrypt,
        ..AgentConfig::default()
    };
    if options.kubernetes {
        config = config.following_api_server();
    }
    let cluster = Cluster::builder("demo")
        .nodes(if options.kubernetes { 3 } else { 2 })
        .pods_per_node(2)
        .client("client")
        .agents(config)
        .agents_later()
        .manifests(manifests())
        .start()
        .context("start the cluster")?;
    cluster.serve().context("start the servers of the pods")?;
    let start_server = || api_server::start(&cluster).context("start the API server");
    let api_server = options.kubernetes.then(start_server).transpose()?;
    let looking = options.encrypt.then(|| wire::look(&cluster)).transpose()?;
    cluster.start_agents().context("start the agents")?;
    let figures = show(&screen, &cluster, start, looking, api_server.as_ref())?;
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&figures).context("encode the figures")?;
        fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    }
    let verdict = figures.judge(BACKENDS);
    if options.keep || verdict.is_ok() {
        screen.next_steps(options.keep.then_some(cluster.id()), api_server.as_ref())?;
    }
    if options.keep {
        cluster.keep()?;
        api_server.into_iter().for_each(ControlPlane::detach);
    } else {
        cluster.remove()?;
    }
    verdict?;
    println!("Done in {:.1} s.", start.elapsed().as_secs_f64());
    Ok(())
}

fn show(
    screen: &Screen,
    cluster: &Cluster,
    start: Instant,
    looking: Option<Capture>,
    api_server: Option<&ControlPlane>,
) -> Result<Figures> {
    let statuses = statuses(cluster)?;
    let xdp_mode = xdp_mode(&statuses);
    Screen::cluster(cluster, xdp_mode, start.elapsed());
    if let Err(reason) = cluster.native_xdp() {
        println!("XDP cannot send from veths in native mode: {reason}");
    }
    if looking.is_some() {
        if api_server.is_none() {
            cluster.distribute_keys()?;
        }
        wire::wait_for_peers(cluster).context("exchange the nodes' keys")?;
    }
    let [v4, v6] = plan::vip(0).both();
    wait_for_service(cluster, &[v4, v6])?;
    screen.heading("Requests from the client outside");
    let mut total = HttpReport::default();
    for (address, requests) in [(v4, REQUESTS_V4), (v6, REQUESTS_V6)] {
        total.merge(send(screen, cluster, address, requests)?);
    }
    screen.heading("Where they went");
    Screen::distribution(cluster, &total);
    screen.heading("The last flows, as `weir observe` shows them");
    let (flows_seen, flows_lost) = wait_for_flows(cluster)?;
    Screen::flows(cluster)?;
    println!("  {flows_seen} flow events seen on all nodes, {flows_lost} lost");
    if let Some(api_server) = api_server {
        screen.heading("What the nodes say of themselves to the API server");
        api_server::tell(cluster, api_server)?;
    }
    let wire = match looking {
        Some(capture) => {
            screen.heading("What passed between the nodes");
            wire::between_pods(cluster)?;
            Some(wire::tell(cluster, capture)?)
        }
        None => None,
    };
    Ok(Figures {
        requests: total.requests,
        failed: total.failed,
        backends: total.backends,
        flows_seen,
        flows_lost,
        xdp_mode,
        nodes: cluster.nodes().len(),
        wire,
    })
}

fn statuses(cluster: &Cluster) -> Result<Vec<Status>> {
    cluster
        .nodes()
        .iter()
        .map(|node| node.agent()?.status())
        .collect()
}

/// `native` if every node runs XDP in the driver of its uplink, else `off`.
fn xdp_mode(statuses: &[Status]) -> &'static str {
    if statuses.iter().all(Status::is_xdp_native) {
        "native"
    } else {
        "off"
    }
}

fn wait_for_service(cluster: &Cluster, addresses: &[IpAddr]) -> Result<()> {
    let client = cluster.client("client")?;
    wait::until("the Service to be balanced", SERVICE_DEADLINE, || {
        for address in addresses {
            let report = client
                .http(*address, PORT)
                .requests(1)
                .timeout(Duration::from_secs(1))
                .run()?;
            if report.failed > 0 {
                bail!("{address}: {:?}", report.failures.0);
            }
        }
        Ok(())
    })
}

fn send(screen: &Screen, cluster: &Cluster, to: IpAddr, requests: u32) -> Result<HttpReport> {
    let client = cluster.client("client")?;
    let mut total = HttpReport::default();
    while total.requests < u64::from(requests) {
        let left = requests - total.requests as u32;
        let traffic = client
            .http(to, PORT)
            .requests(left.min(STEP))
            .parallel(PARALLEL);
        total.merge(
            traffic
                .run()
                .with_context(|| format!("send requests to {to}"))?,
        );
        screen.progress(to, requests, &total);
    }
    screen.end_of_progress();
    for (text, count) in &total.failures.0 {
        println!("  {count} x {text}");
    }
    Ok(total)
}

/// Waits until every node has seen flows, and returns how many were seen and lost in all.
fn wait_for_flows(cluster: &Cluster) -> Result<(u64, u64)> {
    wait::until("flows on every node", FLOWS_DEADLINE, || {
        let statuses = statuses(cluster)?;
        if let Some(status) = statuses.iter().find(|status| status.flows_seen() == 0) {
            bail!("none on {}", status.node_name());
        }
        let seen = statuses.iter().map(Status::flows_seen).sum();
        Ok((seen, statuses.iter().map(Status::flows_lost).sum()))
    })
}

impl Figures {
    /// Did everything work? `backends` is the number of addresses that should have been reached.
    fn judge(&self, backends: usize) -> Result<()> {
        let mut wrong = Vec::new();
        if self.failed > 0 {
            wrong.push(format!(
                "{} of {} requests failed",
                self.failed, self.requests
            ));
        }
        if self.requests < u64::from(REQUESTS_V4 + REQUESTS_V6) {
            wrong.push(format!("only {} requests were made", self.requests));
        }
        if self.backends.len() != backends {
            wrong.push(format!(
                "{} of {backends} backends got requests",
                self.backends.len()
            ));
        }
        if self.flows_seen == 0 {
            wrong.push("no flow was seen".into());
        }
        wrong.extend(self.wire.as_ref().and_then(WireFigures::fault));
        if wrong.is_empty() {
            Ok(())
        } else {
            bail!("{}", wrong.join(", "))
        }
    }
}

#[cfg(test)]
mod tests;
