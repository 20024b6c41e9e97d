//! Nodes.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// Annotation with the key of a node's device that encrypts.
pub const KEY_ANNOTATION: &str = "weir.dev/wireguard-public-key";
/// Annotation with the key that the device will have soon.
pub const NEXT_KEY_ANNOTATION: &str = "weir.dev/wireguard-public-key-next";

/// What an agent wants its own Node object to say, by the names of annotations; `None` removes one.
pub type OwnAnnotations = BTreeMap<&'static str, Option<String>>;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Name.
    pub name: String,
    /// `metadata.creationTimestamp`, seconds since 1970; manifests may not tell.
    pub created_at_seconds: Option<i64>,
    /// `status.addresses` of type InternalIP, then ExternalIP.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations that start with `weir.`; all others are dropped.
    pub annotations: BTreeMap<String, String>,
}
