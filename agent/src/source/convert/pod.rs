//! Pods.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::metadata::{NameForm, labels, namespaced_name};
use super::{Findings, address, unless_errors};
use crate::state::{Pod, Workload};

/// Label by which a Deployment tells its ReplicaSets apart; their names end in its value.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// Converts a Pod. A bad address refuses it whole.
pub fn pod(object: &api::Pod, findings: &mut Findings) -> Option<Pod> {
    unless_errors(findings, |findings| {
        let (spec, status) = (object.spec.as_ref(), object.status.as_ref());
        let name = namespaced_name(findings, &object.metadata, NameForm::Subdomain);
        warn_of_host_ports(spec, findings);
        let ips = ips(status, findings);
        let phase = status.and_then(|status| status.phase.as_deref());
        let account = spec.and_then(|s| {
            s.service_account_name
                .as_ref()
                .or(s.service_account.as_ref())
        });
        Some(Pod {
            name: name?,
            ips: ips.into(),
            node_name: spec
                .and_then(|spec| spec.node_name.as_deref())
                .filter(|name| !name.is_empty())
                .map(Into::into),
            host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            labels: labels(findings, &object.metadata)
                .into_iter()
                .filter(|(key, _)| names_a_group(key))
                .collect(),
            service_account: account
                .filter(|account| !account.is_empty())
                .map_or("default", String::as_str)
                .into(),
            workload: workload(&object.metadata).map(Arc::new),
        })
    })
}

fn ips(status: Option<&api::PodStatus>, findings: &mut Findings) -> Vec<IpAddr> {
    let Some(status) = status else {
        return Vec::new();
    };
    let mut ips = Vec::new();
    let several = status.pod_ips.iter().flatten();
    for (at, pod_ip) in several.enumerate() {
        let ip = address::parse(findings, &format!("status.podIPs[{at}].ip"), &pod_ip.ip);
        ips.extend(ip.filter(|ip| !ips.contains(ip)));
    }
    if let Some(first) = status.pod_ip.as_deref().filter(|ip| !ip.is_empty()) {
        let ip = address::parse(findings, "status.podIP", first);
        if ips.is_empty() {
            ips.extend(ip);
        } else if ip.is_some_and(|ip| ip != ips[0]) {
            findings.error(
                "status.podIP",
                format!("{first} is not the first of status.podIPs"),
            );
        }
    }
    ips
}

fn warn_of_host_ports(spec: Option<&api::PodSpec>, findings: &mut Findings) {
    // With the host's network a host port only declares what the pod listens on.
    let Some(spec) = spec.filter(|spec| spec.host_network != Some(true)) else {
        return;
    };
    for (at, container) in spec.containers.iter().enumerate() {
        let ports = container.ports.iter().flatten();
        let host_port = |port: &api::ContainerPort| port.host_port.is_some_and(|port| port != 0);
        if let Some(port) = ports.into_iter().position(host_port) {
            findings.not_honoured(
                format!("spec.containers[{at}].ports[{port}].hostPort"),
                "the CNI's own port mapping serves it, if it has one",
            );
        }
    }
}

/// The controller of the pod; of a ReplicaSet that a Deployment made, the Deployment.
fn workload(metadata: &ObjectMeta) -> Option<Workload> {
    let owners = metadata.owner_references.iter().flatten();
    let owner = owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))?;
    let hash = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(TEMPLATE_HASH));
    let deployment = hash
        .filter(|hash| owner.kind == "ReplicaSet" && !hash.is_empty())
        .and_then(|hash| {
            owner
                .name
                .strip_suffix(hash.as_str())?
                .strip_suffix('-')
                .filter(|n| !n.is_empty())
        });
    Some(match deployment {
        Some(name) => Workload {
            kind: "Deployment".to_owned(),
            name: name.to_owned(),
        },
        None => Workload {
            kind: owner.kind.clone(),
            name: owner.name.clone(),
        },
    })
}

/// False for labels that controllers put on pods for their own use, one value per rollout or pod. The
/// sets of the others are the same for many pods.
fn names_a_group(key: &str) -> bool {
    const PER_ROLLOUT: [&str; 3] = [
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
    ];
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let kubernetes = ["kubernetes.io", "k8s.io"].iter().any(|suffix| {
        domain
            .strip_suffix(suffix)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    !PER_ROLLOUT.contains(&key) && (!kubernetes || domain == "app.kubernetes.io")
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;
    use super::*;

    #[test]
    fn defaults_are_those_of_the_api_server() {
        let (pod, findings) = run(pod, "metadata: {name: web-a}\nspec: {containers: []}");
        assert_eq!(findings, [""; 0]);
        let pod = pod.unwrap();
        assert_eq!(&*pod.name.namespace, "default");
        assert_eq!(&*pod.service_account, "default");
        assert_eq!(
            (pod.host_network, pod.finished, pod.ips.len()),
            (false, false, 0)
        );
        assert_eq!(pod.workload, None);
    }

    #[test]
    fn labels_of_one_rollout_or_one_pod_are_not_kept() {
        let (pod, findings) = run(
            pod,
            "
metadata:
  name: web-a
  labels:
    pod-template-hash: x
    controller-revision-hash: x
    app.kubernetes.io/name: x
    app: x
    batch.kubernetes.io/job-name: x
    statefulset.kubernetes.io/pod-name: x
    notkubernetes.io/team: x
spec: {containers: []}
",
        );
        assert_eq!(findings, [""; 0]);
        let labels = pod.unwrap().labels;
        let kept: Vec<_> = labels.iter().map(|(key, _)| key).collect();
        assert_eq!(
            kept,
            ["app", "app.kubernetes.io/name", "notkubernetes.io/team"]
        );
    }

    #[test]
    fn addresses_of_both_families_are_taken_once() {
        let (pod, findings) = run(
            pod,
            "
metadata: {name: web-a, namespace: shop}
spec: {containers: [], nodeName: worker, serviceAccountName: web, hostNetwork: true}
status: {phase: Failed, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]}
",
        );
        assert_eq!(findings, [""; 0]);
        let pod = pod.unwrap();
        let ips: Vec<_> = pod.ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["10.1.0.1", "fd00::1"]);
        assert_eq!(pod.node_name.as_deref(), Some("worker"));
        assert_eq!(&*pod.service_account, "web");
        assert!(pod.host_network && pod.finished);
    }

    #[test]
    fn bad_addresses_refuse_the_pod() {
        let cases = [
            ("podIP: 10.1.0.300", "E status.podIP"),
            ("podIPs: [{ip: 127.0.0.1}]", "E status.podIPs[0].ip"),
            (
                "{podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.2}]}",
                "E status.podIP",
            ),
        ];
        for (status, finding) in cases {
            let yaml =
                format!("metadata: {{name: a}}\nspec: {{containers: []}}\nstatus:\n  {status}");
            let (pod, findings) = run(pod, &yaml);
            assert_eq!(
                (pod, findings),
                (None, vec![finding.to_owned()]),
                "{status}"
            );
        }
    }

    #[test]
    fn workloads_are_named_as_users_know_them() {
        let cases = [
            (
                "ReplicaSet",
                "web-5d4f",
                "5d4f",
                Some(("Deployment", "web")),
            ),
            (
                "ReplicaSet",
                "web-5d4f",
                "",
                Some(("ReplicaSet", "web-5d4f")),
            ),
            (
                "ReplicaSet",
                "web5d4f",
                "5d4f",
                Some(("ReplicaSet", "web5d4f")),
            ),
            ("ReplicaSet", "-5d4f", "5d4f", Some(("ReplicaSet", "-5d4f"))),
            (
                "StatefulSet",
                "db-5d4f",
                "5d4f",
                Some(("StatefulSet", "db-5d4f")),
            ),
        ];
        for (kind, name, hash, expected) in cases {
            let yaml = format!(
                "
metadata:
  name: a
  labels: {{pod-template-hash: '{hash}'}}
  ownerReferences:
  - {{apiVersion: v1, kind: Other, name: x, uid: u}}
  - {{apiVersion: apps/v1, kind: {kind}, name: {name}, uid: u, controller: true}}
spec: {{containers: []}}
"
            );
            let workload = run(pod, &yaml).0.unwrap().workload;
            let got = workload
                .as_ref()
                .map(|w| (w.kind.as_str(), w.name.as_str()));
            assert_eq!(got, expected, "{kind} {name} with hash {hash:?}");
        }
    }

    #[test]
    fn host_ports_are_reported_unless_the_network_is_the_hosts() {
        let yaml = |host_network| {
            format!(
                "
metadata: {{name: a}}
spec:
  hostNetwork: {host_network}
  containers:
  - {{name: a, ports: [{{containerPort: 80}}, {{containerPort: 81, hostPort: 81}}]}}
"
            )
        };
        assert_eq!(
            run(pod, &yaml(false)).1,
            ["W spec.containers[0].ports[1].hostPort"]
        );
        assert_eq!(run(pod, &yaml(true)).1, [""; 0]);
    }
}
