//! Which of our kinds a value is, by `apiVersion` and `kind`.

use serde_json::Value;

use crate::state::Kind;

/// The kinds that are read, with their API group and version.
const KINDS: [(&str, &str, &str, Kind); 5] = [
    ("", "v1", "Service", Kind::Service),
    (
        "discovery.k8s.io",
        "v1",
        "EndpointSlice",
        Kind::EndpointSlice,
    ),
    ("", "v1", "Pod", Kind::Pod),
    ("", "v1", "Node", Kind::Node),
    ("", "v1", "Namespace", Kind::Namespace),
];

/// What to do with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReadAs {
    /// Read it as this kind.
    Kind(Kind),
    /// A valid object of a kind that does not concern us.
    NotRead(String),
    /// It does not say what it is, or in a version that we do not know.
    Unclear {
        field: &'static str,
        message: String,
        /// The kind that it would have been, if that is known.
        lost: Option<Kind>,
    },
}

/// Tells the kind of an object.
pub(super) fn read_as(value: &Value) -> ReadAs {
    let unclear = |field, message: &str, lost| {
        let message = message.to_owned();
        ReadAs::Unclear {
            field,
            message,
            lost,
        }
    };
    if !value.is_object() {
        return unclear(
            "",
            "is no Kubernetes object: expected apiVersion, kind, metadata",
            None,
        );
    }
    let Some(kind) = value
        .get("kind")
        .and_then(Value::as_str)
        .filter(|kind| !kind.is_empty())
    else {
        return unclear(
            "kind",
            "is missing: expected Service, EndpointSlice, Pod, ...",
            None,
        );
    };
    let named = KINDS.iter().find(|(_, _, name, _)| *name == kind);
    let api_version = value
        .get("apiVersion")
        .and_then(Value::as_str)
        .filter(|v| !v.is_empty());
    let Some(api_version) = api_version else {
        let lost = named.map(|(.., kind)| *kind);
        return unclear("apiVersion", "is missing", lost);
    };
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    match named {
        Some((wanted_group, wanted_version, _, kind)) if *wanted_group == group => {
            if *wanted_version == version {
                return ReadAs::Kind(*kind);
            }
            let wanted = if group.is_empty() {
                "v1".to_owned()
            } else {
                format!("{group}/v1")
            };
            let message =
                format!("{api_version} is not served any more, or not yet: write {wanted}");
            ReadAs::Unclear {
                field: "apiVersion",
                message,
                lost: Some(*kind),
            }
        }
        _ => ReadAs::NotRead(format!("{api_version} {kind} is not read by Weir; ignored")),
    }
}

/// The items of a list, each with kind and version even where the list gives them; `None` if the
/// value is no list.
pub(super) fn list_items(value: &Value) -> Option<Vec<Value>> {
    let list_kind = value.get("kind")?.as_str()?;
    let item_kind = list_kind.strip_suffix("List")?;
    if !item_kind.is_empty() && !KINDS.iter().any(|(_, _, name, _)| *name == item_kind) {
        return None;
    }
    let items = match value.get("items") {
        Some(Value::Array(items)) => items.clone(),
        None | Some(Value::Null) => Vec::new(),
        Some(_) => return None,
    };
    let with_type = |mut item: Value| {
        if let (Value::Object(fields), false) = (&mut item, item_kind.is_empty()) {
            fields.entry("kind").or_insert_with(|| item_kind.into());
            if let Some(version) = value.get("apiVersion") {
                fields
                    .entry("apiVersion")
                    .or_insert_with(|| version.clone());
            }
        }
        item
    };
    Some(items.into_iter().map(with_type).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_are_told_by_group_and_version() {
        let cases = [
            (
                json!({"apiVersion": "v1", "kind": "Service"}),
                "read Service",
            ),
            (
                json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"}),
                "read EndpointSlice",
            ),
            (
                json!({"apiVersion": "discovery.k8s.io/v1beta1", "kind": "EndpointSlice"}),
                "lost EndpointSlice",
            ),
            (json!({"apiVersion": "v2", "kind": "Pod"}), "lost Pod"),
            (json!({"kind": "Node"}), "lost Node"),
            (json!({"apiVersion": 1, "kind": "Node"}), "lost Node"),
            (
                json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service"}),
                "other",
            ),
            (
                json!({"apiVersion": "apps/v1", "kind": "Deployment"}),
                "other",
            ),
            (json!({"apiVersion": "v1", "kind": ""}), "lost"),
            (json!({"apiVersion": "v1", "kind": ["Service"]}), "lost"),
            (json!({"apiVersion": "v1"}), "lost"),
            (json!([1]), "lost"),
            (json!("text"), "lost"),
        ];
        for (value, expected) in cases {
            let got = match read_as(&value) {
                ReadAs::Kind(kind) => format!("read {kind:?}"),
                ReadAs::NotRead(_) => "other".to_owned(),
                ReadAs::Unclear {
                    lost: Some(kind), ..
                } => format!("lost {kind:?}"),
                ReadAs::Unclear { lost: None, .. } => "lost".to_owned(),
            };
            assert_eq!(got, expected, "{value}");
        }
    }

    #[test]
    fn items_of_typed_lists_inherit_their_type() {
        let list = json!({"apiVersion": "v1", "kind": "ServiceList", "items": [{"spec": {}}]});
        let expected = json!({"apiVersion": "v1", "kind": "Service", "spec": {}});
        assert_eq!(list_items(&list), Some(vec![expected]));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [{"kind": "Pod"}]});
        assert_eq!(list_items(&list), Some(vec![json!({"kind": "Pod"})]));
        assert_eq!(list_items(&json!({"kind": "List"})), Some(vec![]));
    }

    #[test]
    fn other_things_are_no_lists() {
        for value in [
            json!({"kind": "Service"}),
            json!({"kind": "IPList", "items": []}),
            json!(1),
        ] {
            assert_eq!(list_items(&value), None, "{value}");
        }
    }
}
