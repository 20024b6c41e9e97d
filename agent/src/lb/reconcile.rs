//! When to bring the maps in step, and again when it failed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::apply::{Applier, ApplyError, LbMaps, read_back};
use super::desired::{Desired, ThisNode, desired};
use super::plan::{Actual, Ids, plan};
use crate::lifecycle::ReadyGuard;
use crate::state::{ClusterState, SharedState};

/// Reporter of problems, as `ClusterState::set_problems` knows it.
const REPORTER: &str = "load balancer";

/// First pause after a failure; doubled up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What is balanced now, for status and the admin API.
#[derive(Debug, Default)]
pub struct Balanced {
    /// Services as asked for.
    pub desired: Desired,
    /// What the maps hold.
    pub actual: Actual,
    /// Why the two differ, if the last attempt failed.
    pub failure: Option<String>,
}

/// Compares, plans and applies; holds the account of the maps.
pub struct Reconciler<M: LbMaps> {
    maps: M,
    actual: Actual,
    ids: Option<Ids>,
    applier: Applier,
    load_factor: usize,
}

impl<M: LbMaps> Reconciler<M> {
    /// Reads back what an earlier agent left.
    pub fn new(maps: M, load_factor: usize) -> Result<Self, M::Error> {
        let actual = read_back(&maps)?;
        Ok(Self {
            maps,
            actual,
            ids: None,
            applier: Applier::default(),
            load_factor,
        })
    }

    /// Brings the maps in step with the state. What is desired is returned also on failure.
    pub fn reconcile(
        &mut self,
        state: &ClusterState,
        node: &ThisNode,
    ) -> (Desired, Result<usize, ApplyError<M::Error>>) {
        let desired = desired(state, node);
        let ids = self
            .ids
            .get_or_insert_with(|| Ids::recover(&self.actual, &desired));
        let steps = plan(
            &desired,
            &self.actual,
            ids,
            self.load_factor,
            node.external_cluster_ip,
        );
        let result = self.applier.apply(&steps, &mut self.maps, &mut self.actual);
        (desired, result.map(|()| steps.len()))
    }

    /// What the maps hold.
    pub fn actual(&self) -> &Actual {
        &self.actual
    }
}

/// What the task needs besides the maps.
pub struct Inputs {
    /// The desired state.
    pub state: SharedState,
    /// Addresses of the uplinks.
    pub addresses: watch::Receiver<BTreeSet<IpAddr>>,
    /// This node's name and settings; its addresses come from above.
    pub node: ThisNode,
    /// Where the result is published.
    pub balanced: Arc<ArcSwap<Balanced>>,
}

/// Keeps the maps in step until told to stop. The first pass waits until the source has read
/// everything once: acting on half of it would take services away that a restart is to keep.
pub async fn run<M: LbMaps>(
    mut reconciler: Reconciler<M>,
    mut inputs: Inputs,
    mut synced: watch::Receiver<bool>,
    ready: ReadyGuard,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        // The source may end first on a shutdown, and then there is no answer to wait for.
        biased;
        () = stop.cancelled() => return Ok(()),
        // An error says that the source is gone, and it only goes when the agent stops.
        answer = synced.wait_for(|synced| *synced) => drop(answer?),
    }
    let mut revision = inputs.state.subscribe();
    let mut ready = Some(ready);
    let mut retry = RETRY_FIRST;
    loop {
        revision.mark_unchanged();
        inputs
            .node
            .addresses
            .clone_from(&inputs.addresses.borrow_and_update());
        let wait = if pass(&mut reconciler, &inputs) {
            ready.take();
            retry = RETRY_FIRST;
            Duration::MAX
        } else {
            let wait = retry;
            retry = (retry * 2).min(RETRY_MAX);
            wait
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = revision.changed() => changed?,
            changed = inputs.addresses.changed() => changed?,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One pass. True if the maps are in step.
fn pass<M: LbMaps>(reconciler: &mut Reconciler<M>, inputs: &Inputs) -> bool {
    let started = Instant::now();
    let (mut desired, result) = reconciler.reconcile(&inputs.state.read(), &inputs.node);
    let failure = match &result {
        Ok(0) => None,
        Ok(steps) => {
            tracing::info!(steps, elapsed = ?started.elapsed(), "services applied");
            None
        }
        Err(error) => {
            let failure = crate::error_chain(error);
            tracing::error!(failure, "services not applied; trying again");
            Some(failure)
        }
    };
    let problems = std::mem::take(&mut desired.problems);
    inputs
        .state
        .update(|state| state.set_problems(REPORTER, problems));
    let in_step = failure.is_none();
    let actual = reconciler.actual().clone();
    inputs.balanced.store(Arc::new(Balanced {
        desired,
        actual,
        failure,
    }));
    in_step
}
