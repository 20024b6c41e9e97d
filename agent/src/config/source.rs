//! Settings of the sources of desired state.

use std::path::PathBuf;

use super::problem::Finding;
use super::section::section;
use super::value::{Count, choice};

section! {
    /// Where the desired state of the cluster comes from.
    pub struct Source {
        settings {
            /// Which source is followed: `manifests`, a directory of this node, or `kubernetes`, the
            /// API server of the cluster.
            "kind" kind: SourceKind = SourceKind::Manifests,
        }
        sections {
            /// A directory of Kubernetes YAML, followed as it changes.
            "manifests" manifests: Manifests,
            /// The API server of the cluster.
            "kubernetes" kubernetes: Kubernetes,
        }
    }
}

section! {
    /// A directory of Kubernetes YAML, followed as it changes.
    pub struct Manifests {
        settings {
            /// Directory with Service, EndpointSlice, Pod, Node and Namespace manifests in files
            /// that end in `.yaml`, `.yml` or `.json`. It need not exist yet.
            "directory" directory: PathBuf = PathBuf::from("/etc/weir/manifests"),
        }
    }
}

section! {
    /// The API server of the cluster.
    pub struct Kubernetes {
        settings {
            /// File that says how the API server is reached and who the agent is. Empty: as a pod
            /// is told, by the token of its service account.
            "kubeconfig" kubeconfig: Option<PathBuf> = None,
            /// Context of that file. Empty: its current one.
            "context" context: Option<String> = None,
        }
        sections {
            /// Address of the API server, instead of the one in the file or in the pod's
            /// environment.
            "apiServer" api_server: ApiServer,
            /// What the agent writes to the Node object of its node.
            "node" node: NodeRecord,
            /// Events about objects that are misconfigured.
            "events" events: Events,
        }
    }
}

section! {
    /// Address of the API server, instead of the one in the file or in the pod's environment.
    pub struct ApiServer {
        settings {
            /// Name or address of the API server or of a load balancer in front of it. To be set
            /// where Weir replaces kube-proxy: the ClusterIP that pods are told is served by Weir
            /// itself.
            "host" host: Option<String> = None,
            /// Port at that host.
            "port" port: Count<1, 65_535> = Count::new(6_443),
            /// Name that the certificate of the API server is checked for. Empty: the host.
            "tlsServerName" tls_server_name: Option<String> = None,
        }
    }
}

section! {
    /// What the agent writes to the Node object of its node.
    pub struct NodeRecord {
        settings {
            /// Whether the condition `WeirReady` and the annotation `weir.dev/version` are kept. Keys
            /// of encryption are published whatever this says.
            "publish" publish: bool = true,
            /// Taint that is removed from the node when the agent is ready. Whoever makes nodes may
            /// set it, so that pods wait for the data plane. Empty: taints are left alone.
            "taint" taint: Option<String> = Some(String::from("node.weir.dev/agent-not-ready")),
        }
    }
}

section! {
    /// Events about objects that are misconfigured.
    pub struct Events {
        settings {
            /// Whether they are made. Two nodes of the cluster report each mistake, not all of them.
            "enabled" enabled: bool = true,
        }
    }
}

/// Which source is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A directory of this node.
    Manifests,
    /// The API server.
    Kubernetes,
}

choice!(SourceKind { Manifests = "manifests", Kubernetes = "kubernetes" });

impl Source {
    pub(super) fn check(&self, findings: &mut Vec<Finding>) {
        if self.manifests.directory.is_file() {
            findings.push(Finding::new(
                "source.manifests.directory",
                "is a file",
                "name the directory that holds it",
            ));
        }
        self.kubernetes.check(findings);
    }
}

impl Kubernetes {
    fn check(&self, findings: &mut Vec<Finding>) {
        let host = self.api_server.host.as_deref();
        if host.is_some_and(|host| !is_host(host)) {
            findings.push(Finding::new(
                "source.kubernetes.apiServer.host",
                "is neither a DNS name nor an IP address",
                "give the host alone, as in 192.0.2.10 or api.example.com; the port has a key of \
                 its own",
            ));
        }
        if self.context.is_some() && self.kubeconfig.is_none() {
            findings.push(Finding::new(
                "source.kubernetes.context",
                "has no effect without source.kubernetes.kubeconfig",
                "name the file that has the context",
            ));
        }
        let taint = self.node.taint.as_deref();
        if taint.is_some_and(|taint| !is_qualified_name(taint)) {
            findings.push(Finding::new(
                "source.kubernetes.node.taint",
                "is no key of a taint",
                "write a key such as node.weir.dev/agent-not-ready, without value and effect",
            ));
        }
    }
}

/// Whether this can stand as the host of a URL: IPv6 without brackets.
fn is_host(host: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    host.parse::<std::net::IpAddr>().is_ok() || (!host.is_empty() && host.chars().all(name))
}

/// Whether this is a qualified name of Kubernetes: `PREFIX/NAME` or `NAME`.
fn is_qualified_name(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').unwrap_or(("prefix", text));
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    super::is_node_name(prefix) && (1..=63).contains(&name.len()) && name.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_taints_have_their_forms() {
        for good in ["api", "api.example.com", "192.0.2.1", "fd00::1"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", "https://api", "api:6443", "[fd00::1]", "a b"] {
            assert!(!is_host(bad), "{bad}");
        }
        for (taint, good) in [
            ("node.weir.dev/agent-not-ready", true),
            ("agent-not-ready", true),
            ("a/b/c", false),
            ("node.weir.dev/agent-not-ready:NoSchedule", false),
            ("x=y", false),
        ] {
            assert_eq!(is_qualified_name(taint), good, "{taint}");
        }
    }

    #[test]
    fn mistakes_of_the_section_are_found_together() {
        let mut source = Source::default();
        source.kubernetes.api_server.host = Some("https://api:6443".to_owned());
        source.kubernetes.context = Some("prod".to_owned());
        source.kubernetes.node.taint = Some("a:NoSchedule".to_owned());
        let mut findings = Vec::new();
        source.check(&mut findings);
        assert_eq!(findings.len(), 3);
    }
}
