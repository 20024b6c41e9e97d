//! Services.

mod honoured;
mod ports;

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as api;

use super::metadata::{NameForm, namespaced_name};
use super::{Findings, address, port, unless_errors};
use crate::state::Service;

/// Addresses times ports that a Service may have. All of a cluster's have room for 65,536.
const FRONTENDS_MAX: usize = 4_096;
/// Labels of Services that are not to be served by a node's proxy.
const LEFT_TO_OTHERS: [&str; 2] = [
    "service.kubernetes.io/service-proxy-name",
    "service.kubernetes.io/headless",
];

/// `spec.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServiceType {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// Converts a Service. Any error refuses it whole, as half a Service would surprise more than the
/// one that was there before; but for addresses that must not be open to everybody, which are left out.
pub fn service(object: &api::Service, findings: &mut Findings) -> Option<Service> {
    let mut service = unless_errors(findings, |findings| {
        let name = namespaced_name(findings, &object.metadata, NameForm::Label);
        let Some(spec) = &object.spec else {
            findings.error("spec", "is missing");
            return None;
        };
        let service_type = service_type(spec, findings);
        let (headless, cluster_ips) = cluster_ips(spec, findings);
        let external_ips = external_ips(spec, findings);
        let service_type = service_type?;
        let load_balancer_ips = load_balancer_ips(object, service_type, findings);
        let ports = ports::ports(spec, service_type, headless, findings);
        honoured::warn(spec, service_type, findings);
        let addresses = cluster_ips.len() + external_ips.len() + load_balancer_ips.len();
        if addresses * ports.len() > FRONTENDS_MAX {
            findings.error(
                "spec",
                format!(
                    "has {} ports at {addresses} addresses, more than {FRONTENDS_MAX} together: \
                     make several Services of it",
                    ports.len()
                ),
            );
        }

        let other_addresses = external_ips.len() + load_balancer_ips.len();
        let node_ports = ports.iter().any(|port| port.node_port.is_some());
        let dialled = given_cluster_ip(spec) || other_addresses > 0 || node_ports;
        if !dialled && service_type != ServiceType::ExternalName {
            findings.warning(
                "spec.clusterIP",
                "is missing, so clients have nothing to dial: no API server assigns one here",
            );
        }
        let mut service = Service {
            name: name?,
            cluster_ips,
            external_ips,
            load_balancer_ips,
            ports,
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
            asks_more: honoured::asks_more(spec),
        };
        if headless || service_type == ServiceType::ExternalName || is_left_to_others(object) {
            clear_frontends(&mut service);
        }
        Some(service)
    })?;
    honoured::keep_restricted_closed(object, &mut service, findings);
    Some(service)
}

/// The Service is another proxy's, or nobody's, as kube-proxy reads these labels too.
fn is_left_to_others(object: &api::Service) -> bool {
    let labels = object.metadata.labels.iter().flatten();
    let mut keys = labels.map(|(key, _)| key.as_str());
    keys.any(|key| LEFT_TO_OTHERS.contains(&key))
}

/// Leaves nothing to dial.
fn clear_frontends(service: &mut Service) {
    service.cluster_ips.clear();
    service.external_ips.clear();
    service.load_balancer_ips.clear();
    for port in &mut service.ports {
        port.node_port = None;
    }
}

fn service_type(spec: &api::ServiceSpec, findings: &mut Findings) -> Option<ServiceType> {
    match spec.type_.as_deref() {
        None | Some("ClusterIP") => Some(ServiceType::ClusterIp),
        Some("NodePort") => Some(ServiceType::NodePort),
        Some("LoadBalancer") => Some(ServiceType::LoadBalancer),
        Some("ExternalName") => Some(ServiceType::ExternalName),
        Some(other) => {
            findings.error(
                "spec.type",
                format!(
                    "{other:?} is no type: write ClusterIP, NodePort, LoadBalancer or ExternalName"
                ),
            );
            None
        }
    }
}

fn given_cluster_ip(spec: &api::ServiceSpec) -> bool {
    let several = spec.cluster_ips.iter().flatten();
    several.chain(&spec.cluster_ip).any(|ip| !ip.is_empty())
}

/// Whether the Service is headless, and its cluster addresses if it is not.
fn cluster_ips(spec: &api::ServiceSpec, findings: &mut Findings) -> (bool, Vec<IpAddr>) {
    let first = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty());
    let several = spec.cluster_ips.as_deref().unwrap_or_default();
    if let (Some(first), [listed, ..]) = (first, several)
        && first != listed
    {
        findings.error(
            "spec.clusterIP",
            format!("{first} is not the first of spec.clusterIPs"),
        );
    }
    let mut texts: Vec<_> = several
        .iter()
        .enumerate()
        .map(|(at, ip)| (format!("spec.clusterIPs[{at}]"), ip.as_str()))
        .collect();
    if texts.is_empty() {
        texts.extend(first.map(|ip| ("spec.clusterIP".to_owned(), ip)));
    }
    if texts.first().is_some_and(|(_, ip)| *ip == "None") {
        if let Some((field, _)) = texts.get(1) {
            findings.error(field, "a headless Service has no further address");
        }
        return (true, Vec::new());
    }

    let mut ips: Vec<IpAddr> = Vec::new();
    for (field, text) in &texts {
        let Some(ip) = address::parse(findings, field, text) else {
            continue;
        };
        if ips.iter().any(|other| other.is_ipv4() == ip.is_ipv4()) {
            findings.error(
                field,
                "is a second address of one family: one of each is allowed",
            );
        }
        ips.push(ip);
    }
    (false, ips)
}

fn external_ips(spec: &api::ServiceSpec, findings: &mut Findings) -> Vec<IpAddr> {
    let texts = spec.external_ips.iter().flatten().enumerate();
    texts
        .filter_map(|(at, ip)| address::parse(findings, &format!("spec.externalIPs[{at}]"), ip))
        .collect()
}

fn load_balancer_ips(
    object: &api::Service,
    service_type: ServiceType,
    findings: &mut Findings,
) -> Vec<IpAddr> {
    let status = object
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = status
        .and_then(|status| status.ingress.as_deref())
        .unwrap_or_default();
    if service_type != ServiceType::LoadBalancer {
        return Vec::new();
    }
    let mut ips = Vec::new();
    for (at, ingress) in ingress.iter().enumerate() {
        let field = format!("status.loadBalancer.ingress[{at}]");
        match ingress.ip.as_deref().filter(|ip| !ip.is_empty()) {
            // The balancer wants the packets itself and sends them on to the nodes.
            Some(_) if ingress.ip_mode.as_deref() == Some("Proxy") => {}
            Some(ip) => ips.extend(address::parse_or_leave_out(
                findings,
                &format!("{field}.ip"),
                ip,
            )),
            None => findings.warning(field, "has no ip: a host name is nothing to balance"),
        }
    }
    ips
}

#[cfg(test)]
mod tests;
