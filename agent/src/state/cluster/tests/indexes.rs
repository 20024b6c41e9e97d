//! Indexes against a scan of everything, after random changes.

use proptest::prelude::*;

use super::*;

/// Few names, addresses and ports, so that objects meet.
fn any_change() -> impl Strategy<Value = Change> {
    let address = || (0_u8..2, 0_u8..4).prop_map(|(net, host)| IpAddr::from([10, 0, net, host]));
    let object_name = || prop::sample::select(vec!["a", "b", "c", "d"]);
    let service = (
        object_name(),
        prop::collection::vec(address(), 0..3),
        prop::collection::vec(address(), 0..2),
        prop::collection::vec((0_u16..3, prop::option::of(0_u16..3), any::<bool>()), 0..3),
    )
        .prop_map(|(object, cluster_ips, external_ips, ports)| {
            let mut service = service(object, "10.0.0.0", 0);
            service.cluster_ips = cluster_ips;
            service.external_ips = external_ips;
            service.ports = ports
                .into_iter()
                .map(|(port, node_port, tcp)| ServicePort {
                    name: String::new(),
                    protocol: if tcp {
                        L4Protocol::Tcp
                    } else {
                        L4Protocol::Udp
                    },
                    port,
                    node_port,
                })
                .collect();
            Object::Service(service)
        });
    let slice = (object_name(), object_name())
        .prop_map(|(object, service)| Object::EndpointSlice(slice(object, service, "10.0.0.0")));
    let pod = (
        object_name(),
        prop::collection::vec(address(), 0..3),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(object, ips, host_network, finished)| {
            Object::Pod(Pod {
                ips: ips.into(),
                host_network,
                finished,
                ..pod(object, "10.0.0.0")
            })
        });
    let node =
        (object_name(), prop::collection::vec(address(), 0..3)).prop_map(|(object, addresses)| {
            Object::Node(Node {
                created_at_seconds: None,
                addresses,
                ..node(object, "10.0.0.0")
            })
        });
    let object = prop_oneof![3 => service, 2 => slice, 3 => pod, 2 => node];
    (object, prop::bool::weighted(0.3)).prop_map(|(object, delete)| {
        if delete {
            Change::Delete(object.key())
        } else {
            Change::Upsert(object)
        }
    })
}

/// Who claimed each address last, by replay of what pods said.
#[derive(Default)]
struct ClaimLog(Vec<(IpAddr, ObjectName)>);

impl ClaimLog {
    fn note(&mut self, change: &Change) {
        let (pod, ips) = match change {
            Change::Upsert(Object::Pod(pod)) => (pod.name.clone(), pod.own_ips()),
            Change::Delete(key) if key.kind == Kind::Pod => (key.name.clone(), &[][..]),
            _ => return,
        };
        self.0.retain(|(ip, name)| *name != pod || ips.contains(ip));
        for ip in ips {
            if !self.0.contains(&(*ip, pod.clone())) {
                self.0.push((*ip, pod.clone()));
            }
        }
    }

    fn newest(&self, ip: IpAddr) -> Option<&ObjectName> {
        self.0
            .iter()
            .rev()
            .find(|(claimed, _)| *claimed == ip)
            .map(|(_, name)| name)
    }
}

fn scan_for_service(cluster: &ClusterState, frontend: Frontend) -> Option<&Service> {
    let (ip, port, protocol) = frontend;
    let has_port = |service: &Service| {
        let mut ports = service.ports.iter();
        ports.any(|it| it.port == port && it.protocol == protocol)
    };
    let dialled = |addresses: fn(&Service) -> &Vec<IpAddr>| {
        let mut services = cluster.services();
        services.find(move |service| addresses(service).contains(&ip) && has_port(service))
    };
    let by_node_port = |service: &&Service| {
        cluster.nodes().any(|node| node.addresses.contains(&ip))
            && service
                .ports
                .iter()
                .any(|p| p.node_port == Some(port) && p.protocol == protocol)
    };
    dialled(|service| &service.cluster_ips)
        .or_else(|| dialled(|service| &service.load_balancer_ips))
        .or_else(|| dialled(|service| &service.external_ips))
        .or_else(|| cluster.services().find(by_node_port))
}

proptest! {
    #[test]
    fn indexes_agree_with_a_scan_after_any_changes(
        changes in prop::collection::vec(any_change(), 0..60),
    ) {
        let mut cluster = ClusterState::default();
        let mut claims = ClaimLog::default();
        for change in changes {
            claims.note(&change);
            let before = cluster.clone();
            let changed = cluster.apply(vec![change]);
            prop_assert_eq!(changed, !same_tables(&before, &cluster));
        }
        for ip in (0..2).flat_map(|net| (0..4).map(move |host| IpAddr::from([10, 0, net, host]))) {
            prop_assert_eq!(cluster.pod_by_ip(ip).map(|pod| &pod.name), claims.newest(ip));
            let node = cluster.nodes().find(|node| node.addresses.contains(&ip));
            prop_assert_eq!(cluster.node_by_ip(ip), node);
            for (port, protocol) in
                (0..3).flat_map(|port| [(port, L4Protocol::Tcp), (port, L4Protocol::Udp)])
            {
                let found = cluster.service_by_frontend(ip, port, protocol);
                prop_assert_eq!(found, scan_for_service(&cluster, (ip, port, protocol)));
            }
        }
        for service in ["a", "b", "c", "d"].map(name) {
            let found: Vec<_> = cluster.slices_of(&service).collect();
            let scan: Vec<_> =
                cluster.slices.values().filter(|slice| slice.service == service.name).collect();
            prop_assert_eq!(found, scan);
        }
    }
}

fn same_tables(a: &ClusterState, b: &ClusterState) -> bool {
    (&a.services, &a.slices, &a.nodes) == (&b.services, &b.slices, &b.nodes)
        && a.pods().eq(b.pods())
}
