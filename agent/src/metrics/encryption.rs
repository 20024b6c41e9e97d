//! Encryption between nodes.

use std::collections::BTreeMap;
use std::time::SystemTime;

use ebpf_abi::{NodeId, TrafficPath};

use super::table::{Families, Metric};
use crate::encryption::snapshot::handle::{Account, EncryptionHandle};
use crate::encryption::snapshot::{Handshake, NodeStanding, Snapshot};

/// Nodes that get samples of their own, the oldest first, so that it is the same ones from scrape to
/// scrape. What others count is added up under [`OTHERS`].
const NODES_MAX: usize = 256;

/// Label of all other nodes together.
const OTHERS: &str = "(others)";
/// Label of addresses that belong to no node that is known.
const UNKNOWN: &str = "(unknown)";

const ENABLED: Metric = Metric::gauge("weir_encryption_enabled", "1 if encryption is on");
const IN_STEP: Metric = Metric::gauge(
    "weir_encryption_in_step",
    "1 if the last attempt to bring device, peers, routes and ranges in step went well",
);
const FAILED_STEPS: Metric = Metric::counter(
    "weir_encryption_failed_steps",
    "Attempts that failed since the agent started",
);
const STRICT: Metric = Metric::gauge(
    "weir_encryption_strict",
    "1 if what would leave for pods in clear text is dropped",
);
const DEVICE_INFO: Metric = Metric::gauge(
    "weir_encryption_device_info",
    "Always 1; the labels tell who encrypts, `kernel` or `userspace`, and the name of the device",
)
.labels(&["backend", "device"]);
const DEVICE_MTU: Metric = Metric::gauge(
    "weir_encryption_device_mtu",
    "Largest packet before encryption",
)
.unit("bytes");
const NODES: Metric = Metric::gauge(
    "weir_encryption_nodes",
    "Nodes of the cluster by standing: `this`, `peer`, `no_key`, `refused`",
)
.labels(&["standing"]);
const PEERS: Metric = Metric::gauge(
    "weir_encryption_peers",
    "Nodes that are peers, by what their handshakes say: `fresh`, `idle` and `none` are well, \
     `stale` and `never` do not answer",
)
.labels(&["handshake"]);
const CHANGING: Metric = Metric::gauge(
    "weir_encryption_peers_changing_key",
    "Nodes that have announced a new key and not taken back the old one",
);
const HANDSHAKE_AGE: Metric = Metric::gauge(
    "weir_encryption_last_handshake_age",
    "Time since the last handshake with a node; grows while there is nothing to send. Of the 256 \
     oldest nodes, and of the others the largest",
)
.unit("seconds")
.labels(&["node"]);
const RECEIVED: Metric = Metric::counter(
    "weir_encryption_received",
    "Bytes received from a node, as the device counts them; starts again when the node has a new \
     key",
)
.unit("bytes")
.labels(&["node"]);
const TRAFFIC_BYTES: Metric = Metric::counter(
    "weir_encryption_traffic",
    "Bytes to a node by path, before encryption; counted also while no agent runs",
)
.unit("bytes")
.labels(&["node", "path"]);
const TRAFFIC_PACKETS: Metric = Metric::counter(
    "weir_encryption_traffic",
    "Packets to a node by path; counted also while no agent runs",
)
.unit("packets")
.labels(&["node", "path"]);
const KEY_AGE: Metric =
    Metric::gauge("weir_encryption_key_age", "Age of the key in use").unit("seconds");
const ROTATION_AGE: Metric = Metric::gauge(
    "weir_encryption_key_rotation_age",
    "Time since the change of key that is under way began; 0 if none is",
)
.unit("seconds");
const ROTATION_OVERDUE: Metric = Metric::gauge(
    "weir_encryption_key_rotation_overdue",
    "Time by which the new key is late; 0 if it is not",
)
.unit("seconds");

/// All of this part.
pub const METRICS: &[&Metric] = &[
    &ENABLED,
    &IN_STEP,
    &FAILED_STEPS,
    &STRICT,
    &DEVICE_INFO,
    &DEVICE_MTU,
    &NODES,
    &PEERS,
    &CHANGING,
    &HANDSHAKE_AGE,
    &RECEIVED,
    &TRAFFIC_BYTES,
    &TRAFFIC_PACKETS,
    &KEY_AGE,
    &ROTATION_AGE,
    &ROTATION_OVERDUE,
];

/// Adds their samples; while encryption is off, only that it is.
pub fn add(families: &mut Families<'_>, handle: Option<&EncryptionHandle>) -> anyhow::Result<()> {
    families.flag(&ENABLED, handle.is_some());
    let Some(handle) = handle else { return Ok(()) };
    let snapshot = handle.snapshot();
    let now = SystemTime::now();
    device(families, &snapshot);
    nodes(families, &snapshot, now);
    key(families, &snapshot, now);
    traffic(families, &snapshot, &handle.account()?);
    Ok(())
}

fn device(families: &mut Families<'_>, snapshot: &Snapshot) {
    // Before the first step nothing is in step either.
    let in_step = snapshot.failure.is_none() && snapshot.backend.is_some();
    families.flag(&IN_STEP, in_step);
    families.counter(&FAILED_STEPS, snapshot.failed_steps);
    families.flag(&STRICT, snapshot.strict);
    let backend = snapshot.backend.map(|backend| backend.to_string());
    let name = snapshot.device.as_str();
    families.gauges(
        &DEVICE_INFO,
        backend
            .iter()
            .map(|backend| ([backend.as_str(), name], 1.0)),
    );
    families.gauge(&DEVICE_MTU, f64::from(snapshot.mtu));
}

fn nodes(families: &mut Families<'_>, snapshot: &Snapshot, now: SystemTime) {
    let nodes = &snapshot.nodes;
    let of_standing = |standing| nodes.iter().filter(move |node| node.standing == standing);
    let counts = NodeStanding::ALL
        .iter()
        .map(|(standing, name)| ([*name], of_standing(*standing).count() as f64));
    families.gauges(&NODES, counts);
    let peers = || snapshot.peer_nodes();
    let counts = Handshake::ALL.iter().map(|(handshake, name)| {
        let count = peers().filter(|node| node.handshake == *handshake).count();
        ([*name], count as f64)
    });
    families.gauges(&PEERS, counts);
    let changing = peers().filter(|node| node.is_changing_key()).count();
    families.gauge(&CHANGING, changing as f64);

    let mut ages: BTreeMap<&str, f64> = BTreeMap::new();
    let mut received: BTreeMap<&str, u64> = BTreeMap::new();
    for (place, node) in nodes.iter().enumerate() {
        if node.standing != NodeStanding::Peer {
            continue;
        }
        let label = label(place, &node.name);
        let bytes = node.peers.iter().map(|peer| peer.traffic.received_bytes);
        *received.entry(label).or_default() += bytes.sum::<u64>();
        if let Some(last) = node.last_handshake() {
            let age = now.duration_since(last).unwrap_or_default().as_secs_f64();
            let largest = ages.entry(label).or_default();
            *largest = largest.max(age);
        }
    }
    families.gauges(
        &HANDSHAKE_AGE,
        ages.into_iter().map(|(node, age)| ([node], age)),
    );
    families.counters(
        &RECEIVED,
        received.into_iter().map(|(node, bytes)| ([node], bytes)),
    );
}

fn key(families: &mut Families<'_>, snapshot: &Snapshot, now: SystemTime) {
    let since = |time: SystemTime| now.duration_since(time).unwrap_or_default().as_secs_f64();
    if let Some(key) = snapshot.key {
        families.gauge(&KEY_AGE, since(key.created));
    }
    let rotation = snapshot.rotation.as_ref();
    families.gauge(&ROTATION_AGE, rotation.map_or(0.0, |it| since(it.began)));
    families.gauge(
        &ROTATION_OVERDUE,
        rotation.map_or(0.0, |it| since(it.in_use_from)),
    );
}

fn traffic(families: &mut Families<'_>, snapshot: &Snapshot, account: &Account) {
    let nodes = snapshot.nodes.iter().enumerate();
    let labels: BTreeMap<NodeId, &str> = nodes
        .map(|(place, node)| (node.id, label(place, &node.name)))
        .filter(|(id, _)| *id != NodeId(0))
        .collect();
    let rows = || {
        account.iter().map(|((id, path), value)| {
            let node = labels.get(id).copied().unwrap_or(UNKNOWN);
            ([node, path.name()], value)
        })
    };
    // Alerts on growth need a zero to grow from.
    let zeros = TrafficPath::ALL
        .iter()
        .map(|(_, name)| ([UNKNOWN, *name], 0));
    families.counters(
        &TRAFFIC_BYTES,
        zeros
            .clone()
            .chain(rows().map(|(labels, value)| (labels, value.bytes))),
    );
    families.counters(
        &TRAFFIC_PACKETS,
        zeros.chain(rows().map(|(labels, value)| (labels, value.packets))),
    );
}

/// The name of the node at this place in the order of age, or that of all others.
fn label(place: usize, name: &str) -> &str {
    if place < NODES_MAX { name } else { OTHERS }
}
