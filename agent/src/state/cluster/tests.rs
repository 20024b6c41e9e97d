//! Lookups in tables of cases.

use std::sync::Arc;

use super::*;
use crate::state::{AsksMore, Endpoint, EndpointPort, Labels, ServicePort, Severity, Workload};

mod indexes;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn name(text: &str) -> ObjectName {
    ObjectName::new("shop", text)
}

fn service(service: &str, cluster_ip: &str, port: u16) -> Service {
    Service {
        name: name(service),
        cluster_ips: vec![ip(cluster_ip)],
        external_ips: vec![],
        load_balancer_ips: vec![],
        ports: vec![ServicePort {
            name: String::new(),
            protocol: L4Protocol::Tcp,
            port,
            node_port: None,
        }],
        publish_not_ready: false,
        asks_more: AsksMore::default(),
    }
}

fn slice(slice: &str, service: &str, address: &str) -> EndpointSlice {
    EndpointSlice {
        name: name(slice),
        service: service.into(),
        ports: vec![EndpointPort {
            name: String::new(),
            protocol: L4Protocol::Tcp,
            port: 8080,
        }],
        endpoints: vec![Endpoint {
            address: ip(address),
            ready: true,
            serving: true,
            terminating: false,
            node_name: None,
            zone: None,
        }],
    }
}

fn pod(pod: &str, address: &str) -> Pod {
    Pod {
        name: name(pod),
        ips: [ip(address)].into(),
        node_name: None,
        host_network: false,
        finished: false,
        labels: Labels::default(),
        service_account: "default".into(),
        workload: None,
    }
}

fn node(name: &str, address: &str) -> Node {
    Node {
        created_at_seconds: None,
        name: name.to_owned(),
        addresses: vec![ip(address)],
        pod_cidrs: vec![],
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

fn upsert(cluster: &mut ClusterState, object: Object) -> bool {
    cluster.apply(vec![Change::Upsert(object)])
}

fn delete(cluster: &mut ClusterState, kind: Kind, name: ObjectName) -> bool {
    cluster.apply(vec![Change::Delete(ObjectKey { kind, name })])
}

#[test]
fn only_real_changes_count() {
    let objects = [
        Object::Service(service("web", "10.96.0.1", 80)),
        Object::EndpointSlice(slice("web-1", "web", "10.1.0.1")),
        Object::Pod(pod("web-a", "10.1.0.1")),
        Object::Node(node("worker", "192.0.2.1")),
        Object::Namespace(Namespace {
            name: "shop".to_owned(),
            labels: BTreeMap::new(),
        }),
    ];
    let mut cluster = ClusterState::default();
    for object in objects {
        let key = object.key();
        assert!(upsert(&mut cluster, object.clone()), "{key} is new");
        assert!(!upsert(&mut cluster, object), "{key} is the same");
        assert!(
            delete(&mut cluster, key.kind, key.name.clone()),
            "{key} was there"
        );
        assert!(
            !delete(&mut cluster, key.kind, key.name.clone()),
            "{key} is gone"
        );
    }
}

#[test]
fn one_real_change_among_several_counts() {
    let mut cluster = ClusterState::default();
    let web = Change::Upsert(Object::Service(service("web", "10.96.0.1", 80)));
    let api = Change::Upsert(Object::Service(service("api", "10.96.0.2", 80)));
    assert!(cluster.apply(vec![web.clone()]));
    assert!(cluster.apply(vec![web.clone(), api.clone(), web]));
    assert_eq!(cluster.services().count(), 2);
}

#[test]
fn frontends_of_all_kinds_find_their_service() {
    let mut cluster = ClusterState::default();
    let mut web = service("web", "10.96.0.1", 80);
    web.external_ips = vec![ip("198.51.100.1")];
    web.load_balancer_ips = vec![ip("2001:db8::1")];
    web.ports[0].node_port = Some(30_080);
    upsert(&mut cluster, Object::Service(web));
    upsert(&mut cluster, Object::Node(node("worker", "192.0.2.1")));

    let cases = [
        ("10.96.0.1", 80, L4Protocol::Tcp, true),
        ("198.51.100.1", 80, L4Protocol::Tcp, true),
        ("2001:db8::1", 80, L4Protocol::Tcp, true),
        ("192.0.2.1", 30_080, L4Protocol::Tcp, true),
        ("192.0.2.1", 30_080, L4Protocol::Udp, false),
        ("192.0.2.1", 80, L4Protocol::Tcp, false),
        ("192.0.2.2", 30_080, L4Protocol::Tcp, false),
        ("10.96.0.1", 30_080, L4Protocol::Tcp, false),
        ("10.96.0.1", 80, L4Protocol::Udp, false),
        ("10.96.0.1", 443, L4Protocol::Tcp, false),
    ];
    for (address, port, protocol, found) in cases {
        let service = cluster.service_by_frontend(ip(address), port, protocol);
        assert_eq!(service.is_some(), found, "{protocol} {address} port {port}");
    }
}

#[test]
fn a_service_that_moves_is_no_longer_found_where_it_was() {
    let mut cluster = ClusterState::default();
    let find = |cluster: &ClusterState, address: &str| {
        cluster
            .service_by_frontend(ip(address), 80, L4Protocol::Tcp)
            .map(|s| s.name.name.to_string())
    };
    upsert(
        &mut cluster,
        Object::Service(service("web", "10.96.0.1", 80)),
    );
    upsert(
        &mut cluster,
        Object::Service(service("web", "10.96.0.2", 80)),
    );
    assert_eq!(find(&cluster, "10.96.0.1"), None);
    assert_eq!(find(&cluster, "10.96.0.2").as_deref(), Some("web"));
}

#[test]
fn the_first_by_name_has_a_contested_frontend_until_it_goes() {
    let mut cluster = ClusterState::default();
    let owner = |cluster: &ClusterState| {
        cluster
            .service_by_frontend(ip("10.96.0.1"), 80, L4Protocol::Tcp)
            .map(|s| s.name.name.to_string())
    };
    for (service_name, expected) in [("b", "b"), ("a", "a"), ("c", "a")] {
        let service = service(service_name, "10.96.0.1", 80);
        upsert(&mut cluster, Object::Service(service));
        assert_eq!(owner(&cluster).as_deref(), Some(expected));
    }
    delete(&mut cluster, Kind::Service, name("a"));
    assert_eq!(owner(&cluster).as_deref(), Some("b"));
}

#[test]
fn the_first_by_name_has_a_contested_node_port_and_an_address_goes_before_it() {
    let mut cluster = ClusterState::default();
    upsert(&mut cluster, Object::Node(node("n", "192.0.2.1")));
    let owner = |cluster: &ClusterState| {
        cluster
            .service_by_frontend(ip("192.0.2.1"), 30_080, L4Protocol::Tcp)
            .map(|s| s.name.name.to_string())
    };
    for (service_name, address) in [("b", "10.96.0.2"), ("a", "10.96.0.1")] {
        let mut service = service(service_name, address, 80);
        service.ports[0].node_port = Some(30_080);
        upsert(&mut cluster, Object::Service(service));
        assert_eq!(owner(&cluster).as_deref(), Some(service_name));
    }
    let mut at_the_address = service("c", "10.96.0.3", 30_080);
    at_the_address.external_ips = vec![ip("192.0.2.1")];
    upsert(&mut cluster, Object::Service(at_the_address));
    assert_eq!(owner(&cluster).as_deref(), Some("c"));
}

#[test]
fn an_external_ip_takes_nothing_that_was_assigned() {
    let mut cluster = ClusterState::default();
    let taken = ["10.96.0.10", "203.0.113.1"].map(ip);
    let mut thief = service("a", "10.96.0.1", 80);
    thief.external_ips = taken.into();
    upsert(&mut cluster, Object::Service(thief));
    upsert(
        &mut cluster,
        Object::Service(service("dns", "10.96.0.10", 80)),
    );
    let mut balanced = service("web", "10.96.0.2", 80);
    balanced.load_balancer_ips = vec![taken[1]];
    upsert(&mut cluster, Object::Service(balanced));
    for (address, owner) in taken.into_iter().zip(["dns", "web"]) {
        let found = cluster.service_by_frontend(address, 80, L4Protocol::Tcp);
        assert_eq!(found.map(|it| &*it.name.name), Some(owner));
    }
}

#[test]
fn of_two_ports_of_one_service_the_first_has_the_frontend() {
    let mut cluster = ClusterState::default();
    let mut web = service("web", "10.96.0.1", 80);
    web.ports.push(web.ports[0].clone());
    upsert(&mut cluster, Object::Service(web));
    let owner = cluster.frontend_owner((ip("10.96.0.1"), 80, L4Protocol::Tcp), false);
    assert_eq!(owner.map(|claim| claim.port), Some(0));
}

#[test]
fn slices_may_come_before_their_service_and_outlive_it() {
    let mut cluster = ClusterState::default();
    let slices = |cluster: &ClusterState, service: &str| -> Vec<String> {
        cluster
            .slices_of(&name(service))
            .map(|slice| slice.name.name.to_string())
            .collect()
    };
    upsert(
        &mut cluster,
        Object::EndpointSlice(slice("web-2", "web", "10.1.0.2")),
    );
    upsert(
        &mut cluster,
        Object::EndpointSlice(slice("web-1", "web", "10.1.0.1")),
    );
    assert_eq!(slices(&cluster, "web"), ["web-1", "web-2"]);

    upsert(
        &mut cluster,
        Object::Service(service("web", "10.96.0.1", 80)),
    );
    delete(&mut cluster, Kind::Service, name("web"));
    assert_eq!(slices(&cluster, "web"), ["web-1", "web-2"]);

    upsert(
        &mut cluster,
        Object::EndpointSlice(slice("web-2", "api", "10.1.0.2")),
    );
    assert_eq!(slices(&cluster, "web"), ["web-1"]);
    assert_eq!(slices(&cluster, "api"), ["web-2"]);
}

#[test]
fn slices_belong_to_the_service_of_their_own_namespace() {
    let mut cluster = ClusterState::default();
    upsert(
        &mut cluster,
        Object::EndpointSlice(slice("web-1", "web", "10.1.0.1")),
    );
    assert_eq!(
        cluster.slices_of(&ObjectName::new("other", "web")).count(),
        0
    );
}

#[test]
fn the_newest_pod_has_a_reused_address() {
    let address = "10.1.0.1";
    let mut cluster = ClusterState::default();
    let owner = |cluster: &ClusterState| {
        cluster
            .pod_by_ip(ip(address))
            .map(|pod| pod.name.name.to_string())
            .unwrap_or_default()
    };
    upsert(&mut cluster, Object::Pod(pod("old", address)));
    upsert(&mut cluster, Object::Pod(pod("new", address)));
    assert_eq!(owner(&cluster), "new");

    // News about the old one do not make it the newest again.
    let mut old = pod("old", address);
    old.labels = [("stale", "true")].into_iter().collect();
    upsert(&mut cluster, Object::Pod(old.clone()));
    assert_eq!(owner(&cluster), "new");

    delete(&mut cluster, Kind::Pod, name("new"));
    assert_eq!(owner(&cluster), "old");
    old.finished = true;
    upsert(&mut cluster, Object::Pod(old));
    assert_eq!(owner(&cluster), "");
}

/// Tens of thousands of them are those of other nodes.
#[test]
fn what_pods_have_in_common_is_held_once() {
    let mut cluster = ClusterState::default();
    for number in 0..1_000_u32 {
        let app = format!("app-{}", number % 10);
        let [_, _, high, low] = number.to_be_bytes();
        let named = pod(&format!("web-{number}"), &format!("10.1.{high}.{low}"));
        let pod = Pod {
            node_name: Some(format!("node-{}", number % 100).into()),
            labels: [("app", app.clone()), ("team", "shop".to_owned())]
                .into_iter()
                .collect(),
            service_account: app.clone().into(),
            workload: Some(Arc::new(Workload {
                kind: "Deployment".to_owned(),
                name: app,
            })),
            ..named
        };
        upsert(&mut cluster, Object::Pod(pod));
    }
    // Nodes, values of labels and accounts, two keys, and one name of a team and its namespace.
    assert_eq!(cluster.interner.sizes(), [100 + 10 + 2 + 1, 10, 10]);
    let pods: Vec<_> = cluster.pods().collect();
    assert_eq!(pods.len(), 1_000);
    let namespaces = pods.iter().map(|pod| &pod.name.namespace);
    assert!(
        namespaces
            .clone()
            .all(|it| Arc::ptr_eq(it, &pods[0].name.namespace))
    );
    assert!(size_of::<Pod>() <= 112, "{} bytes", size_of::<Pod>());
}

#[test]
fn host_network_and_finished_pods_have_no_address_of_their_own() {
    let mut cluster = ClusterState::default();
    let (mut proxy, mut job) = (pod("proxy", "192.0.2.1"), pod("job", "10.1.0.1"));
    proxy.host_network = true;
    job.finished = true;
    upsert(&mut cluster, Object::Pod(proxy));
    upsert(&mut cluster, Object::Pod(job));
    upsert(&mut cluster, Object::Node(node("worker", "192.0.2.1")));
    assert_eq!(cluster.pod_by_ip(ip("192.0.2.1")), None);
    assert_eq!(cluster.pod_by_ip(ip("10.1.0.1")), None);
    assert_eq!(
        cluster
            .node_by_ip(ip("192.0.2.1"))
            .map(|node| node.name.as_str()),
        Some("worker")
    );
    assert_eq!(cluster.pods().count(), 2);
}

#[test]
fn problems_are_kept_by_reporter() {
    let problem = |message: &str| Problem {
        severity: Severity::Error,
        origin: String::new(),
        object: String::new(),
        field: String::new(),
        message: message.to_owned(),
    };
    let messages = |cluster: &ClusterState| -> Vec<String> {
        cluster
            .problems()
            .map(|problem| problem.message.clone())
            .collect()
    };
    let mut cluster = ClusterState::default();
    assert!(!cluster.set_problems("lb", vec![]));
    assert!(cluster.set_problems("manifests", vec![problem("b"), problem("a")]));
    assert!(!cluster.set_problems("manifests", vec![problem("b"), problem("a")]));
    assert!(cluster.set_problems("lb", vec![problem("c")]));
    assert_eq!(messages(&cluster), ["c", "b", "a"]);
    assert!(cluster.set_problems("manifests", vec![]));
    assert_eq!(messages(&cluster), ["c"]);
}
