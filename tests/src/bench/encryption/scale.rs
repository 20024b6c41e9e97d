//! An agent in a cluster of many nodes: how long its steps take, and what they cost while objects
//! change all the time. The device is the userspace one; the nodes are objects and nothing else.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};
use weir_agent::encryption::key::{PrivateKey, PublicKey};

use super::pair::cpu_seconds;
use crate::agent::{Agent, AgentConfig};
use crate::run::cgroup;
use crate::{Cluster, wait};

/// Nodes of the first measurement, and changes of one of them.
const PEERS: u16 = 1_000;
const CHANGES: u16 = 25;

/// Nodes of the second one; how long and how often one of them changes.
const MANY: u16 = 5_000;
const FLAPPING: Duration = Duration::from_secs(15);
const BETWEEN: Duration = Duration::from_millis(20);

const PATIENCE: Duration = Duration::from_mins(1);

/// What it came to.
#[derive(Debug, Serialize)]
pub struct Scale {
    /// Nodes of the first measurement.
    pub peers: u16,
    /// The step that made all of them peers, in milliseconds.
    pub first_sync_ms: f64,
    /// Steps for one change of one node: median and longest, in milliseconds.
    pub one_change_ms: [f64; 2],
    /// What flapping objects cost.
    pub flapping: Flapping,
}

/// A cluster whose nodes change all the time.
#[derive(Debug, Serialize)]
pub struct Flapping {
    /// Nodes.
    pub nodes: u16,
    /// Changes that were written.
    pub changes: u32,
    /// In this time.
    pub seconds: f64,
    /// Steps that were made.
    pub steps: usize,
    /// Time in steps, as a share of the whole.
    pub share_of_steps: f64,
    /// Processor time of the whole agent, as a share of one processor.
    pub share_of_agent: f64,
}

/// One step, as the agent's log tells it.
#[derive(Clone, Copy, Debug)]
struct Step {
    changes: u64,
    peers: u64,
    milliseconds: f64,
}

/// Measures both.
pub fn measure() -> Result<Scale> {
    let (first_sync_ms, one_change_ms) = peers()?;
    Ok(Scale {
        peers: PEERS,
        first_sync_ms,
        one_change_ms,
        flapping: flapping()?,
    })
}

fn start(name: &str) -> Result<Cluster> {
    let config = AgentConfig {
        encryption: true,
        encryption_settings: json!({ "wireguard": { "implementation": "userspace" } }),
        log_level: "debug".into(),
        ..AgentConfig::default()
    };
    Cluster::builder(name).nodes(1).agents(config).start()
}

fn peers() -> Result<(f64, [f64; 2])> {
    let cluster = start("bench-peers")?;
    let agent = cluster.node("node1")?.agent()?;
    let nodes: Vec<Node> = (0..PEERS).map(Node::new).collect();
    // One of them has a file of its own, to be changed alone.
    let (one, others) = nodes.split_last().context("there are some")?;
    cluster.apply_text("one", &one.document(0)?)?;
    cluster.apply_text("others", &documents(others)?)?;
    let all = u64::from(PEERS);
    let first = wait::until("all nodes to be peers", PATIENCE, || {
        let steps = steps(agent, 0)?;
        let first = steps.iter().find(|step| step.peers >= all);
        first.copied().context("not yet")
    })?;
    let mut changes = Vec::new();
    for number in 1..=CHANGES {
        let from = steps(agent, 0)?.len();
        cluster.apply_text("one", &one.document(number)?)?;
        let changed = wait::until("a step for the change", PATIENCE, || {
            let steps = steps(agent, from)?;
            let changed = steps.iter().find(|step| step.changes > 0);
            changed.copied().context("not yet")
        })?;
        changes.push(changed.milliseconds);
    }
    changes.sort_unstable_by(f64::total_cmp);
    let (median, longest) = (changes[changes.len() / 2], changes[changes.len() - 1]);
    Ok((first.milliseconds, [median, longest]))
}

fn flapping() -> Result<Flapping> {
    let cluster = start("bench-flapping")?;
    let agent = cluster.node("node1")?.agent()?;
    let nodes: Vec<Node> = (0..MANY).map(Node::new).collect();
    let (flaps, others) = nodes.split_at(20);
    for (at, node) in flaps.iter().enumerate() {
        cluster.apply_text(&format!("flaps-{at}"), &node.document(0)?)?;
    }
    cluster.apply_text("others", &documents(others)?)?;
    let all = u64::from(MANY);
    wait::until("all nodes to be peers", PATIENCE, || {
        let steps = steps(agent, 0)?;
        let last = steps.last().context("no step yet")?;
        anyhow::ensure!(last.peers >= all, "{} are", last.peers);
        Ok(())
    })?;
    let processes = || -> Result<f64> {
        let cgroup = cluster.node("node1")?.in_cgroup("agent");
        let processes = cgroup::processes(cgroup.cgroup());
        let pids = processes.iter().map(|pid| pid.as_raw().cast_unsigned());
        pids.map(cpu_seconds).sum()
    };
    let (before, from, begun) = (processes()?, steps(agent, 0)?.len(), Instant::now());
    let mut changes = 0;
    while begun.elapsed() < FLAPPING {
        for (at, node) in flaps.iter().enumerate() {
            let turn = begun + BETWEEN * changes;
            std::thread::sleep(turn.saturating_duration_since(Instant::now()));
            changes += 1;
            cluster.apply_text(&format!("flaps-{at}"), &node.document(changes as u16)?)?;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let steps = steps(agent, from)?;
    let in_steps: f64 = steps.iter().map(|step| step.milliseconds / 1e3).sum();
    Ok(Flapping {
        nodes: MANY,
        changes,
        seconds,
        steps: steps.len(),
        share_of_steps: in_steps / seconds,
        share_of_agent: (processes()? - before) / seconds,
    })
}

/// The steps in the agent's log, but for some at its begin.
fn steps(agent: &Agent, skip: usize) -> Result<Vec<Step>> {
    let log = fs::read_to_string(agent.log()).context("read the agent's log")?;
    let steps = log.lines().filter_map(|line| {
        let number = |key: &str| -> Option<u64> {
            let (_, rest) = line.split_once(&format!("{key}="))?;
            rest.split_whitespace().next()?.parse().ok()
        };
        Some(Step {
            milliseconds: number("step_microseconds")? as f64 / 1e3,
            changes: number("changes")?,
            peers: number("peers")?,
        })
    });
    Ok(steps.skip(skip).collect())
}

/// A node that is an object and nothing else.
struct Node {
    number: u16,
    key: PublicKey,
}

impl Node {
    fn new(number: u16) -> Self {
        Self {
            number,
            key: PrivateKey::generate().public(),
        }
    }

    /// The object as it was changed so often: one of its ranges comes and goes, and an annotation
    /// counts.
    fn document(&self, change: u16) -> Result<String> {
        let [high, low] = self.number.to_be_bytes();
        let mut ranges = vec![format!("100.{}.{low}.0/24", 64 + high)];
        if change.is_multiple_of(2) {
            ranges.push(format!("fd99:{:x}::/64", self.number));
        }
        let document: Value = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": format!("many-{}", self.number),
                "annotations": {
                    "weir.dev/wireguard-public-key": self.key.to_string(),
                    "example.com/heartbeat": change.to_string(),
                },
            },
            "spec": { "podCIDR": ranges[0], "podCIDRs": ranges },
            "status": {
                "addresses": [{ "type": "InternalIP", "address": format!("172.19.{high}.{low}") }],
            },
        });
        serde_yaml_ng::to_string(&document).context("encode a node")
    }
}

fn documents(nodes: &[Node]) -> Result<String> {
    let documents: Result<Vec<String>> = nodes.iter().map(|node| node.document(0)).collect();
    Ok(documents?.join("---\n"))
}
