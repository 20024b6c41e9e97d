//! The agent's configuration: one typed [`Config`], checked completely before anything starts.
//!
//! Values come from four layers, the later winning: built-in defaults, a YAML file, environment
//! variables, flags. Every setting is declared once, in the file of its section, with its key, its
//! documentation and its default; the key gives the variable and the flag their names
//! (`flows.reportInterval`, `WEIR_FLOWS_REPORT_INTERVAL`, `--flows-report-interval`). The printed
//! default file and `docs/reference/config.md` come from the same declarations.
//!
//! Loading never stops at the first mistake: [`ConfigError`] lists every bad value of every layer.

mod catalogue;
pub mod command;
pub mod devices;
pub mod encryption;
pub mod environment;
mod file;
pub mod flags;
pub mod flows;
pub mod load;
pub mod load_balancer;
pub mod log;
pub mod metrics;
pub mod paths;
pub mod problem;
pub mod render;
pub mod section;
pub mod source;
pub mod value;

#[cfg(test)]
mod deploy_tests;

pub use devices::{Devices, Glob, XdpMode};
pub use encryption::{
    Encryption, EndpointFamily, HostRouting, Implementation, InterfaceName, LabelSelector, Process,
    StrictMode, WireGuard,
};
pub use environment::{Environment, ProcessEnvironment};
pub use flags::ConfigFlags;
pub use flows::Flows;
pub use load::{Loaded, Loader};
pub use load_balancer::{LoadBalancer, Maglev, PortRange};
pub use log::{Log, LogFormat, LogLevel};
pub use metrics::Metrics;
pub use paths::Paths;
pub use problem::{ConfigError, Origin, Problem};
pub use section::{Section, Visitor};
pub use source::{ApiServer, Kubernetes, Manifests, NodeRecord, Source, SourceKind};
pub use value::{ByteSize, Count, Seconds, Value};

/// Read when no `--config` is given and it exists.
pub const DEFAULT_FILE: &str = "/etc/weir/config.yaml";

section::section! {
    /// Configuration of weir-agent. Every key is optional.
    pub struct Config {
        settings {
            /// Name of this node, as its Node object calls it. Empty: the machine's host name in
            /// lower case.
            "nodeName" node_name: String = String::new(),
        }
        sections {
            /// Where the desired state of the cluster comes from.
            "source" source: Source,
            /// Places on this machine.
            "paths" paths: Paths,
            /// Which network interfaces the data plane attaches to, and how.
            "devices" devices: Devices,
            /// Balancing of services.
            "loadBalancer" load_balancer: LoadBalancer,
            /// Encryption between nodes.
            "encryption" encryption: Encryption,
            /// Capture of flows.
            "flows" flows: Flows,
            /// Metrics and health over HTTP.
            "metrics" metrics: Metrics,
            /// What the agent writes to standard error.
            "log" log: Log,
        }
    }
}

impl Config {
    /// Rules that concern more than the form of one value. The keys name the setting to blame.
    fn check(&self) -> Vec<problem::Finding> {
        let mut findings = Vec::new();
        if !self.node_name.is_empty() && !is_node_name(&self.node_name) {
            findings.push(problem::Finding::new(
                "nodeName",
                "is not a name Kubernetes gives to nodes",
                "use lower-case letters, digits, '-' and '.', at most 253, as `kubectl get nodes` \
                 shows it",
            ));
        }
        self.source.check(&mut findings);
        self.paths.check(&mut findings);
        self.load_balancer.check(&mut findings);
        self.encryption.check(&self.load_balancer, &mut findings);
        self.flows.check(&mut findings);
        self.metrics.check(&mut findings);
        findings
    }
}

/// Whether `name` is a DNS subdomain as RFC 1123 and Kubernetes have it.
fn is_node_name(name: &str) -> bool {
    let label = |label: &str| {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        edge(bytes.first())
            && edge(bytes.last())
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}
