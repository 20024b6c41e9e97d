//! The bench of the source measures what it says: all objects really came through the source, and
//! the server really sent them.

use std::path::Path;
use std::time::Duration;

use weir_tests::bench::source::population::{Family, Population, Size};
use weir_tests::bench::source::{Plan, measure};

const SIZE: Size = Size {
    nodes: 40,
    pods_per_node: 30,
    services: 60,
};
const LARGEST: Size = Size {
    nodes: 20,
    pods_per_node: 50,
    services: 1,
};

#[test]
fn all_objects_are_loaded_and_every_figure_is_of_them() -> anyhow::Result<()> {
    let plan = Plan {
        size: SIZE,
        slice_changes: 3,
        largest: (LARGEST, 2),
        churn: Duration::from_secs(1),
    };
    let report = measure(Path::new(env!("CARGO_BIN_EXE_weir-bench")), plan)?;
    let counts = report.counts;
    assert_eq!((counts.nodes, counts.services), (40, 60));
    assert_eq!((counts.pods, counts.pods_by_ip), (1_200, 2_400));
    assert_eq!((counts.endpoints, counts.backends), (2_400, 2_400));
    assert_eq!((counts.frontends, counts.filled_tables), (120, 120));
    for list in &report.costs.lists {
        let what = format!("{list:?}");
        assert_eq!(list.pages, list.objects.div_ceil(500), "{what}");
        // Whole objects, with commas between and a head for each page.
        let more = list.body_bytes - list.object_bytes;
        assert!(more < list.object_bytes / 100 + 1_000, "{what}");
    }
    let pods = report.costs.lists.last().expect("pods are a kind");
    assert!(pods.object_bytes / 1_200 > 5_000, "as large as pods are");
    assert!(pods.bytes < pods.body_bytes / 3, "compressed: {pods:?}");
    assert_eq!(report.costs.watches, 5);
    assert!(report.memory.heap_per_pod > 100.0, "{:?}", report.memory);
    assert!(report.slice_change_ms[0] > 0.0);
    let [idle, pods, slices] = &report.loads[..] else {
        panic!("{:?}", report.loads);
    };
    assert_eq!((idle.changes, idle.revisions), (0, 0));
    // Of six steps of a pod the tables show four; slices show two more.
    assert!(pods.changes > 60, "{pods:?}");
    assert!(pods.revisions > u64::from(pods.changes) / 2, "{pods:?}");
    assert!(slices.bytes_per_second > pods.bytes_per_second);
    assert_eq!(report.largest.endpoints, 2_000);
    assert!(report.largest.slice_change_ms[0] > 0.0);
    Ok(())
}

#[test]
fn every_pod_is_an_endpoint_of_one_service_and_has_an_address_of_its_own() -> anyhow::Result<()> {
    let population = Population::new(SIZE)?;
    let mut addresses = std::collections::BTreeSet::new();
    for generation in [0, 1, 6] {
        for pod in 0..SIZE.pods() {
            let pod = population.pod(pod, generation);
            for ip in pod["status"]["podIPs"].as_array().expect("a list") {
                assert!(
                    addresses.insert(ip["ip"].to_string()),
                    "{ip} is given twice"
                );
            }
        }
    }
    let slices = (0..SIZE.services).flat_map(|service| {
        let slices = 0..population.slices(service);
        slices.map(move |slice| (service, slice))
    });
    let endpoints = slices.map(|(service, slice)| {
        let slice = population.slice(service, Family::V6, slice, 0);
        slice["endpoints"].as_array().map_or(0, Vec::len)
    });
    assert_eq!(endpoints.sum::<usize>(), SIZE.pods());
    Ok(())
}
