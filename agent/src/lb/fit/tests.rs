use std::net::Ipv4Addr;

use super::super::desired::{BackendState, ThisNode, desired as desired_of};
use super::super::memory::MemoryMaps;
use super::super::reconcile::Reconciler;
use super::super::{FrontendAddress, FrontendKind};
use super::*;
use crate::state::{
    AsksMore, Change, ClusterState, Endpoint, EndpointPort, EndpointSlice, L4Protocol, Object,
    Service, ServicePort,
};

const ROOMY: Capacity = Capacity {
    frontends: 1_000,
    backends: 1_000_000,
    services: 1_000,
};

fn address(service: u8, number: u32) -> IpAddr {
    let [_, high, middle, low] = number.to_be_bytes();
    let [a, b] = [service, 128 | high];
    Ipv4Addr::new(a, b, middle, low).into()
}

fn frontend(service: u8) -> FrontendAddress {
    FrontendAddress {
        ip: IpAddr::from([10, 96, 0, service]),
        port: 80,
        protocol: L4Protocol::Tcp,
    }
}

fn key(service: u8) -> ServiceKey {
    ServiceKey {
        name: ObjectName::new("shop", format!("web-{service:03}")),
        port: 80,
        protocol: L4Protocol::Tcp,
        family: Family::V4,
    }
}

fn backends(service: u8, numbers: std::ops::Range<u32>) -> BTreeMap<BackendAddress, BackendState> {
    let backend = |number| BackendAddress {
        ip: address(service, number),
        port: 8080,
        local: false,
    };
    numbers
        .map(|number| (backend(number), BackendState::Ready))
        .collect()
}

/// Services with so many backends each.
fn desired(sizes: &[u32]) -> Desired {
    let services = sizes.iter().zip(0..).map(|(size, service)| {
        let wanted = DesiredService {
            frontends: [(frontend(service), FrontendKind::ClusterIp)].into(),
            backends: backends(service, 0..*size),
            ..DesiredService::default()
        };
        (key(service), wanted)
    });
    Desired {
        services: services.collect(),
        ..Desired::default()
    }
}

fn sizes(desired: &Desired) -> Vec<usize> {
    let services = desired.services.values();
    services.map(|service| service.backends.len()).collect()
}

#[test]
fn what_fits_is_left_alone() {
    for capacity in [
        ROOMY,
        Capacity {
            backends: 60,
            ..ROOMY
        },
    ] {
        let mut cut = desired(&[10, 20, 30]);
        fit(&mut cut, &capacity);
        assert_eq!(cut, desired(&[10, 20, 30]));
    }
}

#[test]
fn the_largest_services_share_what_the_others_leave() {
    let cases: [(&[u32], usize, &[usize]); 5] = [
        (&[10, 20, 1_000], 100, &[10, 20, 70]),
        (&[500, 20, 1_000], 100, &[40, 20, 40]),
        (&[10, 20, 30], 59, &[10, 20, 29]),
        (&[10, 10, 10], 29, &[9, 9, 9]),
        (&[1, 1, 1], 2, &[0, 0, 0]),
    ];
    for (wanted, room, expected) in cases {
        let mut cut = desired(wanted);
        fit(
            &mut cut,
            &Capacity {
                backends: room,
                ..ROOMY
            },
        );
        assert_eq!(sizes(&cut), expected, "{wanted:?} into {room}");
        let told = cut.problems.len();
        let are_cut = wanted.iter().zip(expected);
        let are_cut = are_cut.filter(|(all, left)| **all as usize > **left);
        assert_eq!(told, are_cut.count(), "{:?}", cut.problems);
    }
    let mut cut = desired(&[10, 1_000]);
    fit(
        &mut cut,
        &Capacity {
            backends: 100,
            ..ROOMY
        },
    );
    assert_eq!(
        cut.problems[0].to_string(),
        "Service shop/web-001: port 80/TCP has 1000 endpoints of IPv4, and 90 of them get traffic: \
         the maps of a node hold 100 backends of a family, of which the largest Services get equal \
         shares"
    );
}

#[test]
fn what_takes_new_connections_goes_before_what_keeps_some() {
    for (room, kept) in [(30, 10), (29, 0)] {
        let mut cut = desired(&[10, 10]);
        let service = cut.services.get_mut(&key(0)).unwrap();
        service.draining = backends(0, 10..20).into_keys().collect();
        let capacity = Capacity {
            frontends: 10,
            backends: room,
            services: 10,
        };
        fit(&mut cut, &capacity);
        assert_eq!(sizes(&cut), [10, 10]);
        assert_eq!(cut.services[&key(0)].draining.len(), kept);
        assert_eq!(cut.problems.is_empty(), kept > 0, "{:?}", cut.problems);
    }
}

#[test]
fn an_endpoint_that_comes_moves_one_other_at_most() {
    let kept = |numbers| {
        let mut cut = desired(&[0]);
        let service = cut.services.values_mut().next().unwrap();
        service.backends = backends(0, numbers);
        fit(
            &mut cut,
            &Capacity {
                backends: 50,
                ..ROOMY
            },
        );
        let service = cut.services.into_values().next().unwrap();
        service.backends.into_keys().collect::<BTreeSet<_>>()
    };
    let before = kept(0..1_000);
    assert_eq!(before.len(), 50);
    for more in 1_001..1_100 {
        let after = kept(0..more);
        assert!(before.difference(&after).count() <= (more - 1_000) as usize);
    }
    // They are spread, not the first ones.
    assert!(before.iter().any(|it| it.ip > address(0, 500)));
}

#[test]
fn services_beyond_the_maps_are_told_and_the_others_served() {
    let mut cut = desired(&[1; 250]);
    fit(
        &mut cut,
        &Capacity {
            services: 100,
            ..ROOMY
        },
    );
    assert_eq!(cut.services.len(), 100);
    assert!(cut.services.contains_key(&key(99)) && !cut.services.contains_key(&key(100)));
    assert_eq!(cut.problems.len(), 101, "a hundred, and how many more");
    let last = cut.problems.last().map(ToString::to_string);
    let expected = "50 further problems like these are not listed";
    assert_eq!(last.as_deref(), Some(expected));

    let mut cut = desired(&[1; 5]);
    fit(
        &mut cut,
        &Capacity {
            frontends: 3,
            ..ROOMY
        },
    );
    assert_eq!(sizes(&cut), [1, 1, 1]);
    assert!(cut.problems[0].message.contains("is not balanced"));
}

fn objects(service: u8, numbers: std::ops::Range<u32>) -> [Change; 2] {
    let name = key(service).name;
    let port = ServicePort {
        name: String::new(),
        protocol: L4Protocol::Tcp,
        port: 80,
        node_port: None,
    };
    let endpoint = |number| Endpoint {
        address: address(service, number),
        ready: true,
        serving: true,
        terminating: false,
        node_name: Some("other".into()),
        zone: None,
    };
    let slice = EndpointSlice {
        name: name.clone(),
        service: name.name.clone(),
        ports: vec![EndpointPort {
            name: String::new(),
            protocol: L4Protocol::Tcp,
            port: 8080,
        }],
        endpoints: numbers.map(endpoint).collect(),
    };
    let service = Service {
        name,
        cluster_ips: vec![frontend(service).ip],
        external_ips: vec![],
        load_balancer_ips: vec![],
        ports: vec![port],
        publish_not_ready: false,
        asks_more: AsksMore::default(),
    };
    [
        Change::Upsert(Object::Service(service)),
        Change::Upsert(Object::EndpointSlice(slice)),
    ]
}

/// The maps refuse what there is no room for, as the kernel does.
#[test]
fn a_replacement_for_which_there_is_no_room_beside_is_made_in_two_steps() {
    let capacity = Capacity {
        frontends: 4,
        backends: 100,
        services: 4,
    };
    let maps = MemoryMaps {
        capacity: Some(capacity),
        ..MemoryMaps::default()
    };
    let mut reconciler = Reconciler::new(maps, 1).unwrap();
    let mut state = ClusterState::default();
    let node = ThisNode::default();
    let mut bring = |changes: Vec<Change>| {
        state.apply(changes);
        let (desired, result) = reconciler.reconcile(desired_of(&state, &node), &node);
        result.unwrap();
        let actual = reconciler.actual();
        let backends: BTreeSet<_> = actual.backends.values().map(|it| it.ip).collect();
        (desired.problems.len(), backends)
    };
    let all = |service, numbers: std::ops::Range<u32>| -> BTreeSet<IpAddr> {
        numbers.map(|number| address(service, number)).collect()
    };
    let (problems, held) = bring(objects(0, 0..90).into());
    assert_eq!((problems, held), (0, all(0, 0..90)));
    // Nearly all of them are others.
    let (problems, held) = bring(objects(0, 80..170).into());
    assert_eq!((problems, held), (0, all(0, 80..170)));
    // A second Service gets its part, and it comes back when that goes.
    let (problems, held) = bring(objects(1, 0..60).into());
    assert_eq!((problems, held.len()), (2, 100));
    let gone = Change::Upsert(Object::EndpointSlice(EndpointSlice {
        endpoints: Vec::new(),
        ..match &objects(1, 0..0)[1] {
            Change::Upsert(Object::EndpointSlice(slice)) => slice.clone(),
            other => panic!("{other:?}"),
        }
    }));
    let (problems, held) = bring(vec![gone]);
    assert_eq!((problems, held), (0, all(0, 80..170)));
}
