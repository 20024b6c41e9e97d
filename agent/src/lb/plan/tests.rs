use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ebpf_abi::Family;

use super::super::apply::{Applier, read_back};
use super::super::desired::BackendState;
use super::super::memory::MemoryMaps;
use super::*;
use crate::state::{L4Protocol, ObjectName};

mod any_happenings;

const LOAD_FACTOR: usize = 10;

fn frontend(last: u8) -> FrontendAddress {
    FrontendAddress {
        ip: IpAddr::V4(Ipv4Addr::new(198, 51, 100, last)),
        port: 80,
        protocol: L4Protocol::Tcp,
    }
}

fn backend(last: u8) -> BackendAddress {
    BackendAddress {
        ip: IpAddr::V4(Ipv4Addr::new(10, 1, 0, last)),
        port: 8080,
        local: false,
    }
}

fn key(name: &str) -> ServiceKey {
    ServiceKey {
        name: ObjectName::new("default", name),
        port: 80,
        protocol: L4Protocol::Tcp,
        family: Family::V4,
    }
}

/// Services by name, with the last bytes of their frontends and backends.
fn wanted(services: &[(&str, &[u8], &[u8])]) -> Desired {
    let service = |frontends: &[u8], backends: &[u8]| DesiredService {
        frontends: frontends
            .iter()
            .map(|last| (frontend(*last), FrontendKind::ExternalIp))
            .collect(),
        backends: backends
            .iter()
            .map(|last| (backend(*last), BackendState::Ready))
            .collect(),
        ..DesiredService::default()
    };
    Desired {
        services: services
            .iter()
            .map(|(name, frontends, backends)| (key(name), service(frontends, backends)))
            .collect(),
        ..Desired::default()
    }
}

/// An agent and the maps it works on.
#[derive(Default)]
struct Agent {
    maps: MemoryMaps,
    actual: Actual,
    ids: Option<Ids>,
}

impl Agent {
    /// A new agent over the maps of an earlier one.
    fn over(maps: MemoryMaps) -> Self {
        let actual = read_back(&maps).unwrap();
        Self {
            maps,
            actual,
            ids: None,
        }
    }

    /// A new agent that may not read the tables of the earlier one.
    fn denied(mut maps: MemoryMaps) -> Self {
        maps.unreadable = true;
        let mut agent = Self::over(maps);
        // What it makes itself is looked at by the assertions.
        agent.maps.unreadable = false;
        agent
    }

    fn plan(&mut self, desired: &Desired) -> Vec<Step> {
        let ids = self
            .ids
            .get_or_insert_with(|| Ids::recover(&self.actual, desired));
        plan(desired, &self.actual, ids, LOAD_FACTOR, false)
    }

    /// Plans and applies, a failing write included. True if all was done.
    fn pass(&mut self, desired: &Desired) -> bool {
        self.maps.allowed = Some(self.allowed(desired));
        let steps = self.plan(desired);
        Applier::default()
            .apply(&steps, &mut self.maps, &mut self.actual)
            .is_ok()
    }

    /// A frontend may lead where it leads now and where it is to lead; and, if it is to change its
    /// service, where the present one is to lead.
    fn allowed(&self, desired: &Desired) -> BTreeMap<FrontendAddress, BTreeSet<BackendAddress>> {
        let mut allowed: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for frontend in self.maps.frontends.keys() {
            let now = self.maps.leads_to(frontend).unwrap();
            allowed.entry(*frontend).or_default().extend(now);
        }
        for (key, service) in &desired.services {
            let id = self.ids.as_ref().and_then(|ids| ids.service_id(key));
            for (frontend, entry) in &self.maps.frontends {
                if id == Some(entry.service) {
                    let to_be = service.backends.keys().copied();
                    allowed.entry(*frontend).or_default().extend(to_be);
                }
            }
        }
        for service in desired.services.values() {
            for frontend in service.frontends.keys() {
                let to_be = service.backends.keys().copied();
                allowed.entry(*frontend).or_default().extend(to_be);
            }
        }
        allowed
    }

    /// Asserts that the maps hold what is desired and nothing else.
    fn assert_reached(&mut self, desired: &Desired) {
        let mut frontends = BTreeSet::new();
        let mut backends = BTreeSet::new();
        for service in desired.services.values() {
            let to_be: BTreeSet<_> = service.backends.keys().copied().collect();
            for frontend in service.frontends.keys() {
                assert_eq!(self.maps.leads_to(frontend).as_ref(), Some(&to_be));
                frontends.insert(*frontend);
            }
            backends.extend(to_be);
        }
        let held: BTreeSet<_> = self.maps.frontends.keys().copied().collect();
        assert_eq!(held, frontends);
        let held: Vec<_> = self.maps.backends.values().copied().collect();
        assert_eq!(held.len(), backends.len(), "{held:?}");
        assert_eq!(held.into_iter().collect::<BTreeSet<_>>(), backends);
        assert_eq!(self.maps.tables.len(), desired.services.len());
        assert_eq!(read_back(&self.maps).unwrap(), self.actual);
        assert_eq!(self.plan(desired), []);
    }
}

/// An agent that applied this to empty maps.
fn agent_with(desired: &Desired) -> Agent {
    let mut agent = Agent::default();
    assert!(agent.pass(desired));
    agent.assert_reached(desired);
    agent
}

#[test]
fn steps_come_in_the_order_of_the_contract() {
    let before = wanted(&[("a", &[1, 2], &[1, 2]), ("gone", &[3], &[3])]);
    let after = wanted(&[("a", &[1, 4], &[2, 5]), ("new", &[5], &[6])]);
    let mut agent = agent_with(&before);
    let steps = agent.plan(&after);
    let rank = |step: &Step| match step {
        Step::RemoveFrontend(_) => 1,
        Step::InsertBackend(..) => 2,
        Step::SwapTable { .. } => 3,
        Step::InsertFrontend(..) => 4,
        Step::RemoveTable(_) => 5,
        Step::RemoveBackend(..) => 6,
        Step::RaiseGeneration => 7,
    };
    let ranks: Vec<u8> = steps.iter().map(rank).collect();
    assert_eq!(ranks, [1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 6, 7], "{steps:?}");
}

#[test]
fn what_is_there_already_takes_no_step() {
    let desired = wanted(&[("a", &[1, 2], &[1, 2, 3]), ("empty", &[3], &[])]);
    let mut agent = agent_with(&desired);
    assert_eq!(agent.plan(&desired), []);
}

#[test]
fn a_new_agent_learns_the_numbers_and_takes_no_step() {
    let desired = wanted(&[
        ("a", &[1, 2], &[1, 2, 3]),
        ("b", &[4], &[2]),
        ("c", &[3], &[]),
    ]);
    let before = agent_with(&desired);
    let mut after = Agent::over(before.maps);
    assert_eq!(after.plan(&desired), []);
    let (before, after) = (before.ids.unwrap(), after.ids.unwrap());
    for name in ["a", "b", "c"] {
        assert_eq!(before.service_id(&key(name)), after.service_id(&key(name)));
    }
    for last in 1..=3 {
        let id = before.backend_id(&backend(last));
        assert!(id.is_some());
        assert_eq!(id, after.backend_id(&backend(last)));
    }
}

#[test]
fn a_backend_of_two_services_has_one_number_and_leaves_with_the_last() {
    let mut agent = agent_with(&wanted(&[("a", &[1], &[7]), ("b", &[2], &[7])]));
    assert_eq!(agent.maps.backends.len(), 1);
    let one_left = wanted(&[("a", &[1], &[7])]);
    assert!(agent.pass(&one_left));
    agent.assert_reached(&one_left);
    assert_eq!(agent.maps.generation, 0);
    let none_left = wanted(&[("a", &[1], &[])]);
    assert!(agent.pass(&none_left));
    agent.assert_reached(&none_left);
    assert_eq!(agent.maps.generation, 1);
}

#[test]
fn only_removed_backends_raise_the_generation() {
    let mut agent = agent_with(&wanted(&[("a", &[1], &[1])]));
    for (desired, generation) in [
        (wanted(&[("a", &[1], &[1, 2])]), 0),
        (wanted(&[("a", &[1, 2], &[1, 2])]), 0),
        (wanted(&[("a", &[2], &[1, 2])]), 0),
        (wanted(&[("a", &[2], &[2])]), 1),
        (wanted(&[("a", &[2], &[3])]), 2),
        (wanted(&[]), 3),
    ] {
        assert!(agent.pass(&desired));
        agent.assert_reached(&desired);
        assert_eq!(agent.maps.generation, generation, "{desired:?}");
    }
}

#[test]
fn a_backend_that_drains_keeps_its_number_and_takes_no_new_connection() {
    let mut agent = agent_with(&wanted(&[("a", &[1], &[1, 2])]));
    let number = agent.ids.as_ref().unwrap().backend_id(&backend(2));
    let mut draining = wanted(&[("a", &[1], &[1])]);
    let service = draining.services.get_mut(&key("a")).unwrap();
    // One that never took a connection, too.
    service.draining = [backend(2), backend(3)].into();
    for _ in 0..2 {
        assert!(agent.pass(&draining));
        // Once: for those that are only being opened to it.
        assert_eq!(agent.maps.generation, 1);
        let leads_to = agent.maps.leads_to(&frontend(1)).unwrap();
        assert_eq!(leads_to, [backend(1)].into());
        let kept: Vec<_> = agent.actual.backends.values().copied().collect();
        assert_eq!(kept, [backend(1), backend(2)]);
        let after = agent.ids.as_ref().unwrap().backend_id(&backend(2));
        assert_eq!(after, number);
        // A new agent goes on with it.
        agent = Agent::over(agent.maps);
    }
    assert!(agent.pass(&wanted(&[("a", &[1], &[1])])));
    assert_eq!(agent.maps.generation, 2);
    assert_eq!(agent.maps.backends.len(), 1);
}

#[test]
fn a_backend_that_moves_to_this_node_is_another_backend() {
    let mut agent = agent_with(&wanted(&[("a", &[1], &[1])]));
    let before = agent.ids.as_ref().unwrap().backend_id(&backend(1));
    let mut desired = wanted(&[("a", &[1], &[])]);
    let here = BackendAddress {
        local: true,
        ..backend(1)
    };
    let service = desired.services.get_mut(&key("a")).unwrap();
    service.backends.insert(here, BackendState::Ready);
    assert!(agent.pass(&desired));
    agent.assert_reached(&desired);
    assert_ne!(agent.ids.as_ref().unwrap().backend_id(&here), before);
    assert_eq!(agent.maps.generation, 1);
}

#[test]
fn the_number_of_a_removed_backend_is_not_used_again() {
    let mut agent = agent_with(&wanted(&[("a", &[1], &[1])]));
    assert!(agent.pass(&wanted(&[("a", &[1], &[2])])));
    assert!(agent.pass(&wanted(&[("a", &[1], &[1])])));
    let numbers: Vec<_> = agent.maps.backends.keys().collect();
    assert_eq!(numbers, [&BackendId(3)]);
}

#[test]
fn cluster_ips_are_internal_unless_opened() {
    let mut desired = wanted(&[("a", &[1], &[1])]);
    let service = desired.services.get_mut(&key("a")).unwrap();
    service
        .frontends
        .insert(frontend(2), FrontendKind::ClusterIp);
    service
        .frontends
        .insert(frontend(3), FrontendKind::NodePort);
    service
        .frontends
        .insert(frontend(4), FrontendKind::LoadBalancer);
    for (external, internal) in [(false, vec![frontend(2)]), (true, vec![])] {
        let mut ids = Ids::default();
        let steps = plan(
            &desired,
            &Actual::default(),
            &mut ids,
            LOAD_FACTOR,
            external,
        );
        let found: Vec<_> = steps
            .iter()
            .filter_map(|step| match step {
                Step::InsertFrontend(frontend, entry) if entry.reach == FrontendReach::Cluster => {
                    Some(*frontend)
                }
                _ => None,
            })
            .collect();
        assert_eq!(found, internal);
    }
}

#[test]
fn an_agent_that_dies_after_any_step_leaves_whole_services() {
    let before = wanted(&[("a", &[1, 2], &[1, 2]), ("gone", &[3], &[3])]);
    let after = wanted(&[("a", &[1, 4], &[2, 5]), ("new", &[3, 5], &[6])]);
    let steps = agent_with(&before).plan(&after).len();
    for died_after in 0..=steps {
        let mut agent = agent_with(&before);
        agent.maps.failing_after = Some(died_after);
        // The maps themselves assert after every write that no frontend leads nowhere.
        assert_eq!(agent.pass(&after), died_after == steps);
        agent.maps.failing_after = None;
        let mut next = Agent::over(agent.maps);
        assert!(next.pass(&after));
        next.assert_reached(&after);
    }
}

#[test]
fn a_table_that_cannot_be_read_is_made_anew_whatever_is_wanted() {
    let before = wanted(&[
        ("a", &[1], &[1, 2]),
        ("b", &[2], &[3]),
        ("gone", &[3], &[4]),
    ]);
    let mut agent = Agent::denied(agent_with(&before).maps);
    // No endpoint of the first is ready any more, so an empty table is wanted.
    let after = wanted(&[("a", &[1], &[]), ("b", &[2], &[3])]);
    let steps = agent.plan(&after);
    let swaps = |step: &&Step| matches!(step, Step::SwapTable { .. });
    assert_eq!(steps.iter().filter(swaps).count(), 2, "{steps:?}");
    assert!(agent.pass(&after));
    agent.assert_reached(&after);
}

#[test]
fn a_table_that_cannot_be_read_may_lead_to_a_backend_that_drains() {
    let before = agent_with(&wanted(&[("a", &[1], &[1, 2])]));
    let mut agent = Agent::denied(before.maps);
    let mut draining = wanted(&[("a", &[1], &[1])]);
    let service = draining.services.get_mut(&key("a")).unwrap();
    service.draining = [backend(2)].into();
    for _ in 0..2 {
        assert!(agent.pass(&draining));
        assert_eq!(agent.maps.generation, 1);
    }
}

#[test]
fn a_failed_raise_of_the_generation_is_made_up_for() {
    let before = wanted(&[("a", &[1], &[1, 2, 3])]);
    let after = wanted(&[("a", &[1], &[1])]);
    let steps = agent_with(&before).plan(&after).len();
    for failed_after in 0..steps {
        let mut agent = agent_with(&before);
        agent.maps.failing_after = Some(failed_after);
        assert!(!agent.pass(&after));
        agent.maps.failing_after = None;
        assert!(agent.pass(&after));
        agent.assert_reached(&after);
        assert!(agent.maps.generation > 0, "failed after {failed_after}");
    }
}

#[test]
fn frontends_that_changed_hands_while_no_agent_ran_never_lead_to_the_wrong_service() {
    // "b" had both frontends; the first is to belong to "a" now, whose name comes first.
    let before = agent_with(&wanted(&[("b", &[1, 2], &[1])]));
    let after = wanted(&[("a", &[1], &[2]), ("b", &[2], &[1])]);
    let mut agent = Agent::over(before.maps);
    assert!(agent.pass(&after));
    agent.assert_reached(&after);
}
