//! Numeric identities and the labels they stand for.
//!
//! The flow API names groups of pods by numbers: a few reserved ones, and one per distinct set of
//! labels. Here the number of a label set is its hash, so it is the same after a restart and, but
//! for rare collisions, on every node. Nothing is decided by it; it names flows.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::record::CLUSTER_NAME;
use crate::state::{Namespace, Pod};

/// A numeric identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct IdentityId(pub u32);

impl IdentityId {
    /// Nothing is known of the address.
    pub const UNKNOWN: Self = Self(0);
    /// This node.
    pub const HOST: Self = Self(1);
    /// Outside of the cluster.
    pub const WORLD: Self = Self(2);
    /// Another node of the cluster.
    pub const REMOTE_NODE: Self = Self(6);

    /// First number given to a label set.
    pub const FIRST_ALLOCATED: u32 = 256;
    /// Last number given to a label set.
    pub const LAST_ALLOCATED: u32 = 65_535;
}

impl fmt::Display for IdentityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The numbers of all label sets seen on this node.
#[derive(Debug, Default)]
pub struct Identities(Mutex<Allocator>);

impl Identities {
    /// The number of a set of sorted labels.
    pub fn of(&self, labels: &[String]) -> IdentityId {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .of(labels)
    }
}

/// Share of the range that may be taken before it is all forgotten. Beyond it probing gets long,
/// and a cluster does not have that many label sets: most of them are of pods long gone.
const MAX_ALLOCATED: usize = 50_000;

#[derive(Debug, Default)]
struct Allocator {
    taken: HashMap<u32, Box<[String]>>,
}

impl Allocator {
    fn of(&mut self, labels: &[String]) -> IdentityId {
        if self.taken.len() >= MAX_ALLOCATED {
            self.taken.clear();
        }
        let range = IdentityId::LAST_ALLOCATED - IdentityId::FIRST_ALLOCATED + 1;
        let mut slot = (hash(labels) % u64::from(range)) as u32;
        loop {
            let id = IdentityId::FIRST_ALLOCATED + slot;
            match self.taken.get(&id) {
                Some(owner) if **owner == *labels => return IdentityId(id),
                Some(_) => slot = (slot + 1) % range,
                None => {
                    self.taken.insert(id, labels.into());
                    return IdentityId(id);
                }
            }
        }
    }
}

/// FNV-1a over the labels, each followed by a byte that no label has.
fn hash(labels: &[String]) -> u64 {
    let bytes = labels.iter().flat_map(|label| label.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The identity labels of a pod, sorted: its own, its namespace's, its service account.
pub fn pod_labels(pod: &Pod, namespace: Option<&Namespace>) -> Vec<String> {
    let mut labels = vec![
        format!("k8s:io.cilium.k8s.policy.cluster={CLUSTER_NAME}"),
        format!("k8s:io.kubernetes.pod.namespace={}", pod.name.namespace),
    ];
    if !pod.service_account.is_empty() {
        labels.push(format!(
            "k8s:io.cilium.k8s.policy.serviceaccount={}",
            pod.service_account
        ));
    }
    for (key, value) in namespace
        .into_iter()
        .flat_map(|namespace| &namespace.labels)
    {
        labels.push(format!("k8s:io.cilium.k8s.namespace.labels.{key}={value}"));
    }
    for (key, value) in pod.labels.iter() {
        labels.push(format!("k8s:{key}={value}"));
    }
    labels.sort_unstable();
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ObjectName;
    use std::collections::{BTreeMap, HashSet};

    fn labels(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn the_same_labels_have_the_same_number_in_every_process() {
        let (one, other) = (Identities::default(), Identities::default());
        other.of(&labels("k8s:app=db"));
        assert_eq!(
            one.of(&labels("k8s:app=web")),
            other.of(&labels("k8s:app=web"))
        );
        // The value itself is part of the promise: it shows in stored flows.
        assert_eq!(one.of(&labels("k8s:app=web")), IdentityId(65_306));
    }

    #[test]
    fn different_labels_never_share_a_number() {
        let identities = Identities::default();
        let ids: HashSet<_> = (0..20_000)
            .map(|i| identities.of(&labels(&format!("k8s:app=web-{i}"))))
            .collect();
        assert_eq!(ids.len(), 20_000);
        assert!(ids.iter().all(|id| (256..=65_535).contains(&id.0)));
        assert_ne!(
            identities.of(&labels("a,bc")),
            identities.of(&labels("ab,c"))
        );
    }

    #[test]
    fn a_full_range_starts_over() {
        let mut allocator = Allocator::default();
        for i in 0..=MAX_ALLOCATED {
            allocator.of(&labels(&format!("k8s:app={i}")));
        }
        assert_eq!(allocator.taken.len(), 1);
    }

    #[test]
    fn pod_labels_are_sorted_and_say_whose_they_are() {
        let label = |key: &str| (key.to_owned(), "x".to_owned());
        let pod = Pod {
            name: ObjectName::new("shop", "web-1"),
            ips: [].into(),
            node_name: None,
            host_network: false,
            finished: false,
            labels: ["notkubernetes.io/team", "app.kubernetes.io/name", "app"]
                .map(label)
                .into_iter()
                .collect(),
            service_account: "web".into(),
            workload: None,
        };
        let namespace = Namespace {
            name: "shop".into(),
            labels: BTreeMap::from([label("env")]),
        };
        assert_eq!(
            pod_labels(&pod, Some(&namespace)),
            [
                "k8s:app.kubernetes.io/name=x",
                "k8s:app=x",
                "k8s:io.cilium.k8s.namespace.labels.env=x",
                "k8s:io.cilium.k8s.policy.cluster=default",
                "k8s:io.cilium.k8s.policy.serviceaccount=web",
                "k8s:io.kubernetes.pod.namespace=shop",
                "k8s:notkubernetes.io/team=x",
            ]
        );
    }
}
