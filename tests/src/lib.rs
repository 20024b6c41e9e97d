//! A Kubernetes-like cluster out of network namespaces, with a real agent on every node.
//!
//! All three paths are exercised from their ends: packets come from real sockets of clients and
//! pods, changes are files in an agent's manifests directory, and flows are read with the CLI.
//! Nothing here is a mock, and nothing leaves the namespaces that a cluster made.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use weir_tests::{Cluster, manifest::Service};
//!
//! let cluster = Cluster::builder("readme").nodes(2).pods_per_node(2).client("client").start()?;
//! let web = Service::new("web").external(cluster.vips(0)).tcp("http", 80, 8080);
//! cluster.serve()?;
//! cluster.apply(&web.over(cluster.pods()))?;
//! cluster.node("node1")?.agent()?.kill9()?;
//! let report = cluster.client("client")?.http(cluster.vips(0)[0], 80).requests(100).run()?;
//! assert_eq!(report.failed, 0);
//! # Ok(()) }
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`plan`] | names and addresses: pure |
//! | [`cluster`] | the cluster and its members |
//! | [`connectivity`] | a cluster as `weir connectivity test` wants it described |
//! | [`control_plane`] | a real API server |
//! | [`api_server`] | one that misbehaves, and holds large clusters |
//! | [`run`] | what a cluster left on the machine, and its removal by id |
//! | [`place`] | where a command or closure runs: namespaces and cgroup |
//! | [`traffic`] | servers, clients and load, with reports |
//! | [`losses`] | what the kernel counted as lost, at every member |
//! | [`capture`] | packets of any link, with a judgement on their checksums |
//! | [`manifest`] | Kubernetes objects as YAML |
//! | [`demo`], [`mod@bench`] | the programs `weir-demo` and `weir-bench` |

pub mod agent;
pub mod api_server;
pub mod bench;
pub mod binary;
pub mod capture;
pub mod cluster;
pub mod connectivity;
pub mod control_plane;
pub mod demo;
pub mod losses;
pub mod manifest;
pub mod mounts;
pub mod namespace;
pub mod offload;
pub mod place;
pub mod plan;
pub mod run;
pub mod traffic;
pub mod veth_xdp;
pub mod wait;
mod wiring;

pub use cluster::{Cluster, ClusterBuilder};
pub use control_plane::ControlPlane;
pub use losses::Losses;
pub use place::Place;
