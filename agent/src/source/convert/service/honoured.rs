//! Fields that mean something and that the data plane does not act on yet. A user who sets one must
//! hear of it. Whoever implements one removes its lines here.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as api;

use super::{Findings, ServiceType};
use crate::state::{AsksMore, Service};

/// The older form of `loadBalancerSourceRanges`, which counts where that is empty, as for kube-proxy.
pub(super) const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

pub(super) fn warn(spec: &api::ServiceSpec, service_type: ServiceType, findings: &mut Findings) {
    if service_type == ServiceType::ExternalName {
        findings.not_honoured("spec.type", "an ExternalName is left to the cluster's DNS");
    }
    choices(spec, findings);
    if spec.traffic_distribution.is_some() {
        findings.not_honoured(
            "spec.trafficDistribution",
            "all ready endpoints get an equal share, wherever they are",
        );
    }
    if spec
        .load_balancer_ip
        .as_ref()
        .is_some_and(|ip| !ip.is_empty())
    {
        findings.not_honoured(
            "spec.loadBalancerIP",
            "it is a wish to a controller; what is served stands in status.loadBalancer.ingress",
        );
    }
    if spec.health_check_node_port.is_some_and(|port| port != 0) {
        findings.not_honoured("spec.healthCheckNodePort", "nothing answers on that port");
    }
}

/// Where a Service asks for what is not done yet.
pub(super) fn asks_more(spec: &api::ServiceSpec) -> AsksMore {
    let is = |field: &Option<String>, value: &str| field.as_deref() == Some(value);
    let sticks = is(&spec.session_affinity, "ClientIP");
    AsksMore {
        inside: sticks || is(&spec.internal_traffic_policy, "Local"),
        outside: sticks || is(&spec.external_traffic_policy, "Local"),
        restricted: false,
    }
}

/// Leaves out the load balancer's addresses that are not for all clients: nothing here tells clients apart,
/// and open to all is worse than closed. kube-proxy, where it runs, serves them as asked.
pub(super) fn keep_restricted_closed(
    object: &api::Service,
    service: &mut Service,
    findings: &mut Findings,
) {
    let spec = object.spec.as_ref();
    let ranges = spec.and_then(|spec| spec.load_balancer_source_ranges.as_deref());
    let annotations = object.metadata.annotations.as_ref();
    let annotated = annotations
        .and_then(|all| all.get(SOURCE_RANGES))
        .map(String::as_str);
    let ranges: Vec<&str> = match ranges {
        Some(ranges) if !ranges.is_empty() => ranges.iter().map(String::as_str).collect(),
        _ => annotated
            .into_iter()
            .flat_map(|all| all.split(','))
            .collect(),
    };
    if ranges.iter().all(|range| range.trim().is_empty()) {
        return;
    }
    let ranges: Vec<IpNet> = ranges
        .iter()
        .filter_map(|it| it.trim().parse().ok())
        .collect();
    let is_for_all = |ip: &IpAddr| {
        let mut ranges = ranges.iter();
        ranges.any(|range| range.prefix_len() == 0 && range.addr().is_ipv4() == ip.is_ipv4())
    };
    let before = service.load_balancer_ips.len();
    service.load_balancer_ips.retain(is_for_all);
    if service.load_balancer_ips.len() < before {
        service.asks_more.restricted = true;
        findings.not_honoured(
            "spec.loadBalancerSourceRanges",
            "the load balancer's addresses are left to kube-proxy, and alone they are not served",
        );
    }
}

/// Fields with a choice of two values, of which one is served.
fn choices(spec: &api::ServiceSpec, findings: &mut Findings) {
    let choices = [
        (
            "spec.sessionAffinity",
            &spec.session_affinity,
            ["None", "ClientIP"],
            "beside kube-proxy it is left to that, and alone each connection is balanced by itself",
        ),
        (
            "spec.externalTrafficPolicy",
            &spec.external_traffic_policy,
            ["Cluster", "Local"],
            "beside kube-proxy it is left to that from outside, and alone endpoints of all nodes are used and \
             the client's address may be translated",
        ),
        (
            "spec.internalTrafficPolicy",
            &spec.internal_traffic_policy,
            ["Cluster", "Local"],
            "beside kube-proxy its ClusterIPs are left to that, and alone endpoints of all nodes are used",
        ),
    ];
    for (field, value, [served, unserved], instead) in choices {
        match value.as_deref() {
            None | Some("") => {}
            Some(value) if value == served => {}
            Some(value) if value == unserved => findings.not_honoured(field, instead),
            Some(other) => {
                findings.error(
                    field,
                    format!("{other:?} is neither {served} nor {unserved}"),
                );
            }
        }
    }
}
