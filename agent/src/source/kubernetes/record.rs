//! What this node says of itself on its Node object: annotations, a condition, and that pods may
//! come.
//!
//! Each value is written when it differs from what the object has, and never again and again: every
//! write goes to every node of the cluster that follows Nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as api;
use kube::core::Request;
use kube::core::params::{GetParams, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Inputs;
use super::access::{Access, NODE_STATUS, NODES, Verb};
use super::backoff::{Backoff, Pauses, jitter};
use super::health::describe;
use crate::config;
use crate::lifecycle::Readiness;
use crate::source::finding::problem;
use crate::state::{KEY_ANNOTATION, NEXT_KEY_ANNOTATION, Node, OwnAnnotations, Severity};

/// Type of the condition of a node.
pub const CONDITION: &str = "WeirReady";
/// Annotation with the version of the agent.
pub const VERSION_ANNOTATION: &str = "weir.dev/version";

/// Who writes, as the API server's log of managed fields has it.
const FIELD_MANAGER: &str = "weir-agent";
/// Name under which problems of writing are kept in the state.
const REPORTER: &str = "kubernetes record of this node";
/// How often the object is compared when nothing seems to have changed; up to half is added.
const INTERVAL: Duration = Duration::from_mins(5);
/// Longest time for one request.
const REQUEST: Duration = Duration::from_secs(10);
/// Changes that follow each other are written together.
const QUIET: Duration = Duration::from_millis(100);
/// Pauses before somebody else's change is answered: who changes the object all the time, or writes
/// what this node writes, must not be answered at the same rate. The first is short.
const ANSWERS: Pauses = Pauses {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(30),
};
/// After so long without such a change the next one is a first one.
const CALM: Duration = Duration::from_mins(2);

/// What there is to say.
pub struct Record {
    /// What the agent still waits for.
    pub readiness: Readiness,
    /// Annotations of other parts, such as the keys of encryption.
    pub annotations: watch::Receiver<OwnAnnotations>,
}

/// Keeps the record, for ever.
pub(super) async fn keep(inputs: &Inputs, client: &watch::Receiver<Client>) {
    let mut annotations = inputs.record.annotations.clone();
    let mut pending = inputs.record.readiness.subscribe();
    let mut revision = inputs.state.subscribe();
    let mut backoff = Backoff::new(inputs.timing.pauses);
    let mut answers = Answers::new();
    loop {
        annotations.mark_unchanged();
        pending.mark_unchanged();
        let newest = client.borrow().clone();
        let outcome = timeout(REQUEST, write(inputs, &newest)).await;
        let error = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(describe(&error)),
            Err(_) => Some(format!("no answer within {REQUEST:?}")),
        };
        tell(inputs, error.as_deref());
        let pause = match error {
            None => {
                backoff.reset();
                INTERVAL + jitter(INTERVAL / 2)
            }
            Some(_) => backoff.next(),
        };
        let seen = own_node(inputs);
        let pause = sleep(pause);
        tokio::pin!(pause);
        let mut answer_at = None;
        loop {
            let answer = sleep_until(answer_at.unwrap_or_else(Instant::now));
            tokio::select! {
                () = &mut pause => break,
                Ok(()) = annotations.changed() => break,
                Ok(()) = pending.changed() => break,
                () = answer, if answer_at.is_some() => break,
                // Somebody else wrote to the object, or made it anew.
                Ok(()) = revision.changed() => {
                    if answer_at.is_none() && own_node(inputs) != seen {
                        answer_at = Some(Instant::now() + answers.pause());
                    }
                }
            }
        }
        sleep(QUIET).await;
    }
}

/// When somebody else's changes of the object are answered.
struct Answers {
    backoff: Backoff,
    last: Instant,
}

impl Answers {
    fn new() -> Self {
        Self {
            backoff: Backoff::new(ANSWERS),
            last: Instant::now(),
        }
    }

    /// How long to wait, now that there is a change.
    fn pause(&mut self) -> Duration {
        let last = std::mem::replace(&mut self.last, Instant::now());
        if last.elapsed() >= CALM {
            self.backoff.reset();
        }
        self.backoff.next()
    }
}

/// What the source tells of this node's object and that this record depends on.
fn own_node(inputs: &Inputs) -> Option<(Option<i64>, BTreeMap<String, String>)> {
    let state = inputs.state.read();
    let Node {
        created_at_seconds,
        annotations,
        ..
    } = state.node(&inputs.node_name)?;
    Some((*created_at_seconds, annotations.clone()))
}

fn tell(inputs: &Inputs, error: Option<&str>) {
    let problems = error.map(|error| {
        let message = format!("what this node has to say of itself was not written: {error}");
        let object = format!("Node {}", inputs.node_name);
        problem(Severity::Warning, String::new(), &object, "", message)
    });
    let problems = problems.into_iter().collect();
    inputs
        .state
        .update(|cluster| cluster.set_problems(REPORTER, problems));
}

async fn write(inputs: &Inputs, client: &Client) -> Result<(), Error> {
    let settings = &inputs.settings.node;
    let mut wanted = inputs.record.annotations.borrow().clone();
    if !settings.publish && settings.taint.is_none() && wanted.is_empty() {
        // There is nothing to say, and so nothing to ask.
        return Ok(());
    }
    let request = Request::new(NODES.path("")).get(&inputs.node_name, &GetParams::default());
    NODES.assert(Verb::Get);
    let node: api::Node = client
        .request(request.map_err(Error::BuildRequest)?)
        .await?;
    if settings.publish {
        wanted.insert(
            VERSION_ANNOTATION,
            Some(env!("CARGO_PKG_VERSION").to_owned()),
        );
    }
    let readiness = &inputs.record.readiness;
    let (pending, has_started) = (readiness.pending(), readiness.has_started());
    if let Some(change) = annotations_change(&node, &wanted) {
        patch(&inputs.node_name, client, NODES, Patch::Merge(change)).await?;
    }
    if let Some(taint) = settings.taint.as_deref().filter(|_| pending.is_empty())
        && let Some(change) = taints_change(&node, taint)
    {
        patch(&inputs.node_name, client, NODES, Patch::Merge(change)).await?;
        tracing::info!(taint, "taint removed");
    }
    if settings.publish
        && let Some(change) = condition_change(&node, &pending, has_started, Timestamp::now())
    {
        patch(
            &inputs.node_name,
            client,
            NODE_STATUS,
            Patch::Strategic(change),
        )
        .await?;
        tracing::info!(?pending, "condition {CONDITION} written");
    }
    Ok(())
}

async fn patch(
    name: &str,
    client: &Client,
    access: Access,
    change: Patch<Value>,
) -> Result<(), Error> {
    access.assert(Verb::Patch);
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let request = Request::new(NODES.path(""));
    let request = match access.resource.split_once('/') {
        None => request.patch(name, &params, &change),
        Some((_, subresource)) => request.patch_subresource(subresource, name, &params, &change),
    };
    let request = request.map_err(Error::BuildRequest)?;
    client.request_text(request).await.map(drop)
}

/// What makes the annotations as wanted; `None` if they are. Those of others are left alone.
fn annotations_change(node: &api::Node, wanted: &OwnAnnotations) -> Option<Value> {
    let present = node.metadata.annotations.as_ref();
    let value = |key: &str| present.and_then(|annotations| annotations.get(key));
    let differing: serde_json::Map<_, _> = wanted
        .iter()
        .filter(|(key, wanted)| value(key) != wanted.as_ref())
        .map(|(key, wanted)| ((*key).to_owned(), json!(wanted)))
        .collect();
    (!differing.is_empty()).then(|| json!({ "metadata": { "annotations": differing } }))
}

/// What removes the taint, if it is there. A list can only be replaced whole, so the change names
/// the version of the object that was read, and fails if somebody was quicker.
fn taints_change(node: &api::Node, taint: &str) -> Option<Value> {
    let taints = node.spec.as_ref()?.taints.as_ref()?;
    let others: Vec<_> = taints.iter().filter(|one| one.key != taint).collect();
    if others.len() == taints.len() {
        return None;
    }
    Some(json!({
        "metadata": { "resourceVersion": node.metadata.resource_version },
        "spec": { "taints": others },
    }))
}

/// What makes the condition say whether the agent is ready; `None` if it does.
fn condition_change(
    node: &api::Node,
    pending: &[&str],
    has_started: bool,
    now: Timestamp,
) -> Option<Value> {
    let (status, reason, message) = if pending.is_empty() {
        let message = "the data plane of this node is in step with the cluster".to_owned();
        ("True", "InStep", message)
    } else {
        let reason = if has_started { "OutOfStep" } else { "Starting" };
        (
            "False",
            reason,
            format!("waits for: {}", pending.join(", ")),
        )
    };
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let present = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == CONDITION);
    let is_so = present.is_some_and(|present| {
        present.status == status
            && present.reason.as_deref() == Some(reason)
            && present.message.as_deref() == Some(&message)
    });
    if is_so {
        return None;
    }
    let since = present.filter(|present| present.status == status);
    let since = since.and_then(|present| present.last_transition_time.as_ref());
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    Some(json!({ "status": { "conditions": [{
        "type": CONDITION,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now.to_string(),
        "lastTransitionTime": since.map_or_else(|| now.to_string(), |since| since.0.to_string()),
    }] } }))
}

/// Removes annotations and condition from the object of a node that Weir leaves. The error is in
/// words.
pub async fn withdraw(settings: &config::Kubernetes, node: &str) -> Result<(), String> {
    let connected = super::client::connect(settings).await;
    let client = connected
        .map_err(|error| crate::error_chain(&error))?
        .client;
    let keys = [VERSION_ANNOTATION, KEY_ANNOTATION, NEXT_KEY_ANNOTATION];
    let nothing: BTreeMap<_, _> = keys.into_iter().map(|key| (key, Value::Null)).collect();
    let annotations = json!({ "metadata": { "annotations": nothing } });
    let condition = json!({ "type": CONDITION, "$patch": "delete" });
    let status = json!({ "status": { "conditions": [condition] } });
    let work = async {
        patch(node, &client, NODES, Patch::Merge(annotations)).await?;
        patch(node, &client, NODE_STATUS, Patch::Strategic(status)).await
    };
    match timeout(REQUEST, work).await {
        Ok(outcome) => outcome.map_err(|error| describe(&error)),
        Err(_) => Err(format!("no answer within {REQUEST:?}")),
    }
}

#[cfg(test)]
mod tests;
