//! The way to the task that encrypts, for the admin API and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use ebpf_abi::{NodeId, TrafficPath, TrafficValue};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Rotation, Snapshot};
use crate::encryption::key::{KeyStoreError, PublicKey};

/// What went to each node by each path, all CPUs together.
pub type Account = BTreeMap<(NodeId, TrafficPath), TrafficValue>;

/// Reads the account that the programs keep.
pub trait ReadAccount: Send + Sync {
    /// Reads it: one system call per entry and more, so not on a thread that others wait for.
    fn account(&self) -> anyhow::Result<Account>;
}

/// Why the node's key is not replaced.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// A change of key is under way.
    #[error(
        "the key is being replaced already: {new} comes into use {}; try again after that",
        when(*in_use_from)
    )]
    InProgress {
        /// The key that comes.
        new: PublicKey,
        /// When it comes into use.
        in_use_from: SystemTime,
    },
    /// The key could not be read or written.
    #[error(transparent)]
    Store(#[from] KeyStoreError),
    /// The task that encrypts has ended.
    #[error("the agent is ending")]
    Ended,
}

fn when(time: SystemTime) -> String {
    let left = time.duration_since(SystemTime::now()).unwrap_or_default();
    match left.as_secs() {
        0 => "in a moment".to_owned(),
        seconds => format!("in {seconds} s"),
    }
}

/// A request to replace the node's key, with the way back.
#[derive(Debug)]
pub struct RotateRequest {
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Rotation, RotateError>>,
}

/// Reads what encryption does, and has it replace the key. Cheap to clone.
#[derive(Clone)]
pub struct EncryptionHandle {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    requests: mpsc::Sender<RotateRequest>,
    account: Arc<dyn ReadAccount>,
}

/// The other end: what the task holds.
pub struct Reporter {
    /// Where snapshots go.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// Requests to replace the key.
    pub requests: mpsc::Receiver<RotateRequest>,
}

impl EncryptionHandle {
    /// The two ends.
    pub fn new(first: Snapshot, account: Arc<dyn ReadAccount>) -> (Self, Reporter) {
        let (snapshots, receiver) = watch::channel(Arc::new(first));
        // Requests are for people; another one is refused while one is under way.
        let (sender, requests) = mpsc::channel(1);
        let handle = Self {
            snapshots: receiver,
            requests: sender,
            account,
        };
        let reporter = Reporter {
            snapshots,
            requests,
        };
        (handle, reporter)
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// What went to each node. Blocks, see [`ReadAccount::account`].
    pub fn account(&self) -> anyhow::Result<Account> {
        self.account.account()
    }

    /// Begins to replace the node's key.
    pub async fn rotate(&self) -> Result<Rotation, RotateError> {
        let (answer, answered) = oneshot::channel();
        let request = RotateRequest { answer };
        self.requests
            .send(request)
            .await
            .map_err(|_| RotateError::Ended)?;
        answered.await.map_err(|_| RotateError::Ended)?
    }
}
