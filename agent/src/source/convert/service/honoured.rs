//! Fields that mean something and that the data plane does not act on yet. A user who sets one must
//! hear of it. Whoever implements one removes its lines here.

use k8s_openapi::api::core::v1 as api;

use super::{Findings, ServiceType};

pub(super) fn warn(spec: &api::ServiceSpec, service_type: ServiceType, findings: &mut Findings) {
    if service_type == ServiceType::ExternalName {
        findings.not_honoured("spec.type", "an ExternalName is left to the cluster's DNS");
    }
    choices(spec, findings);
    if spec
        .load_balancer_source_ranges
        .as_ref()
        .is_some_and(|ranges| !ranges.is_empty())
    {
        findings.not_honoured(
            "spec.loadBalancerSourceRanges",
            "clients of any address are served",
        );
    }
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

/// Fields with a choice of two values, of which one is served.
fn choices(spec: &api::ServiceSpec, findings: &mut Findings) {
    let choices = [
        (
            "spec.sessionAffinity",
            &spec.session_affinity,
            ["None", "ClientIP"],
            "each connection is balanced by itself",
        ),
        (
            "spec.externalTrafficPolicy",
            &spec.external_traffic_policy,
            ["Cluster", "Local"],
            "endpoints of all nodes are used, and the client's address may be translated",
        ),
        (
            "spec.internalTrafficPolicy",
            &spec.internal_traffic_policy,
            ["Cluster", "Local"],
            "endpoints of all nodes are used",
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
