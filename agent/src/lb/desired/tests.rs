use super::*;
use crate::state::{Change, EndpointPort, Labels, Node, Object, ObjectName, Pod};

const NODE: &str = "node-1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

fn port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: name.into(),
        protocol: L4Protocol::Tcp,
        port,
        node_port: None,
    }
}

/// A Service with one unnamed port 80 and these ClusterIPs.
fn service(name: &str, cluster_ips: &[&str]) -> Service {
    Service {
        name: ObjectName::new("default", name),
        cluster_ips: ips(cluster_ips),
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        ports: vec![port("", 80)],
        publish_not_ready: false,
    }
}

fn ready(address: &str) -> Endpoint {
    Endpoint {
        address: ip(address),
        ready: true,
        serving: true,
        terminating: false,
        node_name: Some("node-2".into()),
        zone: None,
    }
}

fn unready(address: &str) -> Endpoint {
    Endpoint {
        ready: false,
        serving: false,
        ..ready(address)
    }
}

fn terminating(address: &str) -> Endpoint {
    Endpoint {
        ready: false,
        terminating: true,
        ..ready(address)
    }
}

/// A slice of a Service, its ports unnamed and 8080.
fn slice(name: &str, service: &str, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        name: ObjectName::new("default", name),
        service: service.into(),
        ports: vec![EndpointPort {
            name: String::new(),
            protocol: L4Protocol::Tcp,
            port: 8080,
        }],
        endpoints,
    }
}

fn pod(name: &str, address: &str, node: &str) -> Pod {
    Pod {
        name: ObjectName::new("default", name),
        ips: ips(&[address]).into(),
        node_name: Some(node.into()),
        host_network: false,
        finished: false,
        labels: Labels::default(),
        service_account: "default".into(),
        workload: None,
    }
}

fn node(addresses: &[&str]) -> Node {
    Node {
        created_at_seconds: None,
        name: NODE.into(),
        addresses: ips(addresses),
        pod_cidrs: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

fn state(objects: impl IntoIterator<Item = Object>) -> ClusterState {
    let mut state = ClusterState::default();
    state.apply(objects.into_iter().map(Change::Upsert).collect());
    state
}

fn this_node(addresses: &[&str]) -> ThisNode {
    ThisNode {
        name: NODE.into(),
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        external_cluster_ip: false,
    }
}

fn desired_of(objects: impl IntoIterator<Item = Object>) -> Desired {
    desired(&state(objects), &this_node(&[]))
}

/// Backends of the only service.
fn backends_of(desired: &Desired) -> Vec<(String, u16, bool)> {
    let services: Vec<_> = desired.services.values().collect();
    let [service] = services[..] else {
        panic!("not one service: {desired:?}")
    };
    service
        .backends
        .keys()
        .map(|backend| (backend.ip.to_string(), backend.port, backend.local))
        .collect()
}

/// All frontends as text, with their kind.
fn frontends_of(desired: &Desired) -> BTreeSet<(String, FrontendKind)> {
    desired
        .services
        .values()
        .flat_map(|service| &service.frontends)
        .map(|(at, kind)| (format!("{} {}/{}", at.ip, at.port, at.protocol), *kind))
        .collect()
}

#[test]
fn endpoints_serve_by_their_conditions() {
    let cases: [(&str, Vec<Endpoint>, &[&str], BackendState); 6] = [
        (
            "ready ones",
            vec![ready("10.1.0.1"), ready("10.1.0.2")],
            &["10.1.0.1", "10.1.0.2"],
            BackendState::Ready,
        ),
        (
            "no unready ones",
            vec![ready("10.1.0.1"), unready("10.1.0.2")],
            &["10.1.0.1"],
            BackendState::Ready,
        ),
        (
            "no terminating ones beside ready ones",
            vec![ready("10.1.0.1"), terminating("10.1.0.2")],
            &["10.1.0.1"],
            BackendState::Ready,
        ),
        (
            "terminating ones if no other",
            vec![unready("10.1.0.1"), terminating("10.1.0.2")],
            &["10.1.0.2"],
            BackendState::Terminating,
        ),
        (
            "no terminating ones that stopped serving",
            vec![Endpoint {
                serving: false,
                ..terminating("10.1.0.1")
            }],
            &[],
            BackendState::Ready,
        ),
        ("none at all", vec![], &[], BackendState::Ready),
    ];
    for (name, endpoints, expected, backend_state) in cases {
        let desired = desired_of([
            Object::Service(service("web", &["10.96.0.1"])),
            Object::EndpointSlice(slice("web-1", "web", endpoints)),
        ]);
        let found = desired.services.values().next().unwrap();
        let addresses: Vec<_> = found.backends.keys().map(|b| b.ip.to_string()).collect();
        assert_eq!(addresses, expected, "{name}");
        assert!(
            found.backends.values().all(|state| *state == backend_state),
            "{name}"
        );
        assert_eq!(desired.problems, [], "{name}");
    }
}

#[test]
fn whoever_publishes_unready_addresses_gets_them() {
    let mut web = service("web", &["10.96.0.1"]);
    web.publish_not_ready = true;
    let desired = desired_of([
        Object::Service(web),
        Object::EndpointSlice(slice(
            "web-1",
            "web",
            vec![unready("10.1.0.1"), terminating("10.1.0.2")],
        )),
    ]);
    assert_eq!(backends_of(&desired).len(), 2);
}

#[test]
fn a_service_without_slices_is_a_frontend_without_backends() {
    let desired = desired_of([Object::Service(service("web", &["10.96.0.1"]))]);
    assert_eq!(backends_of(&desired), []);
    assert_eq!(frontends_of(&desired).len(), 1);
}

#[test]
fn ports_meet_by_name_and_protocol() {
    let mut web = service("web", &["10.96.0.1"]);
    web.ports = vec![
        port("http", 80),
        port("metrics", 9090),
        ServicePort {
            protocol: L4Protocol::Udp,
            ..port("dns", 53)
        },
        port("absent", 7),
    ];
    let mut endpoints = slice("web-1", "web", vec![ready("10.1.0.1")]);
    let at = |name: &str, protocol, port| EndpointPort {
        name: name.into(),
        protocol,
        port,
    };
    endpoints.ports = vec![
        at("dns", L4Protocol::Tcp, 1),
        at("dns", L4Protocol::Udp, 5353),
        at("metrics", L4Protocol::Tcp, 9091),
        at("http", L4Protocol::Tcp, 8080),
    ];
    let desired = desired_of([Object::Service(web), Object::EndpointSlice(endpoints)]);
    let ports: Vec<_> = desired
        .services
        .iter()
        .map(|(key, service)| (key.port, service.backends.keys().map(|b| b.port).collect()))
        .collect();
    let expected: [(u16, Vec<u16>); 4] = [
        (7, vec![]),
        (53, vec![5353]),
        (80, vec![8080]),
        (9090, vec![9091]),
    ];
    assert_eq!(ports, expected);
}

#[test]
fn each_family_has_its_own_backends() {
    let desired = desired_of([
        Object::Service(service("web", &["10.96.0.1", "fd00::1"])),
        Object::EndpointSlice(slice("web-4", "web", vec![ready("10.1.0.1")])),
        Object::EndpointSlice(slice("web-6", "web", vec![ready("fd00:1::1")])),
    ]);
    let by_family: Vec<_> = desired
        .services
        .iter()
        .map(|(key, service)| (key.family, service.backends.keys().map(|b| b.ip).collect()))
        .collect();
    let expected: [(Family, Vec<IpAddr>); 2] = [
        (Family::V4, ips(&["10.1.0.1"])),
        (Family::V6, ips(&["fd00:1::1"])),
    ];
    assert_eq!(by_family, expected);
}

#[test]
fn every_address_of_a_service_is_a_frontend() {
    let mut web = service("web", &["10.96.0.1"]);
    web.external_ips = ips(&["203.0.113.1"]);
    web.load_balancer_ips = ips(&["198.51.100.1"]);
    web.ports[0].node_port = Some(30080);
    let state = state([
        Object::Service(web),
        Object::Node(node(&["192.0.2.1", "203.0.113.200", "2001:db8::1"])),
    ]);
    let found = frontends_of(&desired(&state, &this_node(&["192.0.2.1", "192.0.2.100"])));
    let expected = [
        ("10.96.0.1 80/TCP", FrontendKind::ClusterIp),
        ("203.0.113.1 80/TCP", FrontendKind::ExternalIp),
        ("198.51.100.1 80/TCP", FrontendKind::LoadBalancer),
        // Those of the uplinks and those of the Node object.
        ("192.0.2.1 30080/TCP", FrontendKind::NodePort),
        ("192.0.2.100 30080/TCP", FrontendKind::NodePort),
        ("203.0.113.200 30080/TCP", FrontendKind::NodePort),
        ("2001:db8::1 30080/TCP", FrontendKind::NodePort),
    ];
    let expected: BTreeSet<_> = expected.map(|(text, kind)| (text.to_owned(), kind)).into();
    assert_eq!(found, expected);
}

#[test]
fn a_headless_service_has_no_frontend() {
    let desired = desired_of([
        Object::Service(service("web", &[])),
        Object::EndpointSlice(slice("web-1", "web", vec![ready("10.1.0.1")])),
    ]);
    assert_eq!(desired, Desired::default());
}

#[test]
fn a_slice_without_its_service_is_told_and_harms_nothing() {
    let desired = desired_of([
        Object::Service(service("web", &["10.96.0.1"])),
        Object::EndpointSlice(slice("web-1", "web", vec![ready("10.1.0.1")])),
        Object::EndpointSlice(slice("wbe-1", "wbe", vec![ready("10.1.0.2")])),
    ]);
    assert_eq!(backends_of(&desired), [("10.1.0.1".into(), 8080, false)]);
    let [problem] = &desired.problems[..] else {
        panic!("{:?}", desired.problems)
    };
    assert_eq!(problem.severity, Severity::Warning);
    assert_eq!(
        problem.to_string(),
        "EndpointSlice default/wbe-1: metadata.labels[kubernetes.io/service-name]: names Service \
         default/wbe, which is not there: its endpoints get no traffic"
    );
}

#[test]
fn the_first_by_name_keeps_a_contested_frontend_and_the_other_is_told() {
    let web = || Object::Service(service("web", &["10.96.0.1"]));
    let api = || Object::Service(service("api", &["10.96.0.1"]));
    let slices = || {
        [
            Object::EndpointSlice(slice("web-1", "web", vec![ready("10.1.0.1")])),
            Object::EndpointSlice(slice("api-1", "api", vec![ready("10.1.0.2")])),
        ]
    };
    for services in [[web(), api()], [api(), web()]] {
        let desired = desired_of(services.into_iter().chain(slices()));
        let owners: Vec<_> = desired
            .services
            .keys()
            .map(|key| key.name.to_string())
            .collect();
        assert_eq!(owners, ["default/api"]);
        assert_eq!(backends_of(&desired), [("10.1.0.2".into(), 8080, false)]);
        let [problem] = &desired.problems[..] else {
            panic!("{:?}", desired.problems)
        };
        assert_eq!(problem.severity, Severity::Error);
        assert_eq!(
            problem.to_string(),
            "Service default/web: spec.ports[0]: 10.96.0.1 port 80/TCP belongs to Service \
             default/api already, which keeps it; give one of them another address or port"
        );
    }
}

#[test]
fn an_address_goes_before_a_node_port_and_flows_say_the_same() {
    let mut api = service("api", &["10.96.0.1"]);
    api.ports[0].node_port = Some(30_080);
    let mut web = service("web", &["10.96.0.2"]);
    web.ports[0].port = 30_080;
    web.external_ips = ips(&["192.0.2.1"]);
    let state = state([
        Object::Service(api),
        Object::Service(web),
        Object::Node(node(&["192.0.2.1"])),
    ]);
    let desired = desired(&state, &this_node(&[]));
    let at = FrontendAddress {
        ip: ip("192.0.2.1"),
        port: 30_080,
        protocol: L4Protocol::Tcp,
    };
    let owners: Vec<_> = desired
        .services
        .iter()
        .filter(|(_, service)| service.frontends.contains_key(&at))
        .map(|(key, _)| &key.name)
        .collect();
    let named = state.service_by_frontend(at.ip, at.port, at.protocol);
    assert_eq!(owners, [&ObjectName::new("default", "web")]);
    assert_eq!(named.map(|service| &service.name), Some(owners[0]));
    assert_eq!(desired.problems[0].object, "Service default/api");
}

#[test]
fn a_service_loses_only_what_is_contested() {
    let mut web = service("web", &["10.96.0.1", "10.96.0.2"]);
    web.ports.push(port("more", 81));
    let desired = desired_of([
        Object::Service(service("api", &["10.96.0.1"])),
        Object::Service(web),
    ]);
    let left: Vec<_> = desired
        .services
        .iter()
        .filter(|(key, _)| &*key.name.name == "web")
        .flat_map(|(_, service)| service.frontends.keys())
        .map(|at| format!("{} {}", at.ip, at.port))
        .collect();
    assert_eq!(left, ["10.96.0.2 80", "10.96.0.1 81", "10.96.0.2 81"]);
    assert_eq!(desired.problems.len(), 1);
}

#[test]
fn the_same_address_twice_in_one_service_is_no_problem() {
    let mut web = service("web", &["10.96.0.1"]);
    web.external_ips = ips(&["203.0.113.1"]);
    web.load_balancer_ips = ips(&["203.0.113.1"]);
    let desired = desired_of([Object::Service(web)]);
    assert_eq!(desired.problems, []);
    assert_eq!(frontends_of(&desired).len(), 2);

    // The reason that opens it to more clients counts.
    let mut web = service("web", &["10.96.0.1"]);
    web.external_ips = ips(&["10.96.0.1"]);
    let found = frontends_of(&desired_of([Object::Service(web)]));
    let expected = ("10.96.0.1 80/TCP".to_owned(), FrontendKind::ExternalIp);
    assert_eq!(found, BTreeSet::from([expected]));
}

#[test]
fn two_ports_of_one_service_that_are_the_same_are_told() {
    let mut web = service("web", &["10.96.0.1"]);
    web.ports = vec![port("a", 80), port("b", 80)];
    let desired = desired_of([Object::Service(web)]);
    let [problem] = &desired.problems[..] else {
        panic!("{:?}", desired.problems)
    };
    assert_eq!(problem.field, "spec.ports[1]");
}

#[test]
fn a_backend_is_local_by_its_slice_or_else_by_its_pod() {
    let endpoint = |node: Option<&str>| Endpoint {
        node_name: node.map(Into::into),
        ..ready("10.1.0.1")
    };
    let cases = [
        ("slice says here", Some(NODE), None, true),
        ("slice says elsewhere", Some("node-2"), None, false),
        (
            "slice is right against the pod",
            Some("node-2"),
            Some(NODE),
            false,
        ),
        ("nobody says", None, None, false),
        ("pod says here", None, Some(NODE), true),
        ("pod says elsewhere", None, Some("node-2"), false),
    ];
    for (name, by_slice, by_pod, expected) in cases {
        let pod = by_pod.map(|node| Object::Pod(pod("web-0", "10.1.0.1", node)));
        let objects = [
            Object::Service(service("web", &["10.96.0.1"])),
            Object::EndpointSlice(slice("web-1", "web", vec![endpoint(by_slice)])),
        ];
        let desired = desired_of(objects.into_iter().chain(pod));
        assert_eq!(
            backends_of(&desired),
            [("10.1.0.1".into(), 8080, expected)],
            "{name}"
        );
    }
}

#[test]
fn an_endpoint_that_slices_repeat_is_one_backend() {
    let here = |endpoint: Endpoint| Endpoint {
        node_name: Some(NODE.into()),
        ..endpoint
    };
    let cases: [(&str, Endpoint, Endpoint, bool); 3] = [
        (
            "twice the same",
            ready("10.1.0.1"),
            ready("10.1.0.1"),
            false,
        ),
        (
            "the first word on its place counts",
            here(ready("10.1.0.1")),
            ready("10.1.0.1"),
            true,
        ),
        (
            "ready goes before terminating",
            terminating("10.1.0.1"),
            ready("10.1.0.1"),
            false,
        ),
    ];
    for (name, first, second, local) in cases {
        let desired = desired_of([
            Object::Service(service("web", &["10.96.0.1"])),
            Object::EndpointSlice(slice("web-1", "web", vec![first])),
            Object::EndpointSlice(slice("web-2", "web", vec![second])),
        ]);
        assert_eq!(
            backends_of(&desired),
            [("10.1.0.1".into(), 8080, local)],
            "{name}"
        );
    }
}
