//! Pods.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::ObjectName;

/// The controller that owns a pod, as users know it (a Deployment, not its ReplicaSet).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// Deployment, StatefulSet, DaemonSet, Job, ...
    pub kind: String,
    /// Name of it.
    pub name: String,
}

/// A pod, reduced to what names a flow's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Name.
    pub name: ObjectName,
    /// Addresses; empty until one is assigned.
    pub ips: Vec<IpAddr>,
    /// Node it runs on.
    pub node_name: Option<String>,
    /// Shares the node's network namespace: its addresses are the node's.
    pub host_network: bool,
    /// Succeeded or Failed: its addresses may belong to another pod by now.
    pub finished: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Service account, part of the pod's identity.
    pub service_account: String,
    /// Owner.
    pub workload: Option<Workload>,
}
