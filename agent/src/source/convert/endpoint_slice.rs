//! EndpointSlices.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1 as api;

use super::metadata::{NameForm, is_dns_label, namespaced_name};
use super::{Findings, address, port, unless_errors};
use crate::state::{Endpoint, EndpointPort, EndpointSlice};

/// Label that names the Service of a slice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// `addressType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Addresses {
    Of(Family),
    Names,
}

/// What can be balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// Converts an EndpointSlice. A bad endpoint is left out and the others are served; anything that
/// concerns all endpoints refuses the slice. One that is no Service's, or that has names instead of
/// addresses, is well-formed and has no endpoints here: what was taken of it before must go.
pub fn endpoint_slice(
    object: &api::EndpointSlice,
    findings: &mut Findings,
) -> Option<EndpointSlice> {
    let mut slice = unless_errors(findings, |findings| {
        let name = namespaced_name(findings, &object.metadata, NameForm::Subdomain);
        let service = service_name(object, findings);
        let ports = ports(object.ports.as_deref(), findings);
        Some(EndpointSlice {
            name: name?,
            service: service?,
            ports,
            endpoints: Vec::new(),
        })
    })?;
    let Addresses::Of(family) = addresses(object, findings)? else {
        return Some(slice);
    };
    if slice.service.is_empty() {
        return Some(slice);
    }
    let given = object.endpoints.as_deref().unwrap_or_default();
    let endpoints = given.iter().enumerate();
    slice.endpoints = endpoints
        .filter_map(|(at, one)| endpoint(one, at, family, findings))
        .collect();
    if let Some(at) = given.iter().position(|endpoint| endpoint.hints.is_some()) {
        findings.not_honoured(
            format!("endpoints[{at}].hints"),
            "all ready endpoints get an equal share, wherever they are",
        );
    }
    Some(slice)
}

/// The Service that a slice is of; empty if it is of none, as those of other controllers are.
fn service_name(object: &api::EndpointSlice, findings: &mut Findings) -> Option<Arc<str>> {
    let labels = object.metadata.labels.as_ref();
    let service = labels.and_then(|labels| labels.get(SERVICE_NAME));
    match service {
        Some(service) if is_dns_label(service) => Some(service.as_str().into()),
        Some(other) => {
            let field = format!("metadata.labels.{SERVICE_NAME}");
            findings.error(field, format!("{other:?} cannot be the name of a Service"));
            None
        }
        None => {
            let why = format!("lacks {SERVICE_NAME}: it is no Service's and gets no traffic");
            findings.warning("metadata.labels", why);
            Some(Arc::default())
        }
    }
}

fn addresses(object: &api::EndpointSlice, findings: &mut Findings) -> Option<Addresses> {
    match object.address_type.as_str() {
        "IPv4" => return Some(Addresses::Of(Family::V4)),
        "IPv6" => return Some(Addresses::Of(Family::V6)),
        "FQDN" => {
            findings.not_honoured("addressType", "names are not looked up, nor balanced");
            return Some(Addresses::Names);
        }
        "" => findings.error("addressType", "is missing: write IPv4 or IPv6"),
        other => findings.error("addressType", format!("{other:?} is neither IPv4 nor IPv6")),
    }
    None
}

fn ports(given: Option<&[api::EndpointPort]>, findings: &mut Findings) -> Vec<EndpointPort> {
    let given = given.unwrap_or_default();
    if given.is_empty() {
        findings.not_honoured("ports", "a slice for all ports is not balanced");
    }
    if given.len() > port::PORTS_MAX {
        findings.error("ports", port::too_many(given.len()));
        return Vec::new();
    }
    let mut ports: Vec<EndpointPort> = Vec::new();
    for (at, one) in given.iter().enumerate() {
        let field = format!("ports[{at}]");
        let name = one.name.clone().unwrap_or_default();
        let same_name =
            |other: &api::EndpointPort| other.name.as_deref().unwrap_or_default() == name;
        if !name.is_empty() && !is_dns_label(&name) {
            findings.error(
                format!("{field}.name"),
                format!("{name:?} is not a DNS label"),
            );
        } else if given[..at].iter().any(same_name) {
            findings.error(format!("{field}.name"), format!("{name:?} is given twice"));
        }
        let protocol = port::protocol(
            findings,
            &format!("{field}.protocol"),
            one.protocol.as_deref(),
        );
        if one.port.is_none() {
            findings.not_honoured(
                format!("{field}.port"),
                "an entry for all ports is left out",
            );
        }
        let number = one
            .port
            .and_then(|n| port::number(findings, &format!("{field}.port"), n));
        if let (Some(port), Some(port::Protocol::Balanced(protocol))) = (number, protocol) {
            ports.push(EndpointPort {
                name,
                protocol,
                port,
            });
        }
    }
    ports
}

fn endpoint(
    one: &api::Endpoint,
    at: usize,
    family: Family,
    findings: &mut Findings,
) -> Option<Endpoint> {
    let field = format!("endpoints[{at}].addresses");
    if one.addresses.len() > 1 {
        findings.warning(
            &field,
            "has several addresses: only the first has a meaning",
        );
    }
    let Some(text) = one.addresses.first() else {
        findings.error(field, "is empty; this endpoint is left out");
        return None;
    };
    let address = address::parse(findings, &format!("{field}[0]"), text)?;
    if !family.holds(address) {
        findings.error(
            format!("{field}[0]"),
            format!("{address} is not of the slice's addressType; this endpoint is left out"),
        );
        return None;
    }
    let conditions = one.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    Some(Endpoint {
        address,
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        node_name: not_empty(one.node_name.as_deref()),
        zone: not_empty(one.zone.as_deref()),
    })
}

/// What is not empty.
fn not_empty(given: Option<&str>) -> Option<Arc<str>> {
    given.filter(|text| !text.is_empty()).map(Into::into)
}

impl Family {
    fn holds(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;
    use super::*;
    use crate::state::{L4Protocol, ObjectName};

    const METADATA: &str = "metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}";

    fn convert(rest: &str) -> (Option<EndpointSlice>, Vec<String>) {
        run(endpoint_slice, &format!("{METADATA}\n{rest}"))
    }

    #[test]
    fn a_complete_slice_is_taken_over_with_its_defaults() {
        let (slice, findings) = convert(
            "
addressType: IPv4
ports: [{name: http, port: 8080}, {name: dns, port: 53, protocol: UDP}]
endpoints:
- {addresses: [10.1.0.1], nodeName: worker, zone: a, targetRef: {kind: Pod, name: web-a}}
- {addresses: [10.1.0.2], conditions: {ready: false}}
- {addresses: [10.1.0.3], conditions: {ready: false, serving: true, terminating: true}}
",
        );
        assert_eq!(findings, [""; 0]);
        let slice = slice.unwrap();
        assert_eq!(
            (slice.name, &*slice.service),
            (ObjectName::new("default", "web-1"), "web")
        );
        let ports: Vec<_> = slice
            .ports
            .iter()
            .map(|port| (port.name.as_str(), port.protocol, port.port))
            .collect();
        assert_eq!(
            ports,
            [
                ("http", L4Protocol::Tcp, 8080),
                ("dns", L4Protocol::Udp, 53)
            ]
        );
        let conditions: Vec<_> = slice
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.ready, endpoint.serving, endpoint.terminating))
            .collect();
        assert_eq!(
            conditions,
            [
                (true, true, false),
                (false, false, false),
                (false, true, true)
            ]
        );
        assert_eq!(slice.endpoints[0].node_name.as_deref(), Some("worker"));
        assert_eq!(slice.endpoints[0].zone.as_deref(), Some("a"));
    }

    #[test]
    fn bad_endpoints_are_left_out_and_the_others_served() {
        let cases = [
            ("IPv4", "[]", "endpoints[0].addresses"),
            ("IPv4", "['fd00::1']", "endpoints[0].addresses[0]"),
            ("IPv6", "[10.1.0.9]", "endpoints[0].addresses[0]"),
            ("IPv6", "['::ffff:10.1.0.9']", "endpoints[0].addresses[0]"),
            ("IPv4", "[0.0.0.0]", "endpoints[0].addresses[0]"),
            ("IPv4", "[127.0.0.1]", "endpoints[0].addresses[0]"),
            ("IPv4", "[224.0.0.1]", "endpoints[0].addresses[0]"),
            ("IPv4", "[web.example]", "endpoints[0].addresses[0]"),
        ];
        for (family, addresses, field) in cases {
            let good = if family == "IPv4" {
                "10.1.0.1"
            } else {
                "fd00::5"
            };
            let (slice, findings) = convert(&format!(
                "
addressType: {family}
ports: [{{port: 80}}]
endpoints: [{{addresses: {addresses}}}, {{addresses: ['{good}']}}]
"
            ));
            assert_eq!(findings, [format!("E {field}")], "{family} {addresses}");
            assert_eq!(slice.unwrap().endpoints.len(), 1, "{family} {addresses}");
        }
    }

    #[test]
    fn what_concerns_all_endpoints_refuses_the_slice() {
        let cases = [
            ("addressType: IPv5\nports: [{port: 80}]", "addressType"),
            ("ports: [{port: 80}]", "addressType"),
            ("addressType: IPv4\nports: [{port: 0}]", "ports[0].port"),
            (
                "addressType: IPv4\nports: [{port: 80, protocol: X}]",
                "ports[0].protocol",
            ),
            (
                "addressType: IPv4\nports: [{port: 80}, {port: 81}]",
                "ports[1].name",
            ),
            (
                "addressType: IPv4\nports: [{port: 80, name: A_B}]",
                "ports[0].name",
            ),
        ];
        for (rest, field) in cases {
            let (slice, findings) = convert(rest);
            assert_eq!(
                (slice, findings),
                (None, vec![format!("E {field}")]),
                "{rest}"
            );
        }
    }

    #[test]
    fn a_slice_of_no_service_or_with_names_has_no_endpoints() {
        let rest = "ports: [{port: 80}]\nendpoints: [{addresses: [10.1.0.1]}]";
        let text = format!("metadata: {{name: a}}\naddressType: IPv4\n{rest}");
        let (slice, findings) = run(endpoint_slice, &text);
        let slice = slice.unwrap();
        assert_eq!((&*slice.service, slice.endpoints), ("", Vec::new()));
        assert_eq!(findings, ["W metadata.labels"]);
        let (slice, findings) = convert(&format!("addressType: FQDN\n{rest}"));
        assert_eq!(slice.unwrap().endpoints, []);
        assert_eq!(findings, ["W addressType"]);
        let bad = "metadata: {name: a, labels: {kubernetes.io/service-name: A.b}}";
        let (slice, findings) = run(endpoint_slice, &format!("{bad}\naddressType: IPv4\n{rest}"));
        let field = "E metadata.labels.kubernetes.io/service-name".to_owned();
        assert_eq!((slice, findings), (None, vec![field]));
    }

    #[test]
    fn fields_that_are_not_honoured_are_reported_once() {
        let cases: [(&str, &[&str]); 4] = [
            ("ports: []", &["W ports"]),
            (
                "ports: [{name: all}, {name: http, port: 80}]",
                &["W ports[0].port"],
            ),
            (
                "ports: [{port: 80, protocol: SCTP}]",
                &["W ports[0].protocol"],
            ),
            (
                "
ports: [{port: 80}]
endpoints:
- {addresses: [10.1.0.1]}
- {addresses: [10.1.0.2], hints: {forZones: [{name: a}]}}
- {addresses: [10.1.0.3, 10.1.0.4], hints: {forZones: [{name: a}]}}
",
                &["W endpoints[2].addresses", "W endpoints[1].hints"],
            ),
        ];
        for (rest, expected) in cases {
            let (slice, findings) = convert(&format!("addressType: IPv4\n{rest}"));
            assert!(slice.is_some(), "{rest}");
            assert_eq!(findings, expected, "{rest}");
        }
    }
}
