//! Events on objects that are misconfigured, for whoever made them and does not ask `weir status`.
//!
//! Every node finds the same mistakes, and a thousand nodes must not write a thousand events about
//! one. So two nodes report each mistake, found without asking anybody: those whose names, hashed
//! together with the object, come first. An event's name follows from what it says, so repeating it
//! makes no second one.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use kube::core::Request;
use kube::core::params::{GetParams, PostParams};
use kube::{Client, Error};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, interval, timeout};

use super::Inputs;
use super::access::{Access, EVENTS, Verb};
use super::health::describe;
use super::object;
use super::record::VERSION_ANNOTATION;
use crate::state::{ClusterState, Kind, ObjectKey, ObjectName, Problem, Severity};

/// Events that may be made at each look.
const AT_ONCE_MAX: usize = 5;
/// API servers forget events after this time; what is still wrong then is said again.
const AGAIN_AFTER: Duration = Duration::from_hours(1);
/// Nodes that report a mistake.
const REPORTERS: usize = 2;
/// Longest time for the requests of one event.
const REQUESTS: Duration = Duration::from_secs(10);
/// Bytes that an event's message may have, less some for the mark of what was cut.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// A mistake: an object, and a number for what is wrong with it.
type Mistake = (ObjectKey, u64);

/// Reports, for ever.
pub(super) async fn report(inputs: &Inputs, client: &watch::Receiver<Client>) {
    if !inputs.settings.events.enabled {
        return futures::future::pending().await;
    }
    // What is gone at the next look was a moment's.
    let mut ticks = interval(inputs.timing.mistakes);
    let mut ledger = Ledger::default();
    loop {
        ticks.tick().await;
        let present = mistakes(
            &inputs.state.read(),
            &inputs.node_name,
            inputs.settings.node.publish,
        );
        for (mistake, message) in ledger.due(present, Instant::now()) {
            let client = client.borrow().clone();
            let told = tell(inputs, &client, &mistake, &message).boxed();
            match timeout(REQUESTS, told).await {
                Ok(Ok(())) => ledger.told(mistake, Instant::now()),
                Ok(Err(error)) => {
                    let (is_of_this_one, error) = (concerns_one(&error), describe(&error));
                    tracing::debug!(object = %mistake.0, error, "no event was made");
                    if !is_of_this_one {
                        break;
                    }
                    // Tried again when it would be said again; the others do not wait for it.
                    ledger.told(mistake, Instant::now());
                }
                Err(_) => break,
            }
        }
    }
}

/// Whether the server refuses this one event, such as one in a namespace that is going away, and may
/// well take others.
fn concerns_one(error: &Error) -> bool {
    matches!(error, Error::Api(status) if matches!(status.code, 403 | 404 | 409 | 422))
}

/// Which mistakes were there at the last look, and which were told.
#[derive(Debug, Default)]
struct Ledger {
    seen: HashSet<Mistake>,
    told: BTreeMap<Mistake, Instant>,
}

impl Ledger {
    /// What is to be told now, of what is there: what was there at the last look too, and was not
    /// told of late. Forgets what is gone.
    fn due(&mut self, present: BTreeMap<Mistake, String>, now: Instant) -> Vec<(Mistake, String)> {
        self.told.retain(|mistake, at| {
            present.contains_key(mistake) && now.duration_since(*at) < AGAIN_AFTER
        });
        let seen = present.keys().cloned().collect();
        let before = std::mem::replace(&mut self.seen, seen);
        let is_due =
            |mistake: &Mistake| before.contains(mistake) && !self.told.contains_key(mistake);
        let due = present.into_iter().filter(|(mistake, _)| is_due(mistake));
        due.take(AT_ONCE_MAX).collect()
    }

    fn told(&mut self, mistake: Mistake, now: Instant) {
        self.told.insert(mistake, now);
    }
}

/// The mistakes that this node reports, with what is to be said. Where agents publish what they are, those
/// on nodes with one share the work; elsewhere all nodes are taken to have one.
fn mistakes(state: &ClusterState, node: &str, publish: bool) -> BTreeMap<Mistake, String> {
    let told = state.problems().filter(|problem| is_told(problem));
    let mut nodes: Vec<&str> = state
        .nodes()
        .filter(|node| !publish || node.annotations.contains_key(VERSION_ANNOTATION))
        .map(|node| node.name.as_str())
        .collect();
    if !nodes.contains(&node) {
        nodes.push(node);
    }
    let own = told.filter_map(|problem| {
        let key = key(problem)?;
        let is_ours = is_reporter(node, &nodes, &problem.object);
        is_ours.then(|| {
            let message = message(problem);
            ((key, hash(&[&problem.object, &message])), message)
        })
    });
    own.collect()
}

/// What keeps an object from being served, and annotations of Weir's own: whoever wrote one expects an
/// effect.
fn is_told(problem: &Problem) -> bool {
    problem.severity == Severity::Error || problem.field.starts_with("metadata.annotations[")
}

/// Whether `node` is one of those that report on an object.
fn is_reporter(node: &str, nodes: &[&str], object: &str) -> bool {
    let rank = |name: &str| hash(&[name, object]);
    let own = rank(node);
    let before = nodes
        .iter()
        .filter(|other| **other != node && rank(other) < own);
    before.count() < REPORTERS
}

/// The object of a problem, if it is one that an event can be about.
fn key(problem: &Problem) -> Option<ObjectKey> {
    let (kind, name) = problem.object.split_once(' ')?;
    let kind = match kind {
        "Service" => Kind::Service,
        "EndpointSlice" => Kind::EndpointSlice,
        "Pod" => Kind::Pod,
        "Node" => Kind::Node,
        _ => return None,
    };
    let (namespace, name) = match kind {
        Kind::Node => ("", name),
        _ => name.split_once('/')?,
    };
    // They become part of a path.
    let is_plain = |text: &str| {
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        !text.starts_with('.') && text.bytes().all(plain)
    };
    let is_good = is_plain(namespace) && is_plain(name) && !name.is_empty();
    let name = ObjectName::new(namespace, name);
    is_good.then_some(ObjectKey { kind, name })
}

fn message(problem: &Problem) -> String {
    let mut message = match &*problem.field {
        "" => problem.message.clone(),
        field => format!("{field}: {}", problem.message),
    };
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push('…');
    }
    message
}

/// A number from texts and their ends: the same on every node, whatever it was built with. FNV-1a,
/// and then each bit of it spread over all: texts that differ at the end alone must not lie together.
fn hash(texts: &[&str]) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let bytes = texts.iter().flat_map(|text| text.bytes().chain([0xff]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, step);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[derive(Deserialize)]
struct Involved {
    metadata: InvolvedMetadata,
}

#[derive(Deserialize)]
struct InvolvedMetadata {
    uid: String,
}

/// Makes the event; that it is there already, or that the object is gone, is as good.
async fn tell(
    inputs: &Inputs,
    client: &Client,
    (key, number): &Mistake,
    message: &str,
) -> Result<(), Error> {
    let ObjectName { namespace, name } = &key.name;
    let access = object::access(key.kind);
    access.assert(Verb::Get);
    let request = Request::new(access.path(namespace)).get(name, &GetParams::default());
    let involved = client.request(request.map_err(Error::BuildRequest)?).await;
    let Some(involved) = unless(involved, 404)? else {
        return Ok(());
    };
    let event = event(key, *number, message, &involved, &inputs.node_name, access);
    EVENTS.assert(Verb::Create);
    let path = EVENTS.path(event_namespace(key));
    let body = serde_json::to_vec(&event).map_err(Error::SerdeError)?;
    let request = Request::new(path).create(&PostParams::default(), body);
    let made = client
        .request_text(request.map_err(Error::BuildRequest)?)
        .await;
    unless(made, 409).map(drop)
}

/// `None` for an error of this status.
fn unless<T>(outcome: Result<T, Error>, code: u16) -> Result<Option<T>, Error> {
    match outcome {
        Err(Error::Api(status)) if status.code == code => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Events on objects of the cluster are in this namespace.
fn event_namespace(key: &ObjectKey) -> &str {
    match &*key.name.namespace {
        "" => "default",
        namespace => namespace,
    }
}

fn event(
    key: &ObjectKey,
    number: u64,
    message: &str,
    involved: &Involved,
    node: &str,
    access: Access,
) -> Value {
    let ObjectName { namespace, name } = &key.name;
    let api_version = match access.group {
        "" => access.version.to_owned(),
        group => format!("{group}/{}", access.version),
    };
    let now = Timestamp::now();
    let now = Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string();
    // With its number it must not be longer than a name can be.
    let stem = &name[..name.floor_char_boundary(200)];
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{}.{number:016x}", stem.trim_end_matches(['-', '.'])),
            "namespace": event_namespace(key),
        },
        "involvedObject": {
            "apiVersion": api_version,
            "kind": format!("{:?}", key.kind),
            "namespace": namespace,
            "name": name,
            "uid": involved.metadata.uid,
        },
        "type": "Warning",
        "reason": "Misconfigured",
        "message": message,
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": { "component": "weir-agent", "host": node },
        "reportingComponent": "weir.dev/agent",
        "reportingInstance": node,
    })
}

#[cfg(test)]
mod tests;
