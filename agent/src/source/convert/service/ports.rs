//! `spec.ports`.

use k8s_openapi::api::core::v1 as api;

use super::{Findings, ServiceType, port};
use crate::source::convert::metadata::is_dns_label;
use crate::state::{L4Protocol, ServicePort};

/// The ports that are balanced, in the order of the object.
pub(super) fn ports(
    spec: &api::ServiceSpec,
    service_type: ServiceType,
    headless: bool,
    findings: &mut Findings,
) -> Vec<ServicePort> {
    let given = spec.ports.as_deref().unwrap_or_default();
    if given.is_empty() && !headless && service_type != ServiceType::ExternalName {
        findings.error(
            "spec.ports",
            "is missing: a Service needs at least one port",
        );
    }
    if given.len() > port::PORTS_MAX {
        findings.error("spec.ports", port::too_many(given.len()));
        return Vec::new();
    }
    let mut ports: Vec<ServicePort> = Vec::new();
    for (at, one) in given.iter().enumerate() {
        let field = format!("spec.ports[{at}]");
        check_name(one, &given[..at], given.len() > 1, &field, findings);
        let number = port::number(findings, &format!("{field}.port"), one.port);
        let node_port = node_port(one, service_type, &field, findings);
        let protocol = port::protocol(
            findings,
            &format!("{field}.protocol"),
            one.protocol.as_deref(),
        );
        let (Some(number), Some(port::Protocol::Balanced(protocol))) = (number, protocol) else {
            continue;
        };
        check_unique(&ports, number, node_port, protocol, &field, findings);
        let name = one.name.clone().unwrap_or_default();
        ports.push(ServicePort {
            name,
            protocol,
            port: number,
            node_port,
        });
    }
    ports
}

fn check_name(
    one: &api::ServicePort,
    before: &[api::ServicePort],
    required: bool,
    field: &str,
    findings: &mut Findings,
) {
    let field = format!("{field}.name");
    let name = name_of(one);
    if name.is_empty() {
        if required {
            findings.error(field, "is missing: each of several ports needs a name");
        }
    } else if !is_dns_label(name) {
        findings.error(field, format!("{name:?} is not a DNS label, such as http"));
    } else if before.iter().any(|other| name_of(other) == name) {
        findings.error(
            field,
            format!("{name:?} is the name of an earlier port too"),
        );
    }
}

fn name_of(port: &api::ServicePort) -> &str {
    port.name.as_deref().unwrap_or_default()
}

fn node_port(
    one: &api::ServicePort,
    service_type: ServiceType,
    field: &str,
    findings: &mut Findings,
) -> Option<u16> {
    let number = one.node_port.filter(|number| *number != 0)?;
    let field = format!("{field}.nodePort");
    if matches!(
        service_type,
        ServiceType::ClusterIp | ServiceType::ExternalName
    ) {
        findings.error(
            field,
            "is only for Services of type NodePort or LoadBalancer",
        );
        return None;
    }
    port::number(findings, &field, number)
}

fn check_unique(
    before: &[ServicePort],
    port: u16,
    node_port: Option<u16>,
    protocol: L4Protocol,
    field: &str,
    findings: &mut Findings,
) {
    let mut same_protocol = before.iter().filter(|other| other.protocol == protocol);
    if same_protocol.clone().any(|other| other.port == port) {
        findings.error(
            format!("{field}.port"),
            format!("{protocol} {port} is given twice"),
        );
    }
    if node_port.is_some() && same_protocol.any(|other| other.node_port == node_port) {
        findings.error(
            format!("{field}.nodePort"),
            "is given twice for this protocol",
        );
    }
}
