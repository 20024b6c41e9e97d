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
const OWN: u32 = IpcacheValue::POD | IpcacheValue::LOCAL;

/// Ranges are handed out, and the CNI has others.
#[test]
fn pods_outside_of_their_nodes_ranges_are_known_one_by_one() {
    let mut cluster = Cluster::new();
    cluster.config.strict_mode.pod_cidrs = vec!["172.16.0.0/16".parse().unwrap()];
    let other = cluster.peer("other", 2, "192.0.2.2", "10.1.2.0/24 fd00:2::/64");
    cluster.pod("other", "172.16.5.4 fd00:2::4");
    let allowed = ["172.16.5.4/32", "192.0.2.2/32", "fd00:2::/64"];
    assert_eq!(
        cluster.allowed(other),
        allowed,
        "IPv6 is where it should be"
    );
    assert_eq!(cluster.flags("172.16.5.4/32"), Some(OF_PEER));
    // Whoever has an address of it next is guarded until it is known.
    assert_eq!(cluster.flags("10.1.2.0/24"), Some(IpcacheValue::POD));
    assert_eq!(cluster.flags("172.16.0.0/16"), Some(IpcacheValue::POD));
    cluster.pod("this", "172.16.7.7");
    assert_eq!(cluster.flags("172.16.7.7/32"), Some(OWN));
    assert_eq!(cluster.problems(), [""; 0]);
    // With pods in both, the range stays the node's: one pod does not take it from all others.
    cluster.pod("other", "10.1.2.9");
    let allowed = [
        "10.1.2.0/24",
        "172.16.5.4/32",
        "192.0.2.2/32",
        "fd00:2::/64",
    ];
    assert_eq!(cluster.allowed(other), allowed);
    assert_eq!(cluster.problems(), [""; 0]);
}

/// A node says itself where its pods are: it could name any address there is.
#[test]
fn a_pod_in_no_range_of_pods_is_guarded_and_nobodys() {
    let mut cluster = Cluster::new();
    let other = cluster.peer("other", 2, "192.0.2.2", "10.1.2.0/24");
    cluster.pod("other", "203.0.113.10");
    cluster.pod("other", "fd00:2::9");
    assert_eq!(cluster.allowed(other), ["192.0.2.2/32"]);
    for prefix in ["203.0.113.10/32", "fd00:2::9/128"] {
        assert_eq!(cluster.flags(prefix), Some(IpcacheValue::POD), "{prefix}");
    }
    assert_eq!(cluster.problems(), ["Node other spec.podCIDRs"]);
    // Of its own pods this node knows.
    cluster.pod("this", "198.51.100.9");
    assert_eq!(cluster.flags("198.51.100.9/32"), Some(OWN));
    let range = |it: &str| it.parse().unwrap();
    cluster.config.strict_mode.pod_cidrs = vec![range("203.0.113.0/24"), range("fd00::/16")];
    assert_eq!(cluster.problems(), [""; 0]);
    let allowed = ["192.0.2.2/32", "203.0.113.10/32", "fd00:2::9/128"];
    assert_eq!(cluster.allowed(other), allowed);
}

#[test]
fn a_pod_may_be_in_a_range_that_its_node_does_not_use() {
    let mut cluster = Cluster::new();
    let idle = cluster.peer("idle", 2, "192.0.2.2", "10.1.2.0/24");
    let other = cluster.peer("other", 1, "192.0.2.3", "10.1.3.0/24");
    cluster.pod("other", "10.1.2.77");
    assert_eq!(cluster.allowed(other), ["10.1.2.77/32", "192.0.2.3/32"]);
    assert_eq!(cluster.allowed(idle), ["192.0.2.2/32"]);
    assert_eq!(cluster.flags("10.1.2.0/24"), Some(IpcacheValue::POD));
    assert_eq!(cluster.problems(), [""; 0]);
    // Now it does: nobody takes a pod of it, older or not.
    cluster.pod("idle", "10.1.2.5");
    assert_eq!(cluster.allowed(other), ["192.0.2.3/32"]);
    assert_eq!(cluster.allowed(idle), ["10.1.2.0/24", "192.0.2.2/32"]);
    assert_eq!(cluster.problems(), ["Node other spec.podCIDRs"]);
    assert_eq!(cluster.flags("10.1.2.0/24"), Some(OF_PEER));
}

#[test]
fn of_two_nodes_with_a_pod_at_an_address_the_older_has_it() {
    let mut cluster = Cluster::new();
    cluster.config.strict_mode.pod_cidrs = vec!["172.16.0.0/16".parse().unwrap()];
    let young = cluster.peer("young", 3, "192.0.2.2", "10.1.2.0/24");
    let old = cluster.peer("old", 2, "192.0.2.3", "10.1.3.0/24");
    let bare = cluster.peer("bare", 4, "192.0.2.4", "");
    cluster.pod("young", "172.16.0.1 172.16.0.2");
    cluster.pod("old", "172.16.0.1");
    cluster.pod("bare", "172.16.0.3");
    // A node's address is no pod's, and what is in the only place it can be is nobody else's.
    cluster.pod("young", "192.0.2.3");
    cluster.pod("old", "172.16.0.3 192.0.2.3");
    assert_eq!(cluster.allowed(old), ["172.16.0.1/32", "192.0.2.3/32"]);
    assert_eq!(cluster.allowed(young), ["172.16.0.2/32", "192.0.2.2/32"]);
    assert_eq!(cluster.allowed(bare), ["172.16.0.3/32", "192.0.2.4/32"]);
    let problems = ["Node old spec.podCIDRs", "Node young spec.podCIDRs"];
    assert_eq!(cluster.problems(), problems);
}
