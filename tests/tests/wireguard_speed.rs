//! What Weir's routes and programs cost traffic through the kernel's WireGuard: clusters with agents
//! beside one whose nodes have the same device configured by hand, in one run.
//!
//! With agents there are two: one as it is unless it is told otherwise, and one whose programs route past
//! the nodes' stacks. The latter has to keep up. XDP has no part in it: agents leave veths to TC.
//!
//! Needs kernel WireGuard: `cargo xtask vm --bench`, see `tests/vm/suites.json`. Machines there are
//! emulated and count instructions for time: only the ratio means something, and it is that of the
//! instructions which a packet costs on both nodes together.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use weir_tests::agent::AgentConfig;
use weir_tests::bench::encryption::load::{Load, Measured};
use weir_tests::binary::{self, Binary};
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::{Cluster, Place, wait};

/// Rounds, each of which measures both clusters.
const ROUNDS: usize = 5;
/// Length of one measurement.
const LENGTH: Duration = Duration::from_secs(2);
/// Least share of the throughput by hand that Weir's may have.
const TARGET: f64 = 0.97;

const DEVICE: &str = "weir_wg0";
const PORT: u16 = 51_871;
/// Of packets that the device sent.
const MARK: &str = "0xe1e";
/// Table for routes into the device.
const TABLE: &str = "51871";
/// Where a node keeps its key; `/run` is its own.
const KEY: &str = "/run/wireguard.key";

#[test]
fn the_kernel_device_is_as_fast_as_one_configured_by_hand() -> Result<()> {
    let by_hand = cluster("speed-by-hand", None)?;
    if let Err(error) = configure(&by_hand, Ways::Main) {
        println!("SKIPPED: no kernel WireGuard: {error:#}");
        return Ok(());
    }
    let by_rules = cluster("speed-by-rules", None)?;
    configure(&by_rules, Ways::OwnTable)?;
    let config = AgentConfig {
        encryption: true,
        // As agents have it, and not tests that wait for it.
        report_interval: "5s".into(),
        xdp_mode: "auto".into(),
        ..AgentConfig::default()
    };
    let weir = cluster("speed-weir", Some(config.clone()))?;
    let past_stack = cluster(
        "speed-weir-bpf",
        Some(AgentConfig {
            encryption_settings: json!({ "hostRouting": "bpf" }),
            ..config
        }),
    )?;
    weir.distribute_keys()?;
    past_stack.distribute_keys()?;
    let ways = [
        ("by hand", &by_hand),
        ("by hand, as Weir routes", &by_rules),
        ("Weir", &weir),
        ("Weir, past the stacks", &past_stack),
    ];
    for (_, cluster) in ways {
        wait::until("the pod to answer", Duration::from_mins(1), || {
            let (from, to) = (cluster.pod("web-1")?, cluster.pod("web-2")?);
            let report = from.http(to.address().v4.into(), HTTP_PORT).requests(1);
            let report = report.timeout(Duration::from_secs(1)).run()?;
            ensure!(report.failed == 0, "{report:?}");
            Ok(())
        })?;
    }
    let mut short = Vec::new();
    for load in [Load::Tcp, Load::UdpFull] {
        let mut measured: [Vec<Measured>; 4] = Default::default();
        for round in 0..ROUNDS {
            // Whoever is first may find the machine busier with what was before.
            for turn in 0..ways.len() {
                let way = (round + turn) % ways.len();
                measured[way].push(measure(ways[way].1, load)?);
            }
        }
        let figures = measured.map(figures);
        let by_hand = figures[0][1];
        for ((name, _), figures) in ways.iter().zip(&figures) {
            println!(
                "{}: {name}: Mbit/s least, median, most {figures:.1?}, median {:.3} of by hand",
                load.title(),
                figures[1] / by_hand,
            );
        }
        let ratio = figures[3][1] / by_hand;
        if ratio < TARGET {
            short.push(format!("{}: {ratio:.3} of by hand", load.title()));
        }
    }
    ensure!(short.is_empty(), "{}", short.join(", "));
    Ok(())
}

/// Least, median and most of all rounds, in Mbit/s.
fn figures(rounds: Vec<Measured>) -> [f64; 3] {
    let mut all: Vec<f64> = rounds
        .into_iter()
        .map(|round| round.bits_per_second() / 1e6)
        .collect();
    all.sort_unstable_by(f64::total_cmp);
    [all[0], all[all.len() / 2], all[all.len() - 1]]
}

fn measure(cluster: &Cluster, load: Load) -> Result<Measured> {
    let (from, to) = (cluster.pod("web-1")?, cluster.pod("web-2")?);
    let (from, to) = ((&**from, from.address().v4), (&**to, to.address().v4));
    load.send(from, to, LENGTH)
}

fn cluster(name: &str, agents: Option<AgentConfig>) -> Result<Cluster> {
    binary::announce(Binary::Traffic, env!("CARGO_BIN_EXE_weir-traffic"));
    let builder = Cluster::builder(name).nodes(2).pods_per_node(1);
    let builder = match agents {
        Some(config) => builder.agents(config),
        None => builder.without_agents(),
    };
    let cluster = builder.start()?;
    cluster.serve()?;
    Ok(cluster)
}

/// How packets find the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ways {
    /// Routes in the main table: as simple as it can be by hand.
    Main,
    /// Routes in a table of their own and rules that lead there, whatever else routes the pods: as
    /// `weir-agent` has it, without its programs.
    OwnTable,
}

/// The device on both nodes as `weir-agent` would make it: the same MTU, routes for the other's
/// pods.
fn configure(cluster: &Cluster, ways: Ways) -> Result<()> {
    let [one, two] = [cluster.node("node1")?, cluster.node("node2")?];
    for node in [one, two] {
        node.ip(&format!("link add {DEVICE} mtu 1420 type wireguard"))?;
    }
    let keys = [one.make_wireguard_key(KEY)?, two.make_wireguard_key(KEY)?];
    for (node, peer, key) in [(one, two, &keys[1]), (two, one, &keys[0])] {
        let endpoint = format!("{}:{PORT}", peer.address().v4);
        let ranges = peer.pod_ranges();
        let (port, allowed) = (PORT.to_string(), ranges.join(","));
        let set = ["set", DEVICE, "listen-port", &port, "private-key", KEY];
        let of_peer = ["peer", key, "endpoint", &endpoint, "allowed-ips", &allowed];
        node.output("wg", &[&set[..], &of_peer].concat())?;
        node.ip(&format!("link set {DEVICE} up"))?;
        let table = match ways {
            Ways::Main => "main",
            Ways::OwnTable => TABLE,
        };
        for range in ranges {
            node.ip(&format!("route replace {range} dev {DEVICE} table {table}"))?;
        }
        if ways == Ways::OwnTable {
            add_rules(node, node.pod_ranges(), ranges)?;
        }
    }
    Ok(())
}

/// The rules of `weir-agent`: what the device sent itself, what comes from pods of the node, what goes
/// to those of others.
fn add_rules(node: &Place, own: &[String], of_peer: &[String]) -> Result<()> {
    node.output("wg", &["set", DEVICE, "fwmark", MARK])?;
    let marked = ["-4", "-6"]
        .map(|family| format!("{family} rule add fwmark {MARK} lookup main priority 90"));
    let from = own.iter().map(|range| {
        let family = family(range);
        format!("{family} rule add from {range} lookup {TABLE} priority 91")
    });
    let to = of_peer.iter().map(|range| {
        let family = family(range);
        format!("{family} rule add to {range} lookup {TABLE} priority 92")
    });
    for rule in marked.into_iter().chain(from).chain(to) {
        node.ip(&rule)?;
    }
    Ok(())
}

fn family(range: &str) -> &'static str {
    if range.contains(':') { "-6" } else { "-4" }
}
