//! Field masks over `flow.Flow`: which fields a client wants.
//!
//! Paths are raw proto names (`IP`, `source.pod_name`). The mask says what to build; filters always
//! see the whole record.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};
use thiserror::Error;

/// Fields that every mask gets, because the default masks of clients in use lack them and show
/// wrong text without them.
const ALWAYS: [&str; 11] = [
    "traffic_direction",
    "policy_match_type",
    "ingress_allowed_by",
    "egress_allowed_by",
    "ingress_denied_by",
    "egress_denied_by",
    "sock_xlate_point",
    "debug_capture_point",
    "auth_type",
    "source_names",
    "destination_names",
];

/// A path that is no field of `flow.Flow`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid fieldmask: {path:?} is not a field of flow.Flow")]
pub struct MaskError {
    /// The path.
    pub path: String,
}

/// The wanted fields of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All of them.
    All,
    /// None: the message itself is not wanted.
    Nothing,
    /// These, each with the mask of its own message.
    Fields(Vec<(String, Mask)>),
}

static FLOW: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    DescriptorPool::decode(weir_proto::FILE_DESCRIPTOR_SET)
        .expect("the descriptors were compiled with the code")
        .get_message_by_name("flow.Flow")
        .expect("flow.Flow is part of the API")
});

impl Mask {
    /// Compiles the paths of a request; no paths are all fields.
    pub fn compile(paths: &[String]) -> Result<Self, MaskError> {
        if paths.is_empty() {
            return Ok(Self::All);
        }
        let mut mask = Self::Fields(Vec::new());
        for path in paths {
            if !is_path(&FLOW, path) {
                return Err(MaskError { path: path.clone() });
            }
            mask.add(path);
        }
        for path in ALWAYS {
            mask.add(path);
        }
        Ok(mask)
    }

    /// The mask of one field.
    pub fn of(&self, field: &str) -> &Mask {
        match self {
            Self::All => &Self::All,
            Self::Nothing => &Self::Nothing,
            Self::Fields(fields) => fields
                .iter()
                .find(|(name, _)| name == field)
                .map_or(&Self::Nothing, |(_, mask)| mask),
        }
    }

    /// True if any of the message is wanted.
    pub fn wanted(&self) -> bool {
        *self != Self::Nothing
    }

    /// The value if the field is wanted, else its default.
    pub fn pick<T: Default>(&self, field: &str, value: impl FnOnce() -> T) -> T {
        if self.of(field).wanted() {
            value()
        } else {
            T::default()
        }
    }

    /// The message if any of it is wanted.
    pub fn message<T>(&self, field: &str, build: impl FnOnce(&Mask) -> Option<T>) -> Option<T> {
        let mask = self.of(field);
        if mask.wanted() { build(mask) } else { None }
    }

    fn add(&mut self, path: &str) {
        let Self::Fields(fields) = self else { return };
        let (name, rest) = match path.split_once('.') {
            Some((name, rest)) => (name, Some(rest)),
            None => (path, None),
        };
        let index = fields
            .iter()
            .position(|(known, _)| known == name)
            .unwrap_or_else(|| {
                fields.push((name.to_owned(), Self::Fields(Vec::new())));
                fields.len() - 1
            });
        match rest {
            Some(rest) => fields[index].1.add(rest),
            None => fields[index].1 = Self::All,
        }
    }
}

/// True if the path names a field, through messages that are not repeated.
fn is_path(message: &MessageDescriptor, path: &str) -> bool {
    let (name, rest) = match path.split_once('.') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    let Some(field) = message.get_field_by_name(name) else {
        return false;
    };
    match (rest, field.kind()) {
        (None, _) => true,
        (Some(rest), Kind::Message(inner)) => !field.is_list() && is_path(&inner, rest),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(paths: &[&str]) -> Result<Mask, MaskError> {
        Mask::compile(
            &paths
                .iter()
                .map(|path| (*path).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn no_paths_are_all_fields() {
        assert_eq!(compile(&[]), Ok(Mask::All));
        assert!(Mask::All.of("IP").of("source").wanted());
    }

    #[test]
    fn listed_fields_are_wanted_and_so_are_those_that_clients_forget() {
        let mask = compile(&["IP", "source.pod_name", "source.identity", "l4.TCP.flags"]).unwrap();
        let cases = [
            ("IP", "encrypted", true),
            ("source", "pod_name", true),
            ("source", "identity", true),
            ("source", "labels", false),
            ("destination", "pod_name", false),
            ("l4", "TCP", true),
            ("l4", "UDP", false),
        ];
        for (field, inner, expected) in cases {
            assert_eq!(
                mask.of(field).of(inner).wanted(),
                expected,
                "{field}.{inner}"
            );
        }
        assert!(mask.of("l4").of("TCP").of("flags").wanted());
        assert!(!mask.of("l4").of("TCP").of("source_port").wanted());
        assert!(mask.of("traffic_direction").wanted());
        assert!(mask.of("destination_names").wanted());
        assert!(!mask.of("time").wanted());
    }

    #[test]
    fn a_whole_message_includes_its_fields_in_any_order() {
        for paths in [["source", "source.identity"], ["source.identity", "source"]] {
            assert_eq!(
                *compile(&paths).unwrap().of("source"),
                Mask::All,
                "{paths:?}"
            );
        }
    }

    #[test]
    fn the_default_mask_of_the_hubble_client_is_valid() {
        let paths = "time verdict ethernet IP l4 source.identity source.namespace source.pod_name \
            destination.identity destination.namespace destination.pod_name Type node_name l7 \
            event_type source_service destination_service is_reply Summary ip_trace_id";
        assert!(compile(&paths.split_whitespace().collect::<Vec<_>>()).is_ok());
    }

    #[test]
    fn what_is_no_field_is_refused() {
        for path in [
            "ip",
            "summary",
            "source.podName",
            "time.x",
            "l4.",
            "",
            "source.workloads.name",
        ] {
            assert_eq!(
                compile(&[path]),
                Err(MaskError { path: path.into() }),
                "{path:?}"
            );
        }
    }
}
