//! Whatever happens, in any order.

use proptest::prelude::*;

use super::*;

/// Any few services, which may share backends but no frontend.
fn any_desired() -> impl Strategy<Value = Desired> {
    let owners = prop::collection::vec(0..5_usize, 6);
    let backends = prop::collection::vec(prop::collection::btree_set(1..6_u8, 0..4), 4);
    (owners, backends).prop_map(|(owners, backends)| {
        let names = ["a", "b", "c", "d"];
        let mut services = Vec::new();
        for (index, name) in names.into_iter().enumerate() {
            let frontends: Vec<u8> = (1..)
                .zip(&owners)
                .filter(|(_, o)| **o == index)
                .map(|(last, _)| last)
                .collect();
            if !frontends.is_empty() {
                let backends: Vec<u8> = backends[index].iter().copied().collect();
                services.push((name, frontends, backends));
            }
        }
        let services: Vec<_> = services
            .iter()
            .map(|(n, f, b)| (*n, &f[..], &b[..]))
            .collect();
        wanted(&services)
    })
}

/// What may happen to an agent: a change, a write that fails, a restart, after which it may read the
/// tables or not.
#[derive(Clone, Debug)]
enum Happening {
    Change(Desired),
    Failure(usize),
    Restart(bool),
}

fn any_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => any_desired().prop_map(Happening::Change),
        2 => (0..12_usize).prop_map(Happening::Failure),
        1 => any::<bool>().prop_map(Happening::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_desired_is_reached_and_no_service_seen_by_halves(
        happenings in prop::collection::vec(any_happening(), 1..12),
    ) {
        let mut agent = Agent::default();
        let mut desired = Desired::default();
        for happening in happenings {
            match happening {
                Happening::Change(to) => desired = to,
                Happening::Failure(after) => agent.maps.failing_after = Some(after),
                Happening::Restart(true) => agent = Agent::over(agent.maps),
                Happening::Restart(false) => agent = Agent::denied(agent.maps),
            }
            agent.pass(&desired);
            agent.maps.failing_after = None;
        }
        assert!(agent.pass(&desired));
        agent.assert_reached(&desired);
    }
}
