//! From a tree of values to an object of its kind.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::state::{Kind, ObjectKey, ObjectName};

/// The key of an object whose other fields may be of any kind.
pub(super) fn key(kind: Kind, value: &Value) -> Option<ObjectKey> {
    let metadata = value.get("metadata")?;
    let name = metadata
        .get("name")?
        .as_str()
        .filter(|name| !name.is_empty())?;
    let namespace = match kind {
        Kind::Node | Kind::Namespace => "",
        Kind::Service | Kind::EndpointSlice | Kind::Pod => match metadata.get("namespace") {
            None | Some(Value::Null) => "default",
            Some(namespace) => namespace
                .as_str()
                .map(|n| if n.is_empty() { "default" } else { n })?,
        },
    };
    Some(ObjectKey {
        kind,
        name: ObjectName::new(namespace, name),
    })
}

/// The typed object and the fields that its type lacks; or the field of a wrong type.
pub(super) fn typed<K: DeserializeOwned>(
    value: &Value,
) -> Result<(K, Vec<String>), (String, String)> {
    let mut track = serde_path_to_error::Track::new();
    let mut unknown = Vec::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let object = serde_ignored::deserialize(deserializer, |path| unknown.push(render(&path)));
    match object {
        Ok(object) => Ok((object, unknown)),
        Err(error) => {
            let path = track.path().to_string();
            Err((
                if path == "." { String::new() } else { path },
                error.to_string(),
            ))
        }
    }
}

/// A path in the form of findings: `spec.ports[0].port`.
fn render(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => render(parent) + &format!("[{index}]"),
        Path::Map { parent, key } => match render(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => parent + "." + key,
        },
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => render(parent),
    }
}
