use std::net::{IpAddr, Ipv4Addr};

use super::super::FrontendReach;
use super::super::memory::{MemoryMaps, Refused};
use super::*;
use crate::state::L4Protocol;

const SERVICE: ServiceId = ServiceId(1);

fn backend(last: u8) -> BackendAddress {
    BackendAddress {
        ip: IpAddr::V4(Ipv4Addr::new(10, 1, 0, last)),
        port: 8080,
        local: false,
    }
}

fn frontend() -> FrontendAddress {
    FrontendAddress {
        ip: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
        port: 80,
        protocol: L4Protocol::Tcp,
    }
}

fn swap(numbers: &[u32], slots: u32) -> Step {
    let backends = numbers.iter().map(|n| (BackendId(*n), backend(*n as u8)));
    Step::SwapTable {
        service: SERVICE,
        backends: backends.collect(),
        slots,
    }
}

/// A service with two backends, and all of it removed again.
fn steps() -> Vec<Step> {
    let entry = FrontendEntry {
        service: SERVICE,
        reach: FrontendReach::Everybody,
    };
    vec![
        Step::InsertBackend(BackendId(1), backend(1)),
        Step::InsertBackend(BackendId(2), backend(2)),
        swap(&[1, 2], 251),
        Step::InsertFrontend(frontend(), entry),
        Step::RemoveFrontend(frontend()),
        Step::RemoveTable(SERVICE),
        Step::RemoveBackend(BackendId(1), backend(1)),
        Step::RemoveBackend(BackendId(2), backend(2)),
        Step::RaiseGeneration,
    ]
}

#[test]
fn the_account_is_what_the_maps_hold_after_every_step_and_every_failure() {
    let steps = steps();
    for done in 0..=steps.len() {
        let mut maps = MemoryMaps {
            failing_after: Some(done),
            ..MemoryMaps::default()
        };
        let mut actual = Actual::default();
        let result = Applier::default().apply(&steps, &mut maps, &mut actual);
        assert_eq!(result.is_ok(), done == steps.len());
        let held = read_back(&maps).unwrap();
        let removed_unseen = done > 6 && done < steps.len();
        assert_eq!(
            actual,
            Actual {
                removed_unseen,
                ..held
            },
            "after {done} steps"
        );
    }
}

#[test]
fn a_failure_names_the_step_and_the_cause() {
    let mut maps = MemoryMaps {
        failing_after: Some(0),
        ..MemoryMaps::default()
    };
    let error = Applier::default()
        .apply(&steps(), &mut maps, &mut Actual::default())
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("InsertBackend") && text.contains("10.1.0.1"),
        "{text}"
    );
    assert!(matches!(
        error,
        ApplyError::Map {
            source: Refused,
            ..
        }
    ));
}

#[test]
fn an_impossible_table_size_is_refused_before_anything_is_written() {
    let mut maps = MemoryMaps::default();
    let step = [swap(&[1], 250)];
    let result = Applier::default().apply(&step, &mut maps, &mut Actual::default());
    assert!(matches!(result, Err(ApplyError::Size { service: 1, .. })));
    assert_eq!(maps, MemoryMaps::default());
}

/// Addresses in the slots of a table of backends with these numbers.
fn filled(numbers: &[(u32, u8)]) -> Vec<BackendAddress> {
    let mut maps = MemoryMaps::default();
    let mut steps: Vec<Step> = numbers
        .iter()
        .map(|(number, last)| Step::InsertBackend(BackendId(*number), backend(*last)))
        .collect();
    steps.push(Step::SwapTable {
        service: SERVICE,
        backends: numbers
            .iter()
            .map(|(number, last)| (BackendId(*number), backend(*last)))
            .collect(),
        slots: 251,
    });
    Applier::default()
        .apply(&steps, &mut maps, &mut Actual::default())
        .unwrap();
    let slots = &maps.tables[&SERVICE];
    slots.iter().map(|id| maps.backends[id]).collect()
}

#[test]
fn every_node_fills_a_table_alike_whatever_its_numbers() {
    let here = filled(&[(1, 1), (2, 2), (3, 3)]);
    assert_eq!(here.len(), 251);
    assert_eq!(here, filled(&[(30, 3), (7, 1), (12, 2)]));
    let shares = [1, 2, 3].map(|last| here.iter().filter(|b| **b == backend(last)).count());
    assert!(
        shares.iter().all(|share| (83..=84).contains(share)),
        "{shares:?}"
    );
}

#[test]
fn a_backend_here_is_named_as_other_nodes_name_it() {
    let table = |local| {
        let mut maps = MemoryMaps::default();
        let backends = [1, 2].map(|last| BackendAddress {
            local: local && last == 1,
            ..backend(last)
        });
        let numbered = (1..).map(BackendId).zip(backends).collect::<Vec<_>>();
        let step = Step::SwapTable {
            service: SERVICE,
            backends: numbered,
            slots: 251,
        };
        Applier::default()
            .apply(&[step], &mut maps, &mut Actual::default())
            .unwrap();
        maps.tables.remove(&SERVICE).unwrap()
    };
    assert_eq!(table(true), table(false));
}

#[test]
fn a_service_without_backends_has_a_table_without_slots() {
    let mut maps = MemoryMaps::default();
    let mut actual = Actual::default();
    let mut applier = Applier::default();
    // What an earlier table left in the applier's memory is not in it.
    for step in [swap(&[1, 2], 251), swap(&[], 0)] {
        applier.apply(&[step], &mut maps, &mut actual).unwrap();
    }
    assert_eq!(maps.tables[&SERVICE], []);
    assert_eq!(actual.table(SERVICE), Some(&Table::default()));
}
