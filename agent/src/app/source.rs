//! Starts the configured source.

use std::path::Path;

use tokio::sync::watch;

use crate::config::{Config, SourceKind};
use crate::encryption::published::{Publication, Published};
use crate::lifecycle::{Readiness, TaskSet};
use crate::source::kubernetes::{self, Record, Timing};
use crate::source::manifests;
use crate::state::{KEY_ANNOTATION, NEXT_KEY_ANNOTATION, OwnAnnotations, SharedState};

/// A source that was not started yet.
pub(super) struct Source {
    annotations: watch::Sender<OwnAnnotations>,
}

impl Source {
    pub(super) fn new(config: &Config) -> Self {
        let mut annotations = OwnAnnotations::new();
        if !config.encryption.enabled {
            // What an earlier agent published says that this node can be sent to encrypted.
            annotations.insert(KEY_ANNOTATION, None);
            annotations.insert(NEXT_KEY_ANNOTATION, None);
        }
        Self {
            annotations: watch::Sender::new(annotations),
        }
    }

    /// Where keys are published: where the objects come from.
    pub(super) fn publication(&self, config: &Config) -> Publication {
        match config.source.kind {
            SourceKind::Manifests => {
                Publication::Folder(Published::below(&config.source.manifests.directory))
            }
            SourceKind::Kubernetes => Publication::Node(self.annotations.clone()),
        }
    }

    /// Starts it. To be called when all parts have taken their guards of readiness.
    pub(super) fn start(
        self,
        config: &Config,
        state: &SharedState,
        synced: watch::Sender<bool>,
        readiness: &Readiness,
        tasks: &mut TaskSet,
    ) {
        let stop = tasks.token();
        match config.source.kind {
            SourceKind::Manifests => {
                let source = manifests::run(
                    config.source.manifests.directory.clone(),
                    config.paths.state.clone(),
                    state.clone(),
                    synced,
                    stop,
                );
                tasks.spawn("manifests", source);
            }
            SourceKind::Kubernetes => {
                let inputs = kubernetes::Inputs {
                    settings: config.source.kubernetes.clone(),
                    node_name: config.node_name.clone(),
                    state_folder: config.paths.state.clone(),
                    state: state.clone(),
                    synced,
                    record: Record {
                        readiness: readiness.clone(),
                        annotations: self.annotations.subscribe(),
                    },
                    timing: Timing::default(),
                };
                tasks.spawn("kubernetes", kubernetes::run(inputs, stop));
            }
        }
    }
}

/// Kind and place, for `weir status`.
pub(super) fn describe(config: &Config) -> (&'static str, String) {
    match config.source.kind {
        SourceKind::Manifests => {
            let directory = config.source.manifests.directory.display();
            ("manifests", directory.to_string())
        }
        SourceKind::Kubernetes => {
            let location = kubernetes::location(&config.source.kubernetes);
            ("kubernetes", location)
        }
    }
}

/// Removes what sources keep on this node.
pub(super) fn forget(state_folder: &Path) -> std::io::Result<()> {
    manifests::forget(state_folder)?;
    kubernetes::forget(state_folder)
}

/// Removes what this node said of itself, as far as the API server can be asked: the node is left
/// clean in any case.
pub(super) async fn withdraw(config: &Config) {
    if config.source.kind != SourceKind::Kubernetes {
        return;
    }
    let withdrawn = kubernetes::record::withdraw(&config.source.kubernetes, &config.node_name);
    if let Err(reason) = withdrawn.await {
        tracing::warn!(
            reason,
            "annotations and condition of this node's object were not removed"
        );
    }
}
