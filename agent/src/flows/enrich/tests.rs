use super::*;
use crate::flows::record::tests::{event, wide};
use crate::state::{AsksMore, Change, Namespace, Node, Object, Service, ServicePort, Workload};
use ebpf_abi::Be16;
use ebpf_abi::event::{EventKind, ObservationPoint, ReplyState};
use std::collections::BTreeMap;

struct Names;

impl InterfaceNames for Names {
    fn name(&self, index: u32) -> Option<String> {
        (index == 7).then(|| "eth0".to_owned())
    }
}

fn pod(name: &str, ip: &str) -> Object {
    Object::Pod(Pod {
        name: ObjectName::new("shop", name),
        ips: [ip.parse().unwrap()].into(),
        node_name: Some("node-1".into()),
        host_network: false,
        finished: false,
        labels: [("app", "web")].into_iter().collect(),
        service_account: "default".into(),
        workload: Some(Arc::new(Workload {
            kind: "Deployment".into(),
            name: "web".into(),
        })),
    })
}

fn node(name: &str, ip: &str, pods: &str) -> Object {
    Object::Node(Node {
        created_at_seconds: None,
        name: name.into(),
        addresses: vec![ip.parse().unwrap()],
        pod_cidrs: vec![pods.parse().unwrap()],
        labels: BTreeMap::from([("zone".into(), "a".into())]),
        annotations: BTreeMap::new(),
    })
}

fn cluster() -> ClusterState {
    let mut cluster = ClusterState::default();
    let objects = [
        node("node-1", "192.0.2.1", "10.0.1.0/24"),
        node("node-2", "192.0.2.2", "10.0.2.0/24"),
        pod("web-1", "10.0.1.10"),
        pod("web-2", "fd00::10"),
        Object::Namespace(Namespace {
            name: "shop".into(),
            labels: BTreeMap::new(),
        }),
        Object::Service(Service {
            name: ObjectName::new("shop", "web"),
            cluster_ips: vec!["10.96.0.1".parse().unwrap()],
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            ports: vec![ServicePort {
                name: String::new(),
                protocol: L4Protocol::Tcp,
                port: 80,
                node_port: None,
            }],
            publish_not_ready: false,
            asks_more: AsksMore::default(),
        }),
    ];
    cluster.apply(objects.into_iter().map(Change::Upsert).collect());
    cluster
}

fn enricher(cluster: &ClusterState) -> Enricher {
    let mut enricher = Enricher::new("node-1", Arc::default(), Box::new(Names));
    enricher.refresh(cluster);
    enricher
}

#[test]
fn addresses_get_the_identity_of_what_they_belong_to() {
    let cluster = cluster();
    let mut enricher = enricher(&cluster);
    let cases = [
        ("10.0.1.10", None, "web-1"),
        ("fd00::10", None, "web-2"),
        ("192.0.2.1", Some(IdentityId::HOST), ""),
        ("127.0.0.1", Some(IdentityId::HOST), ""),
        ("::1", Some(IdentityId::HOST), ""),
        ("192.0.2.2", Some(IdentityId::REMOTE_NODE), ""),
        ("10.0.2.99", Some(IdentityId::UNKNOWN), ""),
        ("0.0.0.0", Some(IdentityId::UNKNOWN), ""),
        ("203.0.113.9", Some(IdentityId::WORLD), ""),
        ("10.96.0.1", Some(IdentityId::WORLD), ""),
    ];
    for (ip, identity, pod) in cases {
        let endpoint = enricher.endpoint(ip.parse().unwrap(), &cluster);
        assert_eq!(endpoint.pod_name, pod, "{ip}");
        match identity {
            Some(identity) => assert_eq!(endpoint.identity, identity, "{ip}"),
            None => assert!(endpoint.identity.0 >= IdentityId::FIRST_ALLOCATED, "{ip}"),
        }
    }
}

#[test]
fn pods_with_the_same_labels_share_an_identity() {
    let cluster = cluster();
    let mut enricher = enricher(&cluster);
    let one = enricher.endpoint("10.0.1.10".parse().unwrap(), &cluster);
    let two = enricher.endpoint("fd00::10".parse().unwrap(), &cluster);
    assert_eq!(one.identity, two.identity);
    assert_eq!(one.workload.as_ref().unwrap().name, "web");
    assert!(
        one.labels.contains(&"k8s:app=web".to_owned()),
        "{:?}",
        one.labels
    );
}

#[test]
fn a_packet_to_a_frontend_is_received_by_the_chosen_backend() {
    let cluster = cluster();
    let mut packet = event(("203.0.113.9", 40_000), ("10.96.0.1", 80));
    packet.translated_destination = wide("10.0.1.10");
    packet.translated_destination_port = Be16::new(8080);
    let record = enricher(&cluster).enrich(packet, 5, &cluster);
    assert_eq!(record.address(Side::Destination).to_string(), "10.96.0.1");
    assert_eq!(record.destination.pod_name, "web-1");
    assert_eq!(
        record.destination_service.as_deref(),
        Some(&ObjectName::new("shop", "web"))
    );
    assert_eq!(record.source.identity, IdentityId::WORLD);
    assert_eq!(record.source_service, None);
    assert_eq!(record.time_ns, 5);
}

#[test]
fn the_answer_of_a_backend_elsewhere_goes_from_the_frontend_to_the_client() {
    let cluster = cluster();
    let mut answer = event(("10.0.1.10", 8080), ("192.0.2.1", 61_000));
    answer.reply = ReplyState::REPLY;
    answer.point = ObservationPoint::TO_NETWORK;
    answer.translated_source = wide("10.96.0.1");
    answer.translated_source_port = Be16::new(80);
    answer.translated_destination = wide("203.0.113.9");
    answer.translated_destination_port = Be16::new(40_000);
    let record = enricher(&cluster).enrich(answer, 0, &cluster);
    let shown = |side| format!("{} {}", record.address(side), record.port(side).unwrap());
    assert_eq!(shown(Side::Source), "10.96.0.1 80");
    assert_eq!(shown(Side::Destination), "203.0.113.9 40000");
    assert_eq!(record.source.pod_name, "web-1");
    assert_eq!(record.destination.identity, IdentityId::WORLD);
    assert_eq!(
        record.source_service.as_deref(),
        Some(&ObjectName::new("shop", "web"))
    );
    assert_eq!(record.destination_service, None);
    assert_eq!(record.source_xlated(), "10.96.0.1".parse().ok());
}

#[test]
fn services_are_set_for_frontends_only() {
    let cluster = cluster();
    let mut enricher = enricher(&cluster);
    let mut service = |source, destination| {
        let record = enricher.enrich(event(source, destination), 0, &cluster);
        (
            record.source_service.is_some(),
            record.destination_service.is_some(),
        )
    };
    assert_eq!(
        service(("203.0.113.9", 4), ("10.0.1.10", 8080)),
        (false, false)
    );
    assert_eq!(
        service(("10.96.0.1", 80), ("203.0.113.9", 4)),
        (true, false)
    );
    assert_eq!(
        service(("203.0.113.9", 4), ("10.96.0.1", 81)),
        (false, false)
    );
}

#[test]
fn a_socket_keeps_the_service_it_dialled() {
    let cluster = cluster();
    let mut socket = event(("0.0.0.0", 0), ("10.96.0.1", 80));
    socket.kind = EventKind::SOCKET;
    socket.translated_destination = wide("10.0.1.10");
    let record = enricher(&cluster).enrich(socket, 0, &cluster);
    assert_eq!(record.destination.pod_name, "web-1");
    assert_eq!(
        record.destination_service.as_deref(),
        Some(&ObjectName::new("shop", "web"))
    );
}

#[test]
fn a_name_is_looked_up_again_after_a_refresh() {
    let mut cluster = ClusterState::default();
    let mut enricher = enricher(&cluster);
    let packet = event(("10.0.1.10", 1), ("203.0.113.9", 2));
    assert_eq!(enricher.enrich(packet, 0, &cluster).source.pod_name, "");
    cluster.apply(vec![Change::Upsert(pod("web-1", "10.0.1.10"))]);
    enricher.refresh(&cluster);
    assert_eq!(
        enricher.enrich(packet, 0, &cluster).source.pod_name,
        "web-1"
    );
}

#[test]
fn records_share_names_and_have_ids_of_their_own() {
    let cluster = cluster();
    let mut enricher = enricher(&cluster);
    let mut packet = event(("10.0.1.10", 1), ("10.96.0.1", 80));
    packet.ifindex = 7;
    let one = enricher.enrich(packet, 0, &cluster);
    let two = enricher.enrich(packet, 0, &cluster);
    assert!(Arc::ptr_eq(&one.source, &two.source));
    assert!(Arc::ptr_eq(
        &one.destination_service.unwrap(),
        &two.destination_service.unwrap()
    ));
    assert_eq!(one.interface.as_deref(), Some("eth0"));
    assert_ne!(one.uuid, two.uuid);
    assert_eq!(one.uuid.get_version_num(), 8);
    assert_eq!(one.node.labels, ["zone=a"]);
}
