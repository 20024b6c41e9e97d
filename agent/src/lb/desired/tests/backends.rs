//! Where connections go.

use super::*;

#[test]
fn endpoints_serve_by_their_conditions() {
    type Case<'a> = (
        &'a str,
        Vec<Endpoint>,
        &'a [&'a str],
        &'a [&'a str],
        BackendState,
    );
    let cases: [Case<'_>; 6] = [
        (
            "ready ones",
            vec![ready("10.1.0.1"), ready("10.1.0.2")],
            &["10.1.0.1", "10.1.0.2"],
            &[],
            BackendState::Ready,
        ),
        (
            "no unready ones",
            vec![ready("10.1.0.1"), unready("10.1.0.2")],
            &["10.1.0.1"],
            &["10.1.0.2"],
            BackendState::Ready,
        ),
        (
            "no terminating ones beside ready ones",
            vec![ready("10.1.0.1"), terminating("10.1.0.2")],
            &["10.1.0.1"],
            &["10.1.0.2"],
            BackendState::Ready,
        ),
        (
            "terminating ones if no other",
            vec![unready("10.1.0.1"), terminating("10.1.0.2")],
            &["10.1.0.2"],
            &["10.1.0.1"],
            BackendState::Terminating,
        ),
        (
            "no terminating ones that stopped serving",
            vec![Endpoint {
                serving: false,
                ..terminating("10.1.0.1")
            }],
            &[],
            &["10.1.0.1"],
            BackendState::Ready,
        ),
        ("none at all", vec![], &[], &[], BackendState::Ready),
    ];
    for (name, endpoints, expected, draining, backend_state) in cases {
        let desired = desired_of([
            Object::Service(service("web", &["10.96.0.1"])),
            Object::EndpointSlice(slice("web-1", "web", endpoints)),
        ]);
        let found = desired.services.values().next().unwrap();
        let addresses: Vec<_> = found.backends.keys().map(|b| b.ip.to_string()).collect();
        assert_eq!(addresses, expected, "{name}");
        let kept: Vec<_> = found.draining.iter().map(|b| b.ip.to_string()).collect();
        assert_eq!(kept, draining, "{name}");
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
fn a_backend_at_an_address_of_the_node_is_local_though_its_slice_does_not_say_so() {
    let endpoint = |address: &str| Endpoint {
        node_name: None,
        ..ready(address)
    };
    let endpoints = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(endpoint);
    let objects = [
        Object::Service(service("api", &["10.96.0.1"])),
        Object::EndpointSlice(slice("api-1", "api", endpoints.to_vec())),
    ];
    let mut state = state(objects);
    let node_1 = this_node(&["192.0.2.1"]);
    let desired = desired(&state, &node_1);
    let local = |of: &Desired| {
        backends_of(of)
            .into_iter()
            .map(|it| it.2)
            .collect::<Vec<_>>()
    };
    assert_eq!(local(&desired), [true, false, false], "an uplink's");
    let object = Object::Node(node(&["192.0.2.2"]));
    state.apply(vec![Change::Upsert(object)]);
    assert!(!desired.asked.holds(&state, &node_1));
    let desired = super::desired(&state, &node_1);
    assert_eq!(local(&desired), [true, true, false], "and its Node's");
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
