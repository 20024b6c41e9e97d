//! Settings of the sources of desired state.

use std::path::PathBuf;

use super::problem::Finding;
use super::section::section;

section! {
    /// Where the desired state of the cluster comes from.
    pub struct Source {
        settings {}
        sections {
            /// A directory of Kubernetes YAML, followed as it changes.
            "manifests" manifests: Manifests,
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

impl Source {
    pub(super) fn check(&self, findings: &mut Vec<Finding>) {
        if self.manifests.directory.is_file() {
            findings.push(Finding::new(
                "source.manifests.directory",
                "is a file",
                "name the directory that holds it",
            ));
        }
    }
}
