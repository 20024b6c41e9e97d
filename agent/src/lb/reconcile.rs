//! When to bring the maps in step, and again when it failed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::apply::{Applier, ApplyError, LbMaps, read_back};
use super::desired::{Asked, Desired, ThisNode, desired};
use super::fit::{fit, forget_strangers, room_first};
use super::plan::{Actual, Ids, plan};
use crate::lifecycle::{InStep, Pace, ReadyGuard};
use crate::state::{ClusterState, Revisions, SharedState};

/// Reporter of problems, as `ClusterState::set_problems` knows it.
const REPORTER: &str = "load balancer";

/// First pause after a failure; doubled up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Of one processor, where changes leave no quiet. A change that comes after some quiet is not kept
/// waiting.
const SHARE: u32 = 4;
/// Longest time without a pass for that.
const REST_MAX: Duration = Duration::from_secs(1);

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

    /// Brings the maps in step with what is desired. What of that there is room for is returned, also
    /// on failure.
    pub fn reconcile(
        &mut self,
        mut desired: Desired,
        node: &ThisNode,
    ) -> (Desired, Result<usize, ApplyError<M::Error>>) {
        let recovered = || Ids::recover(&self.actual, &desired);
        let mut ids = self.ids.take().unwrap_or_else(recovered);
        let capacity = self.maps.capacity();
        forget_strangers(&mut desired, &self.actual, &ids);
        fit(&mut desired, &capacity);
        let first = room_first(&desired, &self.actual, &ids, &capacity);
        let result = first.iter().chain([&desired]).try_fold(0, |steps, wanted| {
            Ok(steps + self.apply(wanted, &mut ids, node)?)
        });
        self.ids = Some(ids);
        (desired, result)
    }

    fn apply(
        &mut self,
        desired: &Desired,
        ids: &mut Ids,
        node: &ThisNode,
    ) -> Result<usize, ApplyError<M::Error>> {
        let steps = plan(
            desired,
            &self.actual,
            ids,
            self.load_factor,
            node.external_cluster_ip,
        );
        self.applier
            .apply(&steps, &mut self.maps, &mut self.actual)?;
        Ok(steps.len())
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
    let mut ready = InStep::from(ready);
    let mut retry = RETRY_FIRST;
    let mut pace = Pace::at_most(SHARE, REST_MAX);
    // What the maps are in step with.
    let mut done: Option<Basis> = None;
    loop {
        revision.mark_unchanged();
        inputs
            .node
            .addresses
            .clone_from(&inputs.addresses.borrow_and_update());
        let mut wait = Duration::MAX;
        let begun = Instant::now();
        if done.as_mut().is_none_or(|done| !done.still_holds(&inputs)) {
            let basis = pass(&mut reconciler, &inputs);
            if basis.is_some() {
                ready.succeeded();
                retry = RETRY_FIRST;
            } else {
                ready.failed();
                wait = retry;
                retry = (retry * 2).min(RETRY_MAX);
            }
            done = basis;
        }
        // To find that there is nothing to do takes time as well, if pods are asked for much.
        pace.took(begun.elapsed());
        tokio::select! {
            // Whoever tells of changes may end first on a shutdown.
            biased;
            () = stop.cancelled() => return Ok(()),
            changed = revision.changed() => changed?,
            changed = inputs.addresses.changed() => changed?,
            () = tokio::time::sleep(wait) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = pace.rest() => {}
        }
    }
}

/// What a pass went by: without a difference here another one would do nothing. Of pods and Nodes only
/// what was asked counts: in every cluster there are slices that do not say where an endpoint is.
#[derive(Debug)]
struct Basis {
    revisions: Revisions,
    own_node: Option<Vec<IpAddr>>,
    addresses: BTreeSet<IpAddr>,
    asked: Asked,
}

impl Basis {
    fn of(state: &ClusterState, node: &ThisNode, asked: Asked) -> Self {
        Self {
            revisions: state.revisions(),
            own_node: own_addresses(state, node).map(<[IpAddr]>::to_vec),
            addresses: node.addresses.clone(),
            asked,
        }
    }

    /// Whether another pass would do nothing. After the first no it is of no use any more.
    fn still_holds(&mut self, inputs: &Inputs) -> bool {
        let state = inputs.state.read();
        let now = state.revisions();
        let before = std::mem::replace(&mut self.revisions, now);
        (before.services, before.slices) == (now.services, now.slices)
            && self.addresses == inputs.node.addresses
            && self.own_node.as_deref() == own_addresses(&state, &inputs.node)
            // If pods and Nodes are as they were, so are their answers.
            && (before == now || self.asked.holds(&state, &inputs.node))
    }
}

fn own_addresses<'a>(state: &'a ClusterState, node: &ThisNode) -> Option<&'a [IpAddr]> {
    let object = state.node(&node.name)?;
    Some(&object.addresses)
}

/// One pass. What it went by if the maps are in step.
fn pass<M: LbMaps>(reconciler: &mut Reconciler<M>, inputs: &Inputs) -> Option<Basis> {
    let started = Instant::now();
    let (desired, basis) = {
        let state = inputs.state.read();
        let mut desired = desired(&state, &inputs.node);
        let asked = std::mem::take(&mut desired.asked);
        (desired, Basis::of(&state, &inputs.node, asked))
    };
    // Without the lock: large tables take seconds to build and write, and whoever has a change for the
    // state waits for it on a thread of the runtime.
    let (mut desired, result) = reconciler.reconcile(desired, &inputs.node);
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
    in_step.then_some(basis)
}

#[cfg(test)]
mod tests;
