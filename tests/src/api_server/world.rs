//! The cluster that the server tells of, its history, and what was asked.
//!
//! Objects are kept as the text that is sent: as trees, those of a large cluster would not fit.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::http::HttpRequest;
use super::{Ask, Fault};

/// Version of the empty cluster.
const FIRST_VERSION: u64 = 100;

/// Objects of one kind, by namespace and name.
type Objects = BTreeMap<String, Arc<str>>;

#[derive(Debug)]
pub(super) struct World {
    version: u64,
    /// Watches from versions before this one are refused.
    oldest: u64,
    objects: BTreeMap<String, Objects>,
    /// In the order of versions.
    history: Vec<Past>,
    faults: BTreeMap<(String, Ask), VecDeque<Fault>>,
    requests: Vec<(String, Ask, String)>,
    /// Bytes as they were sent, and of bodies as they were before.
    sent: BTreeMap<(String, Ask), [u64; 2]>,
    pub(super) connections: usize,
}

/// Something that happened.
#[derive(Debug)]
struct Past {
    version: u64,
    resource: String,
    kind: &'static str,
    object: Arc<str>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            version: FIRST_VERSION,
            oldest: 0,
            objects: BTreeMap::new(),
            history: Vec::new(),
            faults: BTreeMap::new(),
            requests: Vec::new(),
            sent: BTreeMap::new(),
            connections: 0,
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn put(&mut self, resource: &str, mut object: Value) -> u64 {
        let key = key(&object);
        let text = self.next_version(&mut object);
        let objects = self.objects.entry(resource.to_owned()).or_default();
        let is_new = objects.insert(key, Arc::clone(&text)).is_none();
        let kind = if is_new { "ADDED" } else { "MODIFIED" };
        self.happened(resource, kind, text)
    }

    /// The version of the deletion; `None` if there is no such object.
    pub(super) fn delete(&mut self, resource: &str, key: &str) -> Option<u64> {
        let text = self.objects.get_mut(resource)?.remove(key)?;
        let mut object = serde_json::from_str(&text).ok()?;
        let text = self.next_version(&mut object);
        Some(self.happened(resource, "DELETED", text))
    }

    fn next_version(&mut self, object: &mut Value) -> Arc<str> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object.to_string().into()
    }

    fn happened(&mut self, resource: &str, kind: &'static str, object: Arc<str>) -> u64 {
        self.history.push(Past {
            version: self.version,
            resource: resource.to_owned(),
            kind,
            object,
        });
        self.version
    }

    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.oldest = self.version;
        self.history.clear();
    }

    /// Whether what happened after this version is not all known any more.
    pub(super) fn has_forgotten(&self, version: u64) -> bool {
        version < self.oldest
    }

    /// One page; `None` if the token of the page is too old.
    pub(super) fn list(&self, request: &HttpRequest) -> Option<Vec<u8>> {
        let limit = request.parameter("limit").and_then(|it| it.parse().ok());
        let limit = limit.unwrap_or(usize::MAX);
        let token = request.parameter("continue");
        let (version, skip) = match token.and_then(|token| token.split_once('.')) {
            Some((version, skip)) => (version.parse().ok()?, skip.parse().ok()?),
            None => (self.version, 0),
        };
        if self.has_forgotten(version) {
            return None;
        }
        let none = Objects::new();
        let all = self.objects.get(request.resource()).unwrap_or(&none);
        let items: Vec<&str> = all
            .values()
            .skip(skip)
            .take(limit)
            .map(|text| &**text)
            .collect();
        let shown = skip + items.len();
        let next = if shown < all.len() {
            format!("{version}.{shown}")
        } else {
            String::new()
        };
        let metadata = json!({ "resourceVersion": version.to_string(), "continue": next });
        let items = items.join(",");
        Some(format!("{{\"metadata\":{metadata},\"items\":[{items}]}}").into_bytes())
    }

    /// The object that is asked for by its name.
    pub(super) fn object(&self, request: &HttpRequest) -> Option<Arc<str>> {
        let key = format!("{}/{}", request.namespace(), request.name()?);
        self.objects.get(request.resource())?.get(&key).cloned()
    }

    /// What happened after a version, as lines of a watch.
    pub(super) fn events(&self, resource: &str, after: u64) -> Vec<(u64, String)> {
        let first = self.history.partition_point(|past| past.version <= after);
        let since = self.history[first..]
            .iter()
            .filter(|past| past.resource == resource);
        let line = |past: &Past| {
            let Past { kind, object, .. } = past;
            format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
        };
        since.map(|past| (past.version, line(past))).collect()
    }

    pub(super) fn fail(
        &mut self,
        resource: &str,
        ask: Ask,
        faults: impl IntoIterator<Item = Fault>,
    ) {
        let key = (resource.to_owned(), ask);
        self.faults.entry(key).or_default().extend(faults);
    }

    pub(super) fn faults_left(&self) -> usize {
        self.faults.values().map(VecDeque::len).sum()
    }

    /// Notes a request, and tells what is to go wrong with it.
    pub(super) fn asked(&mut self, resource: &str, ask: Ask, query: &str) -> Option<Fault> {
        let resource = resource.to_owned();
        self.requests
            .push((resource.clone(), ask, query.to_owned()));
        self.faults.get_mut(&(resource, ask))?.pop_front()
    }

    pub(super) fn queries(&self, resource: &str, ask: Ask) -> Vec<String> {
        let such = self
            .requests
            .iter()
            .filter(|it| (&*it.0, it.1) == (resource, ask));
        such.map(|it| it.2.clone()).collect()
    }

    pub(super) fn sent(&mut self, resource: &str, ask: Ask, [sent, said]: [u64; 2]) {
        let all = self.sent.entry((resource.to_owned(), ask)).or_default();
        *all = [all[0] + sent, all[1] + said];
    }

    pub(super) fn bytes_sent(&self, resource: &str, ask: Ask) -> [u64; 2] {
        let key = (resource.to_owned(), ask);
        self.sent.get(&key).copied().unwrap_or_default()
    }

    pub(super) fn size(&self, resource: &str) -> (u64, usize) {
        let Some(objects) = self.objects.get(resource) else {
            return (0, 0);
        };
        let bytes = objects.values().map(|text| text.len() as u64).sum();
        (bytes, objects.len())
    }
}

/// What tells an object from others of its kind.
fn key(object: &Value) -> String {
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    format!("{}/{}", text("namespace"), text("name"))
}

/// The object that says that a request was refused.
pub(super) fn status(code: u16) -> Value {
    json!({ "kind": "Status", "status": "Failure", "code": code, "reason": "Test", "message": "no" })
}
