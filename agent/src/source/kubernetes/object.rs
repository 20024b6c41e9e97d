//! From the text of one object to the types of `state`.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::access::{self, Access};
use super::wire::Identity;
use crate::source::{Findings, convert};
use crate::state::{Kind, Object, ObjectKey};

/// An object as far as it could be read.
#[derive(Debug)]
pub(super) struct ReadObject {
    pub(super) key: ObjectKey,
    /// `None` if it cannot be served; the findings tell why.
    pub(super) object: Option<Object>,
    pub(super) findings: Findings,
}

/// Where the objects of a kind are.
pub(super) fn access(kind: Kind) -> Access {
    match kind {
        Kind::Service => access::SERVICES,
        Kind::EndpointSlice => access::ENDPOINT_SLICES,
        Kind::Pod => access::PODS,
        Kind::Node => access::NODES,
        Kind::Namespace => access::NAMESPACES,
    }
}

/// Reads an object. An error, in words, says that not even its name can be read.
pub(super) fn read(kind: Kind, text: &RawValue) -> Result<ReadObject, String> {
    let mut findings = Findings::default();
    let object = match kind {
        Kind::Service => typed(text, &mut findings, convert::service).map(Object::Service),
        Kind::EndpointSlice => {
            typed(text, &mut findings, convert::endpoint_slice).map(Object::EndpointSlice)
        }
        Kind::Pod => typed(text, &mut findings, convert::pod).map(Object::Pod),
        Kind::Node => typed(text, &mut findings, convert::node).map(Object::Node),
        Kind::Namespace => typed(text, &mut findings, convert::namespace).map(Object::Namespace),
    };
    let key = match &object {
        Some(object) => object.key(),
        None => key(kind, text)?,
    };
    Ok(ReadObject {
        key,
        object,
        findings,
    })
}

/// Which object this is, whatever else it says.
pub(super) fn key(kind: Kind, text: &RawValue) -> Result<ObjectKey, String> {
    let identity = Identity::read(text).map_err(|error| error.to_string())?;
    identity
        .key(kind)
        .ok_or_else(|| format!("a {kind:?} has no name"))
}

/// What is not used is dropped here, with the typed object.
fn typed<K: DeserializeOwned, T>(
    text: &RawValue,
    findings: &mut Findings,
    convert: impl FnOnce(&K, &mut Findings) -> Option<T>,
) -> Option<T> {
    let mut track = serde_path_to_error::Track::new();
    let mut json = serde_json::Deserializer::from_str(text.get());
    let read = K::deserialize(serde_path_to_error::Deserializer::new(
        &mut json, &mut track,
    ));
    match read {
        Ok(object) => convert(&object, findings),
        Err(error) => {
            let path = track.path().to_string();
            let field = if path == "." { "" } else { &path };
            findings.error(field, error.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: Kind, json: &str) -> Result<(String, bool, Vec<String>), String> {
        let text: &RawValue = serde_json::from_str(json).unwrap();
        let read = read(kind, text)?;
        let fields = read.findings.into_iter().map(|finding| finding.field);
        Ok((
            read.key.to_string(),
            read.object.is_some(),
            fields.collect(),
        ))
    }

    #[test]
    fn an_object_of_a_list_needs_neither_version_nor_kind() {
        let json = r#"{"metadata":{"name":"web","namespace":"shop","resourceVersion":"4"},
            "spec":{"clusterIP":"10.96.0.9","ports":[{"port":80,"laterField":1}]}}"#;
        let (key, is_some, fields) = run(Kind::Service, json).unwrap();
        assert_eq!((&*key, is_some), ("Service shop/web", true));
        assert_eq!(fields, [""; 0]);
    }

    #[test]
    fn a_field_of_a_wrong_type_is_named() {
        let json = r#"{"metadata":{"name":"web"},"spec":{"ports":[{"port":"http"}]}}"#;
        let (key, is_some, fields) = run(Kind::Service, json).unwrap();
        assert_eq!((&*key, is_some), ("Service default/web", false));
        assert_eq!(fields, ["spec.ports[0].port"]);
    }

    #[test]
    fn an_object_without_a_name_is_an_error() {
        run(Kind::Pod, r#"{"metadata":{},"spec":{"containers":[]}}"#).unwrap_err();
        run(Kind::Pod, "17").unwrap_err();
    }
}
