//! Fields about names: pods, services, workloads, labels, identities, clusters, nodes.

use regex::Regex;
use weir_proto::flow::FlowFilter;

use super::selector::Selector;
use super::{Fields, FilterError, both, glob};
use crate::flows::record::CLUSTER_NAME;

pub(super) fn compile(filter: &FlowFilter, fields: &mut Fields) -> Result<(), FilterError> {
    pods_and_services(filter, fields)?;
    labels(filter, fields)?;
    clusters_and_nodes(filter, fields)?;
    // Records have no DNS names: a pattern is checked and never matches.
    let sides = both(
        ("source_fqdn", &filter.source_fqdn),
        ("destination_fqdn", &filter.destination_fqdn),
    );
    for (_, field, values) in sides {
        fields.add_text(field, values, glob::compile, |_, _| false)?;
    }
    Ok(())
}

fn pods_and_services(filter: &FlowFilter, fields: &mut Fields) -> Result<(), FilterError> {
    let pods = both(
        ("source_pod", &filter.source_pod),
        ("destination_pod", &filter.destination_pod),
    );
    for (side, field, values) in pods {
        fields.add_text(field, values, NamePrefix::parse, move |wanted, record| {
            let endpoint = record.endpoint(side);
            wanted.matches(&endpoint.namespace, &endpoint.pod_name)
        })?;
    }
    let services = both(
        ("source_service", &filter.source_service),
        ("destination_service", &filter.destination_service),
    );
    for (side, field, values) in services {
        fields.add_text(field, values, NamePrefix::parse, move |wanted, record| {
            record
                .service(side)
                .is_some_and(|found| wanted.matches(&found.namespace, &found.name))
        })?;
    }
    let workloads = both(
        ("source_workload", &filter.source_workload),
        ("destination_workload", &filter.destination_workload),
    );
    for (side, _, values) in workloads {
        fields.add_plain(values, move |wanted, record| {
            record
                .endpoint(side)
                .workload
                .as_ref()
                .is_some_and(|found| {
                    (wanted.name.is_empty() || wanted.name == found.name)
                        && (wanted.kind.is_empty() || wanted.kind == found.kind)
                })
        });
    }
    Ok(())
}

fn labels(filter: &FlowFilter, fields: &mut Fields) -> Result<(), FilterError> {
    let labels = both(
        ("source_label", &filter.source_label),
        ("destination_label", &filter.destination_label),
    );
    for (side, field, values) in labels {
        fields.add_text(field, values, Selector::parse, move |selector, record| {
            selector.matches(&record.endpoint(side).labels)
        })?;
    }
    fields.add_text(
        "node_labels",
        &filter.node_labels,
        Selector::parse,
        |selector, record| selector.matches(&record.node.labels),
    )?;
    let identities = both(
        ("source_identity", &filter.source_identity),
        ("destination_identity", &filter.destination_identity),
    );
    for (side, _, values) in identities {
        fields.add_plain(values, move |wanted, record| {
            record.endpoint(side).identity.0 == *wanted
        });
    }
    Ok(())
}

fn clusters_and_nodes(filter: &FlowFilter, fields: &mut Fields) -> Result<(), FilterError> {
    let clusters = both(
        ("source_cluster_name", &filter.source_cluster_name),
        ("destination_cluster_name", &filter.destination_cluster_name),
    );
    for (side, field, values) in clusters {
        let parse = |value: &str| match value {
            "" => Err("a cluster name must not be empty".to_owned()),
            name => Ok(name.to_owned()),
        };
        fields.add_text(field, values, parse, move |wanted, record| {
            record.endpoint(side).cluster_name == wanted
        })?;
    }
    fields.add_text(
        "node_name",
        &filter.node_name,
        NodePattern::parse,
        |pattern, record| pattern.matches(&record.node.name),
    )
}

/// `NAMESPACE/PREFIX`, either part empty for anything; `PREFIX` alone is in namespace `default`.
struct NamePrefix {
    namespace: String,
    prefix: String,
}

impl NamePrefix {
    fn parse(value: &str) -> Result<Self, String> {
        if value.is_empty() {
            return Err("a name must not be empty; `/` is any".into());
        }
        let mut parts = value.split('/');
        let (first, second) = (parts.next().unwrap_or_default(), parts.next());
        let (namespace, prefix) = second.map_or(("default", first), |prefix| (first, prefix));
        Ok(Self {
            namespace: namespace.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    fn matches(&self, namespace: &str, name: &str) -> bool {
        (!namespace.is_empty() || !name.is_empty())
            && name.starts_with(&self.prefix)
            && (self.namespace.is_empty() || self.namespace == namespace)
    }
}

/// `[CLUSTER/]NODE`; `None` matches anything.
struct NodePattern {
    cluster: Option<Regex>,
    node: Option<Regex>,
}

impl NodePattern {
    fn parse(value: &str) -> Result<Self, String> {
        let (cluster, node) = value.split_once('/').unwrap_or(("", value));
        if node.contains('/') {
            return Err(format!(
                "{value:?} has more than one slash; use [CLUSTER/]NODE"
            ));
        }
        if value.is_empty() {
            return Err("a node pattern must not be empty".into());
        }
        let part = |text: &str| (!text.is_empty()).then(|| glob::compile(text)).transpose();
        Ok(Self {
            cluster: part(cluster)?,
            node: part(node)?,
        })
    }

    fn matches(&self, name: &str) -> bool {
        let (cluster, node) = name.split_once('/').unwrap_or((CLUSTER_NAME, name));
        let part =
            |pattern: &Option<Regex>, text| pattern.as_ref().is_none_or(|p| p.is_match(text));
        part(&self.cluster, cluster) && part(&self.node, node)
    }
}
