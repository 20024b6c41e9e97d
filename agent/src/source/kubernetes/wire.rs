//! What a list and a watch look like on the wire, read one object at a time.
//!
//! Pure. Objects stay text until they are converted, each by itself: one that cannot be read takes
//! nothing from the others, and no more than one is ever held in full.

use std::borrow::Cow;

use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::state::{Kind, ObjectKey, ObjectName};

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<'a> {
    pub(super) metadata: ListMeta,
    /// Null if there is none.
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMeta {
    /// State of the cluster that the list shows.
    #[serde(default)]
    pub(super) resource_version: String,
    /// Where the next page begins; empty at the end.
    #[serde(default, rename = "continue")]
    pub(super) next: String,
}

impl<'a> Page<'a> {
    pub(super) fn read(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    pub(super) fn items(&self) -> &[&'a RawValue] {
        self.items.as_deref().unwrap_or_default()
    }
}

/// What one line of a watch says.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// An object is there, as new or as changed.
    Put(&'a RawValue),
    /// An object is gone; this is its last state.
    Gone(&'a RawValue),
    /// Nothing happened up to here.
    Bookmark(&'a RawValue),
    /// The server ends the watch.
    Failed(Box<Status>),
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl<'a> Event<'a> {
    /// Reads a line; the error is in words.
    pub(super) fn read(text: &'a str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match &*line.kind {
            "ADDED" | "MODIFIED" => Ok(Self::Put(line.object)),
            "DELETED" => Ok(Self::Gone(line.object)),
            "BOOKMARK" => Ok(Self::Bookmark(line.object)),
            "ERROR" => match serde_json::from_str(line.object.get()) {
                Ok(status) => Ok(Self::Failed(status)),
                Err(error) => Err(format!("an error that cannot be read: {error}")),
            },
            other => Err(format!("{:?} is no type of event", truncated(other))),
        }
    }
}

fn truncated(text: &str) -> String {
    text.chars().take(40).collect()
}

/// What tells an object from others, read without the rest of it.
#[derive(Debug, Deserialize)]
pub(super) struct Identity<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    resource_version: Option<Cow<'a, str>>,
}

impl<'a> Identity<'a> {
    pub(super) fn read(object: &'a RawValue) -> serde_json::Result<Self> {
        serde_json::from_str(object.get())
    }

    /// Which object it is, if it has a name.
    pub(super) fn key(&self, kind: Kind) -> Option<ObjectKey> {
        let name = self.metadata.name.as_deref().filter(|it| !it.is_empty())?;
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let namespace = match kind {
            Kind::Node | Kind::Namespace => "",
            _ if namespace.is_empty() => "default",
            _ => namespace,
        };
        Some(ObjectKey {
            kind,
            name: ObjectName::new(namespace, name),
        })
    }

    /// State of the cluster in which the object became like this.
    pub(super) fn resource_version(&self) -> &str {
        self.metadata
            .resource_version
            .as_deref()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_its_objects_as_text() {
        let text = r#"{"kind":"PodList","metadata":{"resourceVersion":"7","continue":"c",
            "remainingItemCount":3},"items":[{"metadata":{"name":"a"}},17]}"#;
        let page = Page::read(text).unwrap();
        assert_eq!(
            (&*page.metadata.resource_version, &*page.metadata.next),
            ("7", "c")
        );
        assert_eq!(page.items()[0].get(), r#"{"metadata":{"name":"a"}}"#);
        assert_eq!(page.items()[1].get(), "17");
        let empty = Page::read(r#"{"metadata":{"resourceVersion":"7"},"items":null}"#).unwrap();
        assert!(empty.items().is_empty());
        Page::read("{}").unwrap_err();
        Page::read(r#"{"metadata":{},"items":{}}"#).unwrap_err();
    }

    #[test]
    fn lines_are_events_in_any_order_of_their_fields() {
        let read = |text| match Event::read(text) {
            Ok(Event::Put(object)) => format!("put {}", object.get()),
            Ok(Event::Gone(object)) => format!("gone {}", object.get()),
            Ok(Event::Bookmark(object)) => format!("bookmark {}", object.get()),
            Ok(Event::Failed(status)) => format!("failed {}", status.code),
            Err(_) => "error".to_owned(),
        };
        for (text, expected) in [
            (r#"{"type":"ADDED","object":{}}"#, "put {}"),
            (r#"{"object":{"a":1},"type":"MODIFIED"}"#, r#"put {"a":1}"#),
            (r#"{"type":"DELETED","object":{}}"#, "gone {}"),
            (r#"{"type":"BOOKMARK","object":{}}"#, "bookmark {}"),
            (r#"{"type":"ERROR","object":{"code":410}}"#, "failed 410"),
            (r#"{"type":"ERROR","object":17}"#, "error"),
            (r#"{"type":"LATER","object":{}}"#, "error"),
            (r#"{"type":"ADDED"}"#, "error"),
            (r#"{"type":"ADDED","object":{"#, "error"),
            ("", "error"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn an_identity_is_found_in_objects_that_are_otherwise_wrong() {
        let key = |kind, text: &str| {
            let raw: &RawValue = serde_json::from_str(text).unwrap();
            let identity = Identity::read(raw).ok()?;
            Some((
                identity.key(kind)?.to_string(),
                identity.resource_version().to_owned(),
            ))
        };
        let text = r#"{"spec":17,"metadata":{"name":"a","namespace":"n","resourceVersion":"9"}}"#;
        let expected = |name: &str| Some((name.to_owned(), "9".to_owned()));
        assert_eq!(key(Kind::Pod, text), expected("Pod n/a"));
        assert_eq!(key(Kind::Node, text), expected("Node a"));
        assert_eq!(key(Kind::Pod, r#"{"metadata":{"namespace":"n"}}"#), None);
        assert_eq!(key(Kind::Pod, r#"{"metadata":{"name":17}}"#), None);
        assert_eq!(key(Kind::Pod, "[]"), None);
    }
}
