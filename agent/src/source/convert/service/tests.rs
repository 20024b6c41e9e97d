//! Each rule for Services as a line of a table.

use super::super::tests::run;
use super::*;
use crate::state::{AsksMore, L4Protocol, ServicePort};

/// A Service out of what stands under `spec`, with a status if the text goes on to one.
fn convert(spec: &str) -> (Option<Service>, Vec<String>) {
    run(
        service,
        &format!(
            "metadata: {{name: web}}\nspec:\n  {}",
            spec.replace('\n', "\n  ")
        ),
    )
}

#[test]
fn a_complete_service_is_taken_over() {
    let (service, findings) = run(
        service,
        "
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, 'fd00::1']
  externalIPs: [198.51.100.1]
  ports:
  - {name: http, port: 80, targetPort: web, nodePort: 30080}
  - {name: dns, port: 53, protocol: UDP}
  - {name: dns-tcp, port: 53, protocol: TCP}
  publishNotReadyAddresses: true
  sessionAffinity: None
  externalTrafficPolicy: Cluster
  internalTrafficPolicy: Cluster
status:
  loadBalancer:
    ingress: [{ip: 203.0.113.1}, {ip: 203.0.113.2, ipMode: Proxy}, {ip: 203.0.113.3, ipMode: VIP}]
",
    );
    assert_eq!(findings, [""; 0]);
    let ips = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| text.parse().unwrap())
            .collect::<Vec<_>>()
    };
    let port = |name: &str, protocol, port, node_port| ServicePort {
        name: name.to_owned(),
        protocol,
        port,
        node_port,
    };
    assert_eq!(
        service.unwrap(),
        Service {
            name: crate::state::ObjectName::new("shop", "web"),
            cluster_ips: ips(&["10.96.0.1", "fd00::1"]),
            external_ips: ips(&["198.51.100.1"]),
            load_balancer_ips: ips(&["203.0.113.1", "203.0.113.3"]),
            ports: vec![
                port("http", L4Protocol::Tcp, 80, Some(30_080)),
                port("dns", L4Protocol::Udp, 53, None),
                port("dns-tcp", L4Protocol::Tcp, 53, None),
            ],
            publish_not_ready: true,
            asks_more: AsksMore::default(),
        }
    );
}

#[test]
fn errors_refuse_the_service_and_name_the_field() {
    let good = "clusterIP: 10.96.0.1\n";
    let cases = [
        ("clusterIP: 10.96.0.1", "spec.ports"),
        ("{clusterIP: 10.96.0.1, ports: []}", "spec.ports"),
        (
            "{clusterIP: nowhere, ports: [{port: 80}]}",
            "spec.clusterIP",
        ),
        (
            "{clusterIPs: [10.96.0.1, 10.96.0.2], ports: [{port: 80}]}",
            "spec.clusterIPs[1]",
        ),
        (
            "{clusterIPs: [None, 10.96.0.2], ports: [{port: 80}]}",
            "spec.clusterIPs[1]",
        ),
        (
            "{clusterIP: 10.96.0.2, clusterIPs: [10.96.0.1], ports: [{port: 80}]}",
            "spec.clusterIP",
        ),
        (
            "{clusterIP: 10.96.0.1, type: Cluster, ports: [{port: 80}]}",
            "spec.type",
        ),
        (
            &format!("{good}externalIPs: [127.0.0.1]\nports: [{{port: 80}}]"),
            "spec.externalIPs[0]",
        ),
        (
            &format!("{good}sessionAffinity: Cookie\nports: [{{port: 80}}]"),
            "spec.sessionAffinity",
        ),
        (&format!("{good}ports: [{{port: 0}}]"), "spec.ports[0].port"),
        (
            &format!("{good}ports: [{{port: 65536}}]"),
            "spec.ports[0].port",
        ),
        (
            &format!("{good}ports: [{{port: 80, protocol: QUIC}}]"),
            "spec.ports[0].protocol",
        ),
        (
            &format!("{good}ports: [{{port: 80, name: Web}}]"),
            "spec.ports[0].name",
        ),
        (
            &format!("{good}ports: [{{port: 80, name: a}}, {{port: 81}}]"),
            "spec.ports[1].name",
        ),
        (
            &format!("{good}ports: [{{port: 80, name: a}}, {{port: 81, name: a}}]"),
            "spec.ports[1].name",
        ),
        (
            &format!("{good}ports: [{{port: 80, name: a}}, {{port: 80, name: b}}]"),
            "spec.ports[1].port",
        ),
        (
            &format!("{good}ports: [{{port: 80, nodePort: 30080}}]"),
            "spec.ports[0].nodePort",
        ),
        (
            &format!("{good}type: NodePort\nports: [{{port: 80, nodePort: 99999}}]"),
            "spec.ports[0].nodePort",
        ),
        (
            &format!(
                "{good}type: NodePort\nports: [{{port: 80, name: a, nodePort: 3}}, {{port: 81, name: b, nodePort: 3}}]"
            ),
            "spec.ports[1].nodePort",
        ),
    ];
    for (spec, field) in cases {
        let (service, findings) = convert(spec);
        assert_eq!(
            (service, findings),
            (None, vec![format!("E {field}")]),
            "{spec}"
        );
    }
}

#[test]
fn a_service_needs_a_spec_and_a_name() {
    assert_eq!(run(service, "metadata: {name: web}").1, ["E spec"]);
    let (service, findings) = run(service, "spec: {clusterIP: None}");
    assert_eq!(
        (service, findings),
        (None, vec!["E metadata.name".to_owned()])
    );
}

#[test]
fn fields_that_are_not_honoured_are_reported_and_the_service_is_served() {
    let cases = [
        ("sessionAffinity: ClientIP", "spec.sessionAffinity"),
        ("externalTrafficPolicy: Local", "spec.externalTrafficPolicy"),
        ("internalTrafficPolicy: Local", "spec.internalTrafficPolicy"),
        (
            "trafficDistribution: PreferClose",
            "spec.trafficDistribution",
        ),
        ("loadBalancerIP: 203.0.113.1", "spec.loadBalancerIP"),
        ("healthCheckNodePort: 32000", "spec.healthCheckNodePort"),
    ];
    for (field, path) in cases {
        let (service, findings) = convert(&format!(
            "clusterIP: 10.96.0.1\nports: [{{port: 80}}]\n{field}"
        ));
        assert!(service.is_some(), "{field}");
        assert_eq!(findings, [format!("W {path}")], "{field}");
    }
}

#[test]
fn sctp_ports_are_left_out() {
    let (service, findings) = convert(
        "clusterIP: 10.96.0.1\nports: [{port: 80, name: a}, {port: 80, name: b, protocol: SCTP}]",
    );
    assert_eq!(findings, ["W spec.ports[1].protocol"]);
    assert_eq!(service.unwrap().ports.len(), 1);
}

#[test]
fn services_without_an_address_are_served_as_far_as_possible() {
    let cases: [(&str, &[&str]); 7] = [
        ("clusterIP: None", &[]),
        ("clusterIPs: [None]\nports: [{port: 80}]", &[]),
        ("ports: [{port: 80}]", &["W spec.clusterIP"]),
        ("type: NodePort\nports: [{port: 80, nodePort: 30080}]", &[]),
        (
            "type: ExternalName\nexternalName: example.com",
            &["W spec.type"],
        ),
        (
            "type: ExternalName\nexternalName: example.com\nexternalIPs: [198.51.100.7]\n\
             ports: [{port: 80}]",
            &["W spec.type"],
        ),
        (
            "clusterIP: None\nexternalIPs: [198.51.100.7]\nports: [{port: 80}]",
            &[],
        ),
    ];
    for (spec, expected) in cases {
        let (service, findings) = convert(spec);
        let service = service.unwrap();
        assert!(service.cluster_ips.is_empty(), "{spec}");
        assert!(service.external_ips.is_empty(), "{spec}");
        assert_eq!(findings, expected, "{spec}");
    }
}

#[test]
fn where_a_service_asks_for_more_is_kept_with_it() {
    for (field, inside, outside) in [
        ("sessionAffinity: ClientIP", true, true),
        ("internalTrafficPolicy: Local", true, false),
        ("externalTrafficPolicy: Local", false, true),
        ("externalTrafficPolicy: Cluster", false, false),
        ("trafficDistribution: PreferClose", false, false),
    ] {
        let (service, _) = convert(&format!(
            "clusterIP: 10.96.0.1\nports: [{{port: 80}}]\n{field}"
        ));
        assert_eq!(
            service.unwrap().asks_more,
            AsksMore {
                inside,
                outside,
                restricted: false
            },
            "{field}"
        );
    }
}

#[test]
fn addresses_that_are_not_for_all_clients_are_not_served() {
    let yaml = |spec: &str, annotation: &str| {
        format!(
            "
metadata: {{name: web, annotations: {{{annotation}}}}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.1
  ports: [{{port: 80, nodePort: 30080}}]
  {spec}
status: {{loadBalancer: {{ingress: [{{ip: 203.0.113.1}}, {{ip: '2001:db8::1'}}]}}}}
"
        )
    };
    let annotation = format!("{}: '10.0.0.0/8, 192.0.2.0/24'", honoured::SOURCE_RANGES);
    for (spec, annotation, expected) in [
        ("", "", &["203.0.113.1", "2001:db8::1"][..]),
        (
            "loadBalancerSourceRanges: []",
            "",
            &["203.0.113.1", "2001:db8::1"],
        ),
        ("loadBalancerSourceRanges: [10.0.0.0/8]", "", &[]),
        (
            "loadBalancerSourceRanges: [0.0.0.0/0]",
            "",
            &["203.0.113.1"],
        ),
        (
            "loadBalancerSourceRanges: ['::/0', 0.0.0.0/0]",
            "",
            &["203.0.113.1", "2001:db8::1"],
        ),
        ("loadBalancerSourceRanges: [nonsense]", "", &[]),
        ("", &*annotation, &[]),
        (
            "loadBalancerSourceRanges: [0.0.0.0/0, '::/0']",
            &*annotation,
            &["203.0.113.1", "2001:db8::1"],
        ),
    ] {
        let (service, findings) = run(service, &yaml(spec, annotation));
        let service = service.unwrap();
        let served: Vec<_> = service
            .load_balancer_ips
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(served, expected, "{spec} {annotation}");
        assert_eq!(
            (service.cluster_ips.len(), service.ports[0].node_port),
            (1, Some(30_080))
        );
        assert_eq!(service.asks_more.restricted, expected.len() < 2);
        let told: &[&str] = match expected.len() {
            2 => &[],
            _ => &["W spec.loadBalancerSourceRanges"],
        };
        assert_eq!(findings, told, "{spec} {annotation}");
    }
}

#[test]
fn services_of_another_proxy_are_left_to_it() {
    for label in LEFT_TO_OTHERS {
        let (service, findings) = run(
            service,
            &format!(
                "
metadata: {{name: web, labels: {{{label}: other}}}}
spec:
  type: NodePort
  clusterIP: 10.96.0.1
  externalIPs: [198.51.100.7]
  ports: [{{port: 80, nodePort: 30080}}]
"
            ),
        );
        let service = service.unwrap();
        assert!(service.cluster_ips.is_empty() && service.external_ips.is_empty());
        assert_eq!(service.ports[0].node_port, None);
        assert!(findings.is_empty(), "{findings:?}");
    }
}

#[test]
fn one_service_does_not_take_all_room() {
    let external = |count: u16| {
        let ips = (0..count).map(|n| format!("198.18.{}.{}", n / 250, 1 + n % 250));
        ips.collect::<Vec<_>>().join(", ")
    };
    let ports = |count: u16| {
        let ports = (1..=count).map(|n| format!("{{port: {n}, name: p{n}}}"));
        ports.collect::<Vec<_>>().join(", ")
    };
    for (addresses, count, expected) in [
        (1, 1_024, &[][..]),
        (1, 1_025, &["E spec.ports"]),
        (64, 64, &[]),
        (65, 64, &["E spec"]),
    ] {
        let spec = format!(
            "clusterIP: None\ntype: ClusterIP\nexternalIPs: [{}]\nports: [{}]",
            external(addresses),
            ports(count)
        );
        let (service, findings) = convert(&spec);
        assert_eq!(findings, expected, "{addresses} x {count}");
        assert_eq!(service.is_none(), !expected.is_empty());
    }
}

#[test]
fn balancer_addresses_count_only_for_that_type() {
    let yaml = |service_type: &str, ingress: &str| {
        format!(
            "
metadata: {{name: web}}
spec: {{type: {service_type}, clusterIP: 10.96.0.1, ports: [{{port: 80}}]}}
status: {{loadBalancer: {{ingress: [{ingress}]}}}}
"
        )
    };
    let cases: [(&str, &str, usize, &[&str]); 3] = [
        ("LoadBalancer", "{ip: 203.0.113.1}", 1, &[]),
        ("ClusterIP", "{ip: 203.0.113.1}", 0, &[]),
        (
            "LoadBalancer",
            "{hostname: a.example}",
            0,
            &["W status.loadBalancer.ingress[0]"],
        ),
    ];
    for (service_type, ingress, count, expected) in cases {
        let (service, findings) = run(service, &yaml(service_type, ingress));
        assert_eq!(
            service.unwrap().load_balancer_ips.len(),
            count,
            "{service_type} {ingress}"
        );
        assert_eq!(findings, expected, "{service_type} {ingress}");
    }
    // What a controller wrote there is no reason to serve nothing.
    let ingress = "{ip: 127.0.0.1}, {ip: 203.0.113.1}";
    let (service, findings) = run(service, &yaml("LoadBalancer", ingress));
    assert_eq!(service.unwrap().load_balancer_ips.len(), 1);
    assert_eq!(findings, ["W status.loadBalancer.ingress[0].ip"]);
}
