//! What is not ready, and why: pure.

use k8s_openapi::api::core::v1::{Pod, PodStatus, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::objects::{Plan, Role};

/// Label of a slice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What is waited for, each with the reason that is known of it. Nothing if all is ready.
pub fn waiting_for(
    plan: &Plan,
    pods: &[Pod],
    services: &[Service],
    slices: &[EndpointSlice],
) -> Vec<String> {
    let mut waiting = Vec::new();
    for (role, node) in plan.members() {
        let name = role.pod(node);
        let pod = pods
            .iter()
            .find(|pod| pod.metadata.name.as_ref() == Some(&name));
        let why = match pod {
            Some(pod) => why_not_ready(pod),
            None => Some("it is gone".to_owned()),
        };
        if let Some(why) = why {
            waiting.push(format!("pod {name} on {}: {why}", plan.nodes[node]));
        }
    }
    for service in plan.services() {
        let name = service.metadata.name.unwrap_or_default();
        let found = services
            .iter()
            .find(|it| it.metadata.name.as_ref() == Some(&name));
        let has_address = found.is_some_and(|found| !addresses(found).is_empty());
        if !has_address {
            waiting.push(format!("service {name}: it has no ClusterIP"));
            continue;
        }
        let (ready, wanted) = (ready_endpoints(&name, slices), plan.nodes.len());
        if ready < wanted {
            waiting.push(format!(
                "service {name}: {ready} of {wanted} endpoints are ready"
            ));
        }
    }
    waiting
}

/// ClusterIPs of a service.
pub fn addresses(service: &Service) -> Vec<std::net::IpAddr> {
    let spec = service.spec.as_ref();
    let all = spec
        .and_then(|spec| spec.cluster_ips.clone())
        .unwrap_or_default();
    all.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Endpoints that are ready, in the family of which there are fewest.
fn ready_endpoints(service: &str, slices: &[EndpointSlice]) -> usize {
    let of_service = slices.iter().filter(|slice| {
        let labels = slice.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(SERVICE_NAME))
            .is_some_and(|name| name == service)
    });
    let mut by_family = std::collections::BTreeMap::new();
    for slice in of_service {
        let is_ready = |ready: Option<bool>| ready != Some(false);
        let endpoints = slice.endpoints.iter().flatten();
        let ready = endpoints.filter(|endpoint| {
            is_ready(
                endpoint
                    .conditions
                    .as_ref()
                    .and_then(|conditions| conditions.ready),
            )
        });
        *by_family.entry(slice.address_type.clone()).or_insert(0) += ready.count();
    }
    by_family.into_values().min().unwrap_or(0)
}

fn why_not_ready(pod: &Pod) -> Option<String> {
    let status = pod.status.clone().unwrap_or_default();
    let condition = |kind: &str| {
        let conditions = status.conditions.iter().flatten();
        conditions
            .into_iter()
            .find(|condition| condition.type_ == kind)
            .cloned()
    };
    if condition("Ready").is_some_and(|ready| ready.status == "True") {
        return None;
    }
    let phase = status.phase.clone().unwrap_or_else(|| "Unknown".to_owned());
    if let Some(why) = why_container(&status) {
        return Some(format!("{phase}, {why}"));
    }
    let unmet = ["PodScheduled", "Ready"].into_iter().find_map(|kind| {
        let condition = condition(kind).filter(|condition| condition.status != "True")?;
        condition
            .message
            .or(condition.reason)
            .map(|why| format!("{kind} is not: {why}"))
    });
    let not_seen = "neither a scheduler nor a kubelet has said anything of it";
    Some(format!(
        "{phase}, {}",
        unmet.unwrap_or_else(|| not_seen.to_owned())
    ))
}

/// Why its container does not run, as far as the kubelet says.
fn why_container(status: &PodStatus) -> Option<String> {
    let containers = status.container_statuses.iter().flatten();
    containers.into_iter().find_map(|container| {
        let state = container.state.clone().unwrap_or_default();
        let told = |reason: Option<String>, message: Option<String>| {
            let parts: Vec<_> = [reason, message].into_iter().flatten().collect();
            (!parts.is_empty()).then(|| parts.join(": "))
        };
        let waiting = state.waiting.and_then(|it| told(it.reason, it.message));
        let ended = || state.terminated.and_then(|it| told(it.reason, it.message));
        waiting.or_else(ended)
    })
}

/// The role and the node of a pod of the plan, by its name.
pub fn member_of(plan: &Plan, pod: &Pod) -> Option<(Role, usize)> {
    let name = pod.metadata.name.as_deref()?;
    plan.members().find(|(role, node)| role.pod(*node) == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn plan() -> Plan {
        Plan {
            namespace: "check".into(),
            image: "weir:1".into(),
            pull_policy: None,
            nodes: vec!["a".into()],
        }
    }

    fn pod(name: &str, status: &Value) -> Pod {
        let pod = json!({ "metadata": { "name": name }, "status": status });
        serde_json::from_value(pod).unwrap()
    }

    fn ready(name: &str) -> Pod {
        let conditions = json!([{ "type": "Ready", "status": "True" }]);
        pod(
            name,
            &json!({ "phase": "Running", "conditions": conditions }),
        )
    }

    fn service(name: &str, ips: &[&str]) -> Service {
        let service = json!({ "metadata": { "name": name }, "spec": { "clusterIPs": ips } });
        serde_json::from_value(service).unwrap()
    }

    fn slice(service: &str, family: &str, ready: bool) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": { "labels": { "kubernetes.io/service-name": service } },
            "addressType": family,
            "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": { "ready": ready } }],
        }))
        .unwrap()
    }

    #[test]
    fn all_is_ready_when_all_of_it_is() {
        let pods = ["server-1", "client-1", "host-1"].map(ready);
        let services = [
            service("echo", &["10.96.0.1"]),
            service("echo-nodes", &["10.96.0.2"]),
        ];
        let slices = [
            slice("echo", "IPv4", true),
            slice("echo-nodes", "IPv4", true),
        ];
        assert!(waiting_for(&plan(), &pods, &services, &slices).is_empty());
        let second_family = [
            slice("echo", "IPv4", true),
            slice("echo", "IPv6", false),
            slice("echo-nodes", "IPv4", true),
        ];
        let waiting = waiting_for(&plan(), &pods, &services, &second_family);
        assert_eq!(waiting, ["service echo: 0 of 1 endpoints are ready"]);
        let waiting = waiting_for(&plan(), &pods[1..], &[], &slices);
        assert_eq!(
            waiting,
            [
                "pod server-1 on a: it is gone",
                "service echo: it has no ClusterIP",
                "service echo-nodes: it has no ClusterIP",
            ]
        );
    }

    #[test]
    fn the_reason_that_is_known_is_told() {
        let waiting = json!([{
            "name": "weir", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } },
        }]);
        let unscheduled = json!([
            { "type": "PodScheduled", "status": "False", "message": "0/2 nodes are available" },
        ]);
        let cases = [
            (
                json!({ "phase": "Pending", "containerStatuses": waiting }),
                "Pending, ImagePullBackOff: no such image",
            ),
            (
                json!({ "phase": "Pending", "conditions": unscheduled }),
                "Pending, PodScheduled is not: 0/2 nodes are available",
            ),
            (
                json!({ "phase": "Pending" }),
                "Pending, neither a scheduler nor a kubelet has said anything of it",
            ),
        ];
        for (status, expected) in cases {
            assert_eq!(why_not_ready(&pod("x", &status)).as_deref(), Some(expected));
        }
    }
}
