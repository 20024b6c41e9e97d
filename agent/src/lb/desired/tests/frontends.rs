//! What clients dial, and who has it of several that want it.

use super::*;

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
fn what_asks_for_more_is_left_to_kube_proxy_where_that_runs() {
    let frontends = |asks_more: AsksMore, beside_kube_proxy: bool| {
        let mut web = service("web", &["10.96.0.1"]);
        web.external_ips = ips(&["203.0.113.1"]);
        web.ports[0].node_port = Some(30080);
        web.asks_more = asks_more;
        let node = ThisNode {
            beside_kube_proxy,
            ..this_node(&["192.0.2.1"])
        };
        let desired = desired(&state([Object::Service(web)]), &node);
        let kinds = frontends_of(&desired).into_iter().map(|(_, kind)| kind);
        kinds.collect::<BTreeSet<_>>()
    };
    let inside = BTreeSet::from([FrontendKind::ClusterIp]);
    let outside = BTreeSet::from([FrontendKind::ExternalIp, FrontendKind::NodePort]);
    let all = &inside | &outside;
    let asks = |inside, outside| AsksMore {
        inside,
        outside,
        restricted: false,
    };
    assert_eq!(frontends(asks(false, false), true), all);
    assert_eq!(frontends(asks(true, false), true), outside);
    assert_eq!(frontends(asks(false, true), true), inside);
    assert_eq!(frontends(asks(true, true), true), BTreeSet::new());
    assert_eq!(
        frontends(asks(true, true), false),
        all,
        "nobody else serves it"
    );
}

#[test]
fn addresses_that_nobody_serves_are_an_error_and_what_kube_proxy_serves_is_none() {
    for (beside_kube_proxy, errors) in [(true, 0), (false, 1)] {
        let mut web = service("web", &["10.96.0.1"]);
        web.asks_more.restricted = true;
        let node = ThisNode {
            beside_kube_proxy,
            ..this_node(&[])
        };
        let desired = desired(&state([Object::Service(web)]), &node);
        assert_eq!(desired.problems.len(), errors, "{:?}", desired.problems);
        assert_eq!(frontends_of(&desired).len(), 1, "its ClusterIP is served");
    }
}

#[test]
fn an_external_ip_takes_nothing_that_is_sent_to_pods() {
    let mut web = service("web", &["10.96.0.1"]);
    web.external_ips = ips(&["203.0.113.1", "10.244.1.9", "10.9.9.9"]);
    let mut ranged = node(&["192.0.2.1"]);
    ranged.pod_cidrs = vec!["10.244.1.0/24".parse().unwrap()];
    let desired = desired_of([
        Object::Service(web),
        Object::Node(ranged),
        Object::Pod(pod("elsewhere", "10.9.9.9", "node2")),
    ]);
    let served: Vec<_> = frontends_of(&desired)
        .into_iter()
        .map(|(it, _)| it)
        .collect();
    assert_eq!(served, ["10.96.0.1 80/TCP", "203.0.113.1 80/TCP"]);
    let told: Vec<_> = desired.problems.iter().map(ToString::to_string).collect();
    let problem = |ip: &str| {
        format!(
            "Service default/web: spec.externalIPs: {ip} is an address of pods, which keep what is \
             sent to it; remove it"
        )
    };
    assert_eq!(told, [problem("10.244.1.9"), problem("10.9.9.9")]);
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
fn a_contested_node_port_is_told_once_for_all_addresses() {
    let with_node_port = |name: &str, ip: &str| {
        let mut service = service(name, &[ip]);
        service.ports[0].node_port = Some(30_080);
        Object::Service(service)
    };
    let state = state([
        with_node_port("api", "10.96.0.1"),
        with_node_port("web", "10.96.0.2"),
        Object::Node(node(&["192.0.2.1", "192.0.2.2"])),
    ]);
    let desired = desired(&state, &this_node(&["192.0.2.3"]));
    let told: Vec<_> = desired.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "Service default/web: spec.ports[0]: node port 30080/TCP belongs to Service default/api \
             already, which keeps it; give one of them another address or port"
        ]
    );
    assert_eq!(frontends_of(&desired).len(), 2 + 3);
}
