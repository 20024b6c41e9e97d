//! Everything that the agent asks of the API server, in one table.
//!
//! Requests are made with entries of this table, so that code which asks for more cannot be written
//! without a line here; a test compares the table with the `ClusterRole` in `deploy/`.

/// A verb as RBAC names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read all.
    List,
    /// Follow all.
    Watch,
    /// Make one.
    Create,
    /// Change fields of one.
    Patch,
}

impl Verb {
    /// As it stands in a role.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Patch => "patch",
        }
    }
}

/// A resource and what is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version of the group that is asked for by name, whatever the server prefers.
    pub version: &'static str,
    /// Plural name, with a subresource as in `nodes/status`.
    pub resource: &'static str,
    /// All verbs used.
    pub verbs: &'static [Verb],
}

/// Services: balanced; events about them name their `uid`.
pub const SERVICES: Access = core("services", &[Verb::Get, Verb::List, Verb::Watch]);
/// `EndpointSlice`s: the backends.
pub const ENDPOINT_SLICES: Access = Access {
    group: "discovery.k8s.io",
    version: "v1",
    resource: "endpointslices",
    verbs: &[Verb::Get, Verb::List, Verb::Watch],
};
/// Pods: names of flows.
pub const PODS: Access = core("pods", &[Verb::Get, Verb::List, Verb::Watch]);
/// Nodes: where pods are, and the record of this one.
pub const NODES: Access = core("nodes", &[Verb::Get, Verb::List, Verb::Watch, Verb::Patch]);
/// Namespaces: their labels are part of their pods' identity.
pub const NAMESPACES: Access = core("namespaces", &[Verb::List, Verb::Watch]);
/// The condition of this node.
pub const NODE_STATUS: Access = core("nodes/status", &[Verb::Patch]);
/// What is wrong with others' objects.
pub const EVENTS: Access = core("events", &[Verb::Create]);

/// All of it.
pub const TABLE: [Access; 7] = [
    SERVICES,
    ENDPOINT_SLICES,
    PODS,
    NODES,
    NAMESPACES,
    NODE_STATUS,
    EVENTS,
];

const fn core(resource: &'static str, verbs: &'static [Verb]) -> Access {
    Access {
        group: "",
        version: "v1",
        resource,
        verbs,
    }
}

impl Access {
    /// Path of all objects, or of those of one namespace. The namespace must be a DNS label.
    pub(super) fn path(&self, namespace: &str) -> String {
        let group = match self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match namespace {
            "" => format!("{group}/{}", self.resource),
            namespace => format!("{group}/namespaces/{namespace}/{}", self.resource),
        }
    }

    /// Refuses to ask for what the table does not have.
    pub(super) fn assert(&self, verb: Verb) {
        assert!(
            self.verbs.contains(&verb),
            "{} {} is missing in the table of access",
            verb.as_str(),
            self.resource
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(SERVICES.path(""), "/api/v1/services");
        assert_eq!(
            ENDPOINT_SLICES.path("shop"),
            "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
        );
        assert_eq!(EVENTS.path("shop"), "/api/v1/namespaces/shop/events");
    }

    /// (group, resource, verb) of all rules of the role in `deploy/`.
    fn granted() -> BTreeSet<(String, String, String)> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../deploy/daemonset/base/rbac.yaml"
        );
        let text = std::fs::read_to_string(path).unwrap();
        let mut documents = serde_yaml_ng::Deserializer::from_str(&text)
            .map(|document| Value::deserialize(document).unwrap());
        let role = documents.find(|it| it["kind"] == "ClusterRole").unwrap();
        let words = |list: &Value| -> Vec<String> {
            let words = list.as_array().unwrap().iter();
            words
                .map(|word| word.as_str().unwrap().to_owned())
                .collect()
        };
        let mut granted = BTreeSet::new();
        for rule in role["rules"].as_array().unwrap() {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    for verb in words(&rule["verbs"]) {
                        granted.insert((group.clone(), resource.clone(), verb));
                    }
                }
            }
        }
        granted
    }

    #[test]
    fn the_role_grants_what_is_used_and_no_more() {
        let used = TABLE.iter().flat_map(|access| {
            let of = |verb: &Verb| {
                (
                    access.group.into(),
                    access.resource.into(),
                    verb.as_str().into(),
                )
            };
            access.verbs.iter().map(of)
        });
        assert_eq!(granted(), used.collect());
    }
}
