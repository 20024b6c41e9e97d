//! Pods.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Labels, ObjectName};

/// The controller that owns a pod, as users know it (a Deployment, not its ReplicaSet).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// Deployment, StatefulSet, DaemonSet, Job, ...
    pub kind: String,
    /// Name of it.
    pub name: String,
}

/// A pod, reduced to what names a flow's end.
///
/// There are tens of thousands of other nodes' in a large cluster, so what pods have in common is
/// shared: the tables see to that, whoever made the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Name.
    pub name: ObjectName,
    /// Addresses; empty until one is assigned.
    pub ips: Box<[IpAddr]>,
    /// Node it runs on.
    pub node_name: Option<Arc<str>>,
    /// Shares the node's network namespace: its addresses are the node's.
    pub host_network: bool,
    /// Succeeded or Failed: its addresses may belong to another pod by now.
    pub finished: bool,
    /// Labels that name a group of pods: those that change with every rollout or pod are left out.
    pub labels: Labels,
    /// Service account, part of the pod's identity.
    pub service_account: Arc<str>,
    /// Owner.
    pub workload: Option<Arc<Workload>>,
}

impl Pod {
    /// Addresses that are this pod's alone.
    pub fn own_ips(&self) -> &[IpAddr] {
        if self.host_network || self.finished {
            &[]
        } else {
            &self.ips
        }
    }
}
