//! Pods that are not where their Nodes say.

use std::sync::Arc;

use super::*;
use crate::state::{Labels, ObjectName, Pod};

impl Cluster {
    /// A pod on `node` with these addresses.
    pub(super) fn pod(&mut self, node: &str, ips: &str) {
        let pod = Pod {
            name: ObjectName::new("default", ips),
            ips: ips.split(' ').map(|ip| ip.parse().unwrap()).collect(),
            node_name: Some(Arc::from(node)),
            host_network: false,
            finished: false,
            labels: Labels::default(),
            service_account: Arc::from("default"),
            workload: None,
        };
        self.state.apply(vec![Change::Upsert(Object::Pod(pod))]);
    }
}

const OF_PEER: u32 = IpcacheValue::POD | IpcacheValue::PEER;

#[test]
fn pods_outside_of_their_nodes_ranges_are_known_one_by_one() {
    let mut cluster = Cluster::new();
    let other = cluster.peer("other", 2, "192.0.2.2", "10.1.2.0/24 fd00:2::/64");
    cluster.pod("other", "10.1.2.9 fd00:2::9");
    let ranges = ["10.1.2.0/24", "192.0.2.2/32", "fd00:2::/64"];
    assert_eq!(cluster.allowed(other), ranges);
    cluster.pod("other", "172.16.5.4 fd00:2::4");
    let mixed = [
        "10.1.2.9/32",
        "172.16.5.4/32",
        "192.0.2.2/32",
        "fd00:2::/64",
    ];
    assert_eq!(cluster.allowed(other), mixed, "IPv6 is where it should be");
    assert_eq!(cluster.flags("172.16.5.4/32"), Some(OF_PEER));
    // Whoever has an address of it next is guarded until it is known.
    assert_eq!(cluster.flags("10.1.2.0/24"), Some(IpcacheValue::POD));
    cluster.pod("this", "172.16.7.7");
    let own = Some(IpcacheValue::POD | IpcacheValue::LOCAL);
    assert_eq!(cluster.flags("172.16.7.7/32"), own);
    assert_eq!(cluster.problems(), [""; 0]);
}

#[test]
fn a_family_without_ranges_has_single_pods() {
    let mut cluster = Cluster::new();
    let other = cluster.peer("other", 2, "192.0.2.2", "10.1.2.0/24");
    cluster.pod("other", "10.1.2.9 fd00:2::9");
    assert_eq!(
        cluster.allowed(other),
        ["10.1.2.0/24", "192.0.2.2/32", "fd00:2::9/128"]
    );
}

/// Ranges are handed out to all nodes, whoever uses them.
#[test]
fn a_pod_may_be_in_a_range_that_nobody_uses_until_its_node_does() {
    let mut cluster = Cluster::new();
    let idle = cluster.peer("idle", 2, "192.0.2.2", "10.1.2.0/24");
    let other = cluster.peer("other", 1, "192.0.2.3", "10.1.3.0/24");
    cluster.pod("other", "10.1.2.77");
    assert_eq!(cluster.allowed(other), ["10.1.2.77/32", "192.0.2.3/32"]);
    assert_eq!(cluster.allowed(idle), ["10.1.2.0/24", "192.0.2.2/32"]);
    assert_eq!(cluster.problems(), [""; 0]);
    // Now it does: nobody takes a pod of it, older or not.
    cluster.pod("idle", "10.1.2.5");
    assert_eq!(cluster.allowed(other), ["192.0.2.3/32"]);
    assert_eq!(cluster.problems(), ["Node other spec.podCIDRs"]);
    assert_eq!(cluster.flags("10.1.2.0/24"), Some(OF_PEER));
}

#[test]
fn of_two_nodes_with_pods_elsewhere_the_older_has_an_address() {
    let mut cluster = Cluster::new();
    let young = cluster.peer("young", 3, "192.0.2.2", "10.1.2.0/24");
    let old = cluster.peer("old", 2, "192.0.2.3", "10.1.3.0/24");
    cluster.pod("young", "172.16.0.1 172.16.0.2");
    cluster.pod("old", "172.16.0.1");
    // A node's address is no pod's.
    cluster.pod("young", "192.0.2.3");
    assert_eq!(cluster.allowed(old), ["172.16.0.1/32", "192.0.2.3/32"]);
    assert_eq!(cluster.allowed(young), ["172.16.0.2/32", "192.0.2.2/32"]);
    let problems = cluster.desired().problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].message.contains("2 of its pods"),
        "{problems:?}"
    );
}
