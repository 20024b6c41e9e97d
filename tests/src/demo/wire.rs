//! The demo with encryption: someone looks at everything that passes between the two nodes.
//!
//! The look begins before the agents start and ends after the last request, at the wire itself: no
//! program of Weir runs there.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::SERVICE_DEADLINE;
use super::screen::Screen;
use crate::capture::Capture;
use crate::cluster::Pod;
use crate::traffic::server::HTTP_PORT;
use crate::{Cluster, wait};

/// UDP port of the nodes' devices, the agent's default.
const WIREGUARD_PORT: u16 = 51_871;
/// Name of the device, the agent's default.
const DEVICE: &str = "weir_wg0";
/// Requests from a pod to a pod of the other node, in each family.
const REQUESTS: u32 = 250;

/// The figures of the wire; the names are relied on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WireFigures {
    encryption: &'static str,
    cleartext_packets_between_nodes: u64,
    wireguard_packets: u64,
}

/// Looks at the wire of the second node, by which all goes that passes between two.
pub fn look(cluster: &Cluster) -> Result<Capture> {
    cluster.underlay().capture(cluster.nodes()[1].name())
}

/// Waits until the nodes act on each other's keys.
pub fn wait_for_peers(cluster: &Cluster) -> Result<()> {
    let (from, to) = pods(cluster)?;
    wait::until("the nodes to be peers", SERVICE_DEADLINE, || {
        let report = from.http(to[0], HTTP_PORT).requests(1).run()?;
        ensure!(report.failed == 0, "{:?}", report.failures.0);
        Ok(())
    })
}

/// Requests from a pod to a pod of the other node, without a service between.
pub fn between_pods(cluster: &Cluster) -> Result<()> {
    let (from, to) = pods(cluster)?;
    for address in to {
        let report = from.http(address, HTTP_PORT).requests(REQUESTS).run()?;
        println!(
            "  {} to {address} on the other node: {} requests, {} failed",
            from.name(),
            report.requests,
            report.failed
        );
        if report.failed > 0 {
            bail!("requests between pods failed: {:?}", report.failures.0);
        }
    }
    Ok(())
}

/// Ends the look and tells what was seen.
pub fn tell(cluster: &Cluster, capture: Capture) -> Result<WireFigures> {
    let captured = capture.finish()?;
    ensure!(
        captured.left_out == 0,
        "{} packets did not fit into the capture",
        captured.left_out
    );
    let between = captured.between(&cluster.nodes_on_wire()?, WIREGUARD_PORT);
    let data = between.data_messages();
    Screen::wire(&between, data);
    Ok(WireFigures {
        encryption: implementation(cluster)?,
        cleartext_packets_between_nodes: between.readable.len() as u64,
        wireguard_packets: between.wireguard.len() as u64,
    })
}

impl WireFigures {
    /// What is wrong with them, if anything.
    pub fn fault(&self) -> Option<String> {
        if self.cleartext_packets_between_nodes > 0 {
            let count = self.cleartext_packets_between_nodes;
            return Some(format!("{count} packets between the nodes were readable"));
        }
        (self.wireguard_packets == 0).then(|| "nothing was encrypted".into())
    }
}

/// A pod of the first node and the addresses of one of the second.
fn pods(cluster: &Cluster) -> Result<(&Pod, [IpAddr; 2])> {
    let on = |node: usize| {
        let name = cluster.nodes()[node].name();
        let found = cluster.pods().iter().find(|pod| pod.node_name() == name);
        found.with_context(|| format!("no pod is on {name}"))
    };
    Ok((on(0)?, on(1)?.address().both()))
}

/// Who encrypts, by the kind of the devices.
fn implementation(cluster: &Cluster) -> Result<&'static str> {
    let is_kernel = cluster.nodes().iter().map(|node| {
        let shown = node.output("ip", &["-d", "link", "show", DEVICE])?;
        Ok(shown.split_whitespace().any(|word| word == "wireguard"))
    });
    let is_kernel: Vec<bool> = is_kernel.collect::<Result<_>>()?;
    // One node in userspace makes it a demo of userspace.
    Ok(if is_kernel.iter().all(|kernel| *kernel) {
        "kernel"
    } else {
        "userspace"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readable_packet_or_none_at_all_is_a_fault() {
        let figures = |clear, wireguard| WireFigures {
            encryption: "kernel",
            cleartext_packets_between_nodes: clear,
            wireguard_packets: wireguard,
        };
        assert_eq!(figures(0, 9).fault(), None);
        assert!(figures(1, 9).fault().is_some());
        assert!(figures(0, 0).fault().is_some());
    }
}
