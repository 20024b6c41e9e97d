//! Nodes and Namespaces.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::metadata::{NameForm, cluster_name, labels};
use super::{Findings, address, unless_errors};
use crate::state::{Namespace, Node};

/// Annotations that are ours; the others are none of the data plane's business and may be large.
const ANNOTATION_PREFIX: &str = "weir.";
/// Longest value of one of ours that is kept; a key of encryption has 44 bytes.
const ANNOTATION_BYTES_MAX: usize = 1 << 10;

/// Converts a Node. A bad range refuses it whole; of several addresses those count that can be used.
pub fn node(object: &api::Node, findings: &mut Findings) -> Option<Node> {
    unless_errors(findings, |findings| {
        let metadata = &object.metadata;
        let name = cluster_name(findings, metadata, NameForm::Subdomain);
        let addresses = addresses(object.status.as_ref(), findings);
        let pod_cidrs = pod_cidrs(object.spec.as_ref(), findings);
        Some(Node {
            name: name?,
            created_at_seconds: metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0.as_second()),
            addresses,
            pod_cidrs,
            labels: labels(findings, metadata),
            annotations: annotations(metadata, findings),
        })
    })
}

/// Those that are ours.
fn annotations(metadata: &ObjectMeta, findings: &mut Findings) -> BTreeMap<String, String> {
    let mut own = BTreeMap::new();
    for (key, value) in metadata.annotations.iter().flatten() {
        if !key.starts_with(ANNOTATION_PREFIX) {
            continue;
        }
        if value.len() > ANNOTATION_BYTES_MAX {
            let message = format!(
                "has {} bytes, more than any annotation of Weir; left out",
                value.len()
            );
            findings.warning(format!("metadata.annotations[{key}]"), message);
        } else {
            own.insert(key.clone(), value.clone());
        }
    }
    own
}

fn addresses(status: Option<&api::NodeStatus>, findings: &mut Findings) -> Vec<IpAddr> {
    let given: Vec<_> = status
        .and_then(|s| s.addresses.as_ref())
        .into_iter()
        .flatten()
        .collect();
    let mut addresses = Vec::new();
    for wanted in ["InternalIP", "ExternalIP"] {
        for (at, given) in given
            .iter()
            .enumerate()
            .filter(|(_, given)| given.type_ == wanted)
        {
            let field = format!("status.addresses[{at}].address");
            // Clouds list such as link-local ones beside the others.
            let ip = address::parse_or_leave_out(findings, &field, &given.address);
            addresses.extend(ip.filter(|ip| !addresses.contains(ip)));
        }
    }
    addresses
}

fn pod_cidrs(spec: Option<&api::NodeSpec>, findings: &mut Findings) -> Vec<IpNet> {
    let Some(spec) = spec else { return Vec::new() };
    let several = spec.pod_cidrs.as_ref().filter(|cidrs| !cidrs.is_empty());
    let fields: Vec<(String, &str)> = match (several, &spec.pod_cidr) {
        (Some(cidrs), _) => cidrs
            .iter()
            .enumerate()
            .map(|(at, cidr)| (format!("spec.podCIDRs[{at}]"), cidr.as_str()))
            .collect(),
        (None, Some(cidr)) => vec![("spec.podCIDR".to_owned(), cidr)],
        (None, None) => Vec::new(),
    };
    let mut parsed = Vec::new();
    for (field, cidr) in fields {
        match cidr.parse::<IpNet>() {
            Ok(cidr) => parsed.push(cidr.trunc()),
            Err(_) => findings.error(
                field,
                format!("{cidr:?} is no range of addresses, such as 10.1.0.0/24"),
            ),
        }
    }
    parsed
}

/// Converts a Namespace.
pub fn namespace(object: &api::Namespace, findings: &mut Findings) -> Option<Namespace> {
    let metadata = &object.metadata;
    let name = cluster_name(findings, metadata, NameForm::Label)?;
    Some(Namespace {
        name,
        labels: labels(findings, metadata),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;
    use super::*;

    #[test]
    fn internal_addresses_come_before_external_ones_and_the_rest_is_dropped() {
        let (node, findings) = run(
            node,
            "
metadata:
  name: worker
  labels: {zone: a}
  annotations: {weir.key: k, other.io/x: large}
spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.7/24, 'fd00:1::/64']}
status:
  addresses:
  - {type: ExternalIP, address: 198.51.100.1}
  - {type: Hostname, address: worker.local}
  - {type: InternalIP, address: 192.0.2.1}
  - {type: InternalIP, address: '2001:db8::1'}
  - {type: ExternalIP, address: 192.0.2.1}
",
        );
        assert_eq!(findings, [""; 0]);
        let node = node.unwrap();
        let addresses: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.1", "2001:db8::1", "198.51.100.1"]);
        let cidrs: Vec<_> = node.pod_cidrs.iter().map(ToString::to_string).collect();
        assert_eq!(cidrs, ["10.1.0.0/24", "fd00:1::/64"]);
        assert_eq!(
            node.annotations.into_keys().collect::<Vec<_>>(),
            ["weir.key"]
        );
        assert_eq!(node.labels["zone"], "a");
    }

    #[test]
    fn bad_nodes_are_refused_with_every_reason() {
        let (node, findings) = run(
            node,
            "
metadata: {name: Worker}
spec: {podCIDRs: [10.1.0.0/33]}
status: {addresses: [{type: InternalIP, address: nowhere}]}
",
        );
        assert_eq!(node, None);
        assert_eq!(
            findings,
            [
                "E metadata.name",
                "W status.addresses[0].address",
                "E spec.podCIDRs[0]"
            ]
        );
    }

    #[test]
    fn an_address_that_cannot_be_used_is_left_out_of_several() {
        let (node, findings) = run(
            node,
            "
metadata: {name: worker}
status:
  addresses:
  - {type: InternalIP, address: 'fe80::1'}
  - {type: InternalIP, address: 192.0.2.1}
  - {type: InternalIP, address: 169.254.0.7}
",
        );
        let addresses = node.unwrap().addresses;
        assert_eq!(addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(
            findings,
            [
                "W status.addresses[0].address",
                "W status.addresses[2].address"
            ]
        );
    }

    #[test]
    fn a_node_may_have_nothing_but_a_name() {
        let (node, findings) = run(node, "metadata: {name: worker}");
        assert!(node.is_some_and(|node| node.addresses.is_empty()));
        assert_eq!(findings, [""; 0]);
    }

    #[test]
    fn namespaces_keep_their_labels() {
        let (converted, findings) = run(namespace, "metadata: {name: shop, labels: {team: a}}");
        assert_eq!(converted.unwrap().labels["team"], "a");
        assert_eq!(findings, [""; 0]);
        assert_eq!(
            run(namespace, "metadata: {name: a.b}").1,
            ["E metadata.name"]
        );
    }
}
