//! What goes wrong on Kubernetes.

use std::time::Duration;

use kube::config::{InferConfigError, KubeconfigError};
use thiserror::Error;

/// Why the suite cannot run on a cluster.
#[derive(Debug, Error)]
pub enum KubernetesError {
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig cannot be used")]
    Kubeconfig(#[source] KubeconfigError),
    /// There is no way to a cluster.
    #[error(
        "no cluster is known here: name a file with --kubeconfig or KUBECONFIG, or an inventory of \
         your own with --inventory"
    )]
    Nowhere(#[source] Box<InferConfigError>),
    /// Certificates, keys or tokens cannot be used.
    #[error("what the kubeconfig names cannot be used")]
    Client(#[source] Box<kube::Error>),
    /// The API server said no, or nothing.
    #[error("the API server refused {what}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its words.
        source: Box<kube::Error>,
    },
    /// No node takes pods.
    #[error("no node can take the pods of the suite:\n  {}", .0.join("\n  "))]
    NoNodes(Vec<String>),
    /// Nothing of Weir would be tried.
    #[error(
        "agents run on nodes that take no pods, and on no other, so nothing of Weir would be tried; \
         `kubectl uncordon` one of them:\n  {}", .0.join("\n  ")
    )]
    NoNodeWithAgent(Vec<String>),
    /// There are no agents to take the image from.
    #[error(
        "no agents were found (pods labelled {}), so their image is not known: name one with \
         --image, or their namespace with --agent-namespace",
        super::AGENTS
    )]
    NoImage,
    /// It is left of an earlier run, or somebody's.
    #[error(
        "the namespace {0} is there already, and is left alone. If an earlier run left it, `kubectl \
         delete namespace {0}`; else choose another one with --namespace"
    )]
    NamespaceExists(String),
    /// Something did not become ready.
    #[error(
        "not ready after {}s:\n  {}\nTo look at it: --keep, then `kubectl --namespace {namespace} \
         describe pods`", .after.as_secs(), .waiting.join("\n  ")
    )]
    NotReady {
        /// Where.
        namespace: String,
        /// How long it was waited for.
        after: Duration,
        /// What is not, and why.
        waiting: Vec<String>,
    },
    /// The namespace does not go away.
    #[error(
        "the namespace {namespace} is still there {}s after its deletion: see `kubectl get namespace \
         {namespace} --output yaml`", .after.as_secs()
    )]
    NotRemoved {
        /// Its name.
        namespace: String,
        /// How long it was waited for.
        after: Duration,
    },
}
