//! What the demo prints. Colours and a moving line only on a terminal.

use std::env;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::capture::between::BetweenNodes;
use crate::plan;
use crate::traffic::HttpReport;
use crate::{Cluster, ControlPlane};

/// Length of the longest bar.
const BAR: u64 = 40;
/// Flows shown of each node.
const FLOWS: &str = "6";

/// Standard output, with or without a terminal behind it.
pub struct Screen {
    terminal: bool,
}

impl Screen {
    pub fn new(terminal: bool) -> Self {
        Self { terminal }
    }

    pub fn heading(&self, text: &str) {
        if self.terminal {
            println!("\n\x1b[1m{text}\x1b[0m");
        } else {
            println!("\n{text}");
        }
    }

    pub fn cluster(cluster: &Cluster, xdp_mode: &str, took: Duration) {
        for node in cluster.nodes() {
            let address = node.address();
            println!("  {:<7} {} and {}", node.name(), address.v4, address.v6);
            for pod in cluster
                .pods()
                .iter()
                .filter(|pod| pod.node_name() == node.name())
            {
                let address = pod.address();
                println!("    {:<7} {} and {}", pod.name(), address.v4, address.v6);
            }
        }
        let vip = plan::vip(0);
        println!(
            "  client  outside, knows only the Service: {} and {}",
            vip.v4, vip.v6
        );
        println!(
            "  Up in {:.1} s, an agent on each node, XDP {xdp_mode}.",
            took.as_secs_f64()
        );
    }

    /// On a terminal each call writes over the line of the one before.
    pub fn progress(&self, to: IpAddr, requests: u32, report: &HttpReport) {
        let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
        let rate = report.requests as f64 / report.elapsed.as_secs_f64().max(f64::EPSILON);
        let text = format!(
            "  {family}  {:>4} of {requests} to http://{}/, {} failed, {rate:.0} per second",
            report.requests,
            host(to),
            report.failed
        );
        if self.terminal {
            print!("\r{text}\x1b[K");
            // Nothing is lost with a line of progress.
            let _ = std::io::stdout().flush();
        } else {
            println!("{text}");
        }
    }

    pub fn end_of_progress(&self) {
        if self.terminal {
            println!();
        }
    }

    pub fn distribution(cluster: &Cluster, report: &HttpReport) {
        let most = report.backends.values().copied().max().unwrap_or(1).max(1);
        for (backend, count) in &report.backends {
            let pod = cluster
                .pods()
                .iter()
                .find(|pod| pod.address().contains(backend.ip()));
            let (name, node) = pod.map_or(("?", "?"), |pod| (pod.name(), pod.node_name()));
            let bar = "#".repeat((count * BAR / most) as usize);
            println!(
                "  {name} on {node}  {:<28} {count:>5}  {bar}",
                backend.to_string()
            );
        }
    }

    pub fn flows(cluster: &Cluster) -> Result<()> {
        for node in cluster.nodes() {
            let text = node.agent()?.weir(&["observe", "--last", FLOWS])?;
            println!("  on {}:", node.name());
            text.lines().for_each(|line| println!("    {line}"));
        }
        Ok(())
    }

    /// What a capture between the nodes saw; `data` of the encrypted messages carry packets.
    pub fn wire(between: &BetweenNodes<'_>, data: usize) {
        let wireguard = between.wireguard.len();
        println!("  {wireguard:>6} packets of WireGuard, {data} of them with data");
        println!("  {:>6} others, readable", between.readable.len());
        let shown = BetweenNodes::shown(&between.readable);
        shown.lines().for_each(|line| println!("    {line}"));
        let carries_data = between
            .wireguard
            .iter()
            .rev()
            .find(|it| it.bytes.len() > 128);
        if let Some(packet) = carries_data {
            println!("  The last one with data, from its 43rd byte on, as anyone there sees it:");
            for line in packet.bytes[42..].chunks(32).take(3) {
                let hex: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
                println!("    {}", hex.join(" "));
            }
        }
    }

    /// What to try next, in the cluster `kept` if there is one.
    pub fn next_steps(&self, kept: Option<&str>, api_server: Option<&ControlPlane>) -> Result<()> {
        self.heading("What to try next");
        let Some(id) = kept else {
            println!("  cargo xtask demo --keep     leaves the cluster up for you to look around");
            println!(
                "  cargo xtask demo --encrypt  encrypts between the nodes, and looks at the wire"
            );
            println!("  cargo xtask demo --kubernetes");
            println!("                              takes everything from a real API server");
            println!("  deploy/examples/demo/       holds the manifests that were used");
            return Ok(());
        };
        let own = env::current_exe().context("find the running executable")?;
        let cluster = own.with_file_name("weir-cluster");
        let (cluster, vip) = (cluster.display(), plan::vip(0));
        println!("  The cluster {id} stays up.\n");
        println!("  Ask the Service from outside, as often as you like:");
        println!("    {cluster} exec {id} client curl http://{}/", vip.v4);
        println!("  Watch the flows of a node while you do:");
        println!("    {cluster} exec {id} node1 weir observe -f");
        println!("  See what is balanced, and what state the agent is in:");
        println!("    {cluster} exec {id} node1 weir service list");
        println!("    {cluster} exec {id} node1 weir status");
        println!("  Change an object; the agents follow:");
        match api_server {
            Some(api_server) => println!(
                "    {cluster} exec {id} underlay kubectl --kubeconfig {} --namespace demo edit \
                 service web",
                api_server.kubeconfig().display()
            ),
            None => println!("    /run/weir-tests/{id}/node1/run/weir/manifests/"),
        }
        println!("  Remove it all:");
        println!("    {cluster} clean {id}");
        Ok(())
    }
}

fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
