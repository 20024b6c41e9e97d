use std::collections::{BTreeMap, BTreeSet};

use ebpf_abi::{IpcacheValue, NodeId};

use super::ranges::{NodeIds, guard_gone, ranges, without_routes};
use super::routes::{Device, routing};
use super::*;
use crate::encryption::key::PrivateKey;
use crate::encryption::link::IfIndex;
use crate::encryption::path_mtu::Tunnels;
use crate::encryption::routing::{Routing, RuleAction};
use crate::state::{Change, KEY_ANNOTATION, Node, Object};

mod keys;
mod pods;
mod routes;

/// A cluster in which `this` is the node of the agent.
struct Cluster {
    state: ClusterState,
    config: config::Encryption,
    own_key: Option<PublicKey>,
    in_use: BTreeSet<PublicKey>,
    records: Records,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self {
            state: ClusterState::default(),
            config: config::Encryption::default(),
            own_key: Some(key()),
            in_use: BTreeSet::new(),
            records: Records::new(),
        };
        cluster.node("this", 1, "192.0.2.1", "10.1.1.0/24", &[]);
        cluster
    }

    fn node(&mut self, name: &str, age: i64, ip: &str, pods: &str, keys: &[(&str, String)]) {
        let node = Node {
            name: name.to_owned(),
            created_at_seconds: Some(age),
            addresses: ip.split(' ').map(|ip| ip.parse().unwrap()).collect(),
            pod_cidrs: pods
                .split_whitespace()
                .map(|it| it.parse().unwrap())
                .collect(),
            labels: BTreeMap::new(),
            annotations: keys
                .iter()
                .map(|(name, key)| ((*name).to_owned(), key.clone()))
                .collect(),
        };
        self.state.apply(vec![Change::Upsert(Object::Node(node))]);
    }

    fn peer(&mut self, name: &str, age: i64, ip: &str, pods: &str) -> PublicKey {
        let key = key();
        self.node(name, age, ip, pods, &[(KEY_ANNOTATION, key.to_string())]);
        key
    }

    fn desired(&self) -> Desired {
        let inputs = Inputs {
            node_name: "this",
            own_key: self.own_key,
            own_next_key: None,
            in_use: &self.in_use,
            secret: None,
            records: &self.records,
            config: &self.config,
        };
        desired(&self.state, &inputs)
    }

    /// Prefixes of a peer, as text.
    fn allowed(&self, key: PublicKey) -> Vec<String> {
        let desired = self.desired();
        let peer = desired.peers.get(&key);
        let prefixes = peer.iter().flat_map(|peer| &peer.allowed_ips);
        prefixes.map(ToString::to_string).collect()
    }

    fn problems(&self) -> Vec<String> {
        let desired = self.desired();
        desired
            .problems
            .iter()
            .map(|it| format!("{} {}", it.object, it.field))
            .collect()
    }

    fn flags(&self, prefix: &str) -> Option<u32> {
        let desired = self.desired();
        let mut ids = NodeIds::default();
        ids.follow(&desired);
        let ranges = ranges(&desired, &self.state, &self.config, &ids);
        ranges
            .get(&prefix.parse().unwrap())
            .map(|value| value.flags)
    }
}

fn key() -> PublicKey {
    PrivateKey::generate().public()
}

#[test]
fn a_node_with_a_key_is_a_peer_for_its_pods_and_itself() {
    let mut cluster = Cluster::new();
    let key = cluster.peer(
        "other",
        2,
        "192.0.2.2 2001:db8::2",
        "10.1.2.0/24 fd00:2::/64",
    );
    assert_eq!(
        cluster.allowed(key),
        [
            "10.1.2.0/24",
            "192.0.2.2/32",
            "2001:db8::2/128",
            "fd00:2::/64"
        ]
    );
    let desired = cluster.desired();
    assert_eq!(desired.problems, []);
    let endpoint = desired.peers[&key].endpoint.unwrap();
    assert_eq!(endpoint.to_string(), "192.0.2.2:51871");
    assert_eq!(
        cluster.flags("10.1.2.0/24"),
        Some(IpcacheValue::POD | IpcacheValue::PEER)
    );
    assert_eq!(
        cluster.flags("10.1.1.0/24"),
        Some(IpcacheValue::POD | IpcacheValue::LOCAL)
    );
    assert_eq!(
        cluster.flags("192.0.2.2/32"),
        Some(IpcacheValue::NODE | IpcacheValue::PEER)
    );
}

#[test]
fn a_node_without_a_key_is_guarded_and_no_peer() {
    let mut cluster = Cluster::new();
    cluster.node("other", 2, "192.0.2.2", "10.1.2.0/24", &[]);
    assert_eq!(cluster.desired().peers.len(), 0);
    assert_eq!(cluster.problems(), [""; 0]);
    assert_eq!(cluster.flags("10.1.2.0/24"), Some(IpcacheValue::POD));
}

/// Its file may be damaged, or open to others.
#[test]
fn a_node_whose_own_key_is_not_known_guards_all_the_same() {
    let mut cluster = Cluster::new();
    cluster.peer("other", 2, "192.0.2.2", "10.1.2.0/24");
    cluster.node("keyless", 3, "192.0.2.3", "10.1.3.0/24", &[]);
    let ranges = ["10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24", "192.0.2.3/32"];
    let flags = |cluster: &Cluster| ranges.map(|range| cluster.flags(range));
    let before = flags(&cluster);
    assert!(before.iter().all(Option::is_some), "{before:?}");
    cluster.own_key = None;
    assert_eq!(flags(&cluster), before);
}

#[test]
fn a_published_record_stands_for_the_annotation() {
    let mut cluster = Cluster::new();
    cluster.node("other", 2, "192.0.2.2", "10.1.2.0/24", &[]);
    let key = key();
    let record = BTreeMap::from([(KEY_ANNOTATION.to_owned(), key.to_string())]);
    cluster.records.insert("other".into(), record);
    assert_eq!(cluster.allowed(key), ["10.1.2.0/24", "192.0.2.2/32"]);
}

#[test]
fn the_older_of_two_nodes_keeps_what_both_claim() {
    for (pods, guarded) in [
        ("10.1.2.0/24", Some(IpcacheValue::POD | IpcacheValue::PEER)),
        ("10.1.2.128/25", None),
        ("10.1.0.0/16", Some(IpcacheValue::POD)),
    ] {
        let mut cluster = Cluster::new();
        // The name comes first and the node is younger.
        let thief = cluster.peer("a-thief", 9, "192.0.2.9", pods);
        let owner = cluster.peer("owner", 2, "192.0.2.2", "10.1.2.0/24");
        assert_eq!(cluster.allowed(thief), ["192.0.2.9/32"], "{pods}");
        assert_eq!(
            cluster.allowed(owner),
            ["10.1.2.0/24", "192.0.2.2/32"],
            "{pods}"
        );
        assert_eq!(cluster.problems(), ["Node a-thief spec.podCIDRs"]);
        // What is not the owner's already is guarded; a part of that is the owner's still.
        let owners = Some(IpcacheValue::POD | IpcacheValue::PEER);
        assert_eq!(cluster.flags("10.1.2.0/24"), owners, "{pods}");
        assert_eq!(cluster.flags(pods), guarded, "{pods}");
    }
}

/// The narrower of two ranges that a node has does not hide the wider one from a younger node's claim.
#[test]
fn a_range_within_another_of_the_same_node_opens_no_gap() {
    for pods in [
        "10.8.0.0/16 10.8.0.0/24",
        "10.8.0.0/24 10.8.0.0/16",
        "10.8.0.0/16 10.8.5.0/24",
        "10.8.5.0/24 10.8.0.0/16",
    ] {
        for claim in ["10.8.128.0/17", "10.8.0.128/25", "10.8.0.0/15"] {
            let mut cluster = Cluster::new();
            let owner = cluster.peer("owner", 2, "192.0.2.2", pods);
            let thief = cluster.peer("thief", 9, "192.0.2.9", claim);
            assert_eq!(cluster.allowed(thief), ["192.0.2.9/32"], "{pods} {claim}");
            assert_eq!(cluster.allowed(owner), ["10.8.0.0/16", "192.0.2.2/32"]);
            assert_eq!(cluster.problems(), ["Node thief spec.podCIDRs"], "{pods}");
        }
    }
}

#[test]
fn nobody_gets_the_nodes_own_addresses_or_everything() {
    for pods in ["192.0.2.0/24", "0.0.0.0/0", "192.0.2.1/32"] {
        let mut cluster = Cluster::new();
        let thief = cluster.peer("thief", 0, "198.51.100.9", pods);
        assert_eq!(cluster.allowed(thief), ["198.51.100.9/32"], "{pods}");
        assert_eq!(cluster.problems(), ["Node thief spec.podCIDRs"], "{pods}");
        let node = Some(IpcacheValue::NODE | IpcacheValue::LOCAL);
        assert_eq!(cluster.flags("192.0.2.1/32"), node, "{pods}");
        if pods != "192.0.2.1/32" {
            assert_eq!(cluster.flags(pods), None, "whoever else is in {pods}");
        }
    }
    // Not even the own range of this node, by an older node.
    let mut cluster = Cluster::new();
    let thief = cluster.peer("thief", 0, "192.0.2.9", "10.1.1.0/24");
    assert_eq!(cluster.allowed(thief), ["192.0.2.9/32"]);
    assert_eq!(
        cluster.flags("10.1.1.0/24"),
        Some(IpcacheValue::POD | IpcacheValue::LOCAL)
    );
}

#[test]
fn allowed_ranges_may_be_larger_or_smaller_than_those_of_nodes() {
    let mut cluster = Cluster::new();
    cluster.peer("other", 2, "192.0.2.2", "10.1.2.0/24");
    let allow = |cluster: &mut Cluster, range: &str| {
        cluster.config.strict_mode.allowed_cidrs = vec![range.parse().unwrap()];
    };
    let peer = IpcacheValue::POD | IpcacheValue::PEER;
    allow(&mut cluster, "10.0.0.0/8");
    assert_eq!(
        cluster.flags("10.1.2.0/24"),
        Some(peer | IpcacheValue::CLEAR_ALLOWED)
    );
    allow(&mut cluster, "10.1.2.128/25");
    assert_eq!(cluster.flags("10.1.2.0/24"), Some(peer));
    assert_eq!(
        cluster.flags("10.1.2.128/25"),
        Some(peer | IpcacheValue::CLEAR_ALLOWED)
    );
    allow(&mut cluster, "172.16.0.0/12");
    assert_eq!(cluster.flags("172.16.0.0/12"), None);
}

#[test]
fn ranges_of_nodes_that_are_gone_are_guarded_until_somebody_has_them() {
    let mut cluster = Cluster::new();
    cluster.peer("other", 2, "192.0.2.2", "10.1.2.0/24");
    cluster.peer("wide", 3, "192.0.2.3", "10.4.0.0/16");
    cluster.config.strict_mode.allowed_cidrs = vec!["10.1.3.128/25".parse().unwrap()];
    let desired = cluster.desired();
    let mut ids = NodeIds::default();
    ids.follow(&desired);
    let before = ranges(&desired, &cluster.state, &cluster.config, &ids);
    let mut after = before.clone();
    let gone = ["10.1.2.0/24", "10.4.9.0/24", "10.1.3.0/24"].map(|it| it.parse().unwrap());
    guard_gone(&mut after, &gone, &cluster.config.strict_mode);
    let mut more = after
        .iter()
        .filter(|(prefix, value)| before.get(prefix) != Some(value));
    let mut next = || {
        more.next()
            .map(|(prefix, value)| (prefix.to_string(), value.flags))
    };
    assert_eq!(next(), Some(("10.1.3.0/24".to_owned(), IpcacheValue::POD)));
    let allowed = IpcacheValue::POD | IpcacheValue::CLEAR_ALLOWED;
    assert_eq!(next(), Some(("10.1.3.128/25".to_owned(), allowed)));
    assert_eq!(
        next(),
        None,
        "what lies in a range of a node's is that node's"
    );
}

#[test]
fn numbers_of_nodes_survive_a_restart_and_are_not_given_twice_at_once() {
    let mut cluster = Cluster::new();
    cluster.peer("b", 2, "192.0.2.2", "10.1.2.0/24");
    let mut ids = NodeIds::default();
    ids.follow(&cluster.desired());
    let known = ranges(&cluster.desired(), &cluster.state, &cluster.config, &ids);
    cluster.peer("a", 3, "192.0.2.3", "10.1.3.0/24");
    let mut after = NodeIds::recover(&known, &cluster.desired());
    assert_eq!(after.follow(&cluster.desired()), []);
    for name in ["this", "b"] {
        assert_eq!(after.id(name), ids.id(name));
    }
    let numbers: BTreeSet<_> = ["this", "a", "b"].map(|name| after.id(name)).into();
    assert_eq!(numbers.len(), 3);
    assert!(!numbers.contains(&Some(NodeId(0))));
    let gone = ids.id("b").unwrap();
    let lonely = Cluster::new();
    assert_eq!(ids.follow(&lonely.desired()), [gone]);
}

#[test]
fn excepted_nodes_are_the_operators_word() {
    let mut cluster = Cluster::new();
    let with_label = |cluster: &mut Cluster, name: &str| {
        let mut node = cluster.state.node(name).unwrap().clone();
        node.labels.insert(
            "node-role.kubernetes.io/control-plane".into(),
            String::new(),
        );
        cluster
            .state
            .apply(vec![Change::Upsert(Object::Node(node))]);
    };
    cluster.peer("other", 2, "192.0.2.2", "10.1.2.0/24");
    cluster.peer("control", 3, "192.0.2.3", "10.1.3.0/24");
    cluster.node("keyless", 4, "192.0.2.4", "10.1.4.0/24", &[]);
    with_label(&mut cluster, "control");
    with_label(&mut cluster, "keyless");
    let (peer, clear) = (
        IpcacheValue::NODE | IpcacheValue::PEER,
        IpcacheValue::CLEAR_ALLOWED,
    );
    let flags = |cluster: &Cluster| {
        ["192.0.2.2/32", "192.0.2.3/32", "192.0.2.4/32"].map(|it| cluster.flags(it).unwrap())
    };
    let keyless = IpcacheValue::NODE | clear;
    assert_eq!(flags(&cluster), [peer, peer, keyless]);
    cluster.config.node = true;
    assert_eq!(flags(&cluster), [peer, peer | clear, keyless]);
    with_label(&mut cluster, "this");
    assert_eq!(flags(&cluster), [peer | clear, peer | clear, keyless]);
    assert_eq!(
        cluster.flags("10.1.3.0/24"),
        Some(IpcacheValue::POD | IpcacheValue::PEER),
        "its pods are not excepted"
    );
}
