//! What a flow costs on its way into the store: one allocation, the record itself.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::Arc;

use ebpf_abi::event::{EventKind, ObservationPoint};
use ebpf_abi::{Addr4, Address as _, Be16, FlowEvent, Protocol};
use weir_agent::flows::decode::decode;
use weir_agent::flows::enrich::KernelInterfaceNames;
use weir_agent::flows::filter::FlowFilters;
use weir_agent::flows::{Enricher, Entry, FlowHub};
use weir_agent::state::{Change, ClusterState, Object, ObjectName, Pod};
use weir_proto::flow::FlowFilter;

/// Counts what the current thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread while the closure runs.
fn allocations(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    run();
    ALLOCATIONS.with(Cell::get) - before
}

fn event(port: u16) -> FlowEvent {
    let address = |last| Addr4::from(std::net::Ipv4Addr::new(10, 0, 0, last)).widen();
    FlowEvent {
        source: address(1),
        destination: address(2),
        translated_destination: address(2),
        source_port: Be16::new(port),
        destination_port: Be16::new(80),
        kind: EventKind::TRACE,
        point: ObservationPoint::TO_ENDPOINT,
        family: 4,
        protocol: Protocol::TCP,
        ifindex: 1,
        ..FlowEvent::default()
    }
}

#[test]
fn an_event_costs_its_record_and_nothing_else() {
    const EVENTS: usize = 2_000;
    const BATCH: usize = 500;
    let mut cluster = ClusterState::default();
    cluster.apply(vec![Change::Upsert(Object::Pod(Pod {
        name: ObjectName::new("shop", "web-1"),
        ips: ["10.0.0.1".parse().unwrap()].into(),
        node_name: None,
        host_network: false,
        finished: false,
        labels: [("app", "web")].into_iter().collect(),
        service_account: "web".into(),
        workload: None,
    }))]);
    let names = Box::new(KernelInterfaceNames);
    let mut enricher = Enricher::new("node-1", Arc::default(), names);
    let hub = FlowHub::new(NonZeroUsize::new(1_000).unwrap());
    let mut batch = Vec::with_capacity(BATCH);
    let mut publish = |events: usize| {
        for number in 0..events {
            let event = event(number as u16);
            let event = decode(bytemuck::bytes_of(&event)).unwrap();
            batch.push(Arc::new(Entry::Flow(enricher.enrich(event, 0, &cluster))));
            if batch.len() == BATCH {
                hub.publish(&mut batch);
            }
        }
    };
    // Names are looked up once.
    publish(BATCH);
    assert_eq!(allocations(|| publish(EVENTS)), EVENTS);
}

#[test]
fn filters_look_at_records_for_nothing() {
    let names = Box::new(KernelInterfaceNames);
    let mut enricher = Enricher::new("node-1", Arc::default(), names);
    let record = enricher.enrich(event(40_000), 0, &ClusterState::default());
    let filter = FlowFilter {
        source_ip: vec!["10.0.0.0/8".into()],
        destination_pod: vec!["shop/web".into()],
        source_label: vec!["app in (web,db)".into()],
        node_name: vec!["node-*".into()],
        uuid: vec!["00000000-0000-0000-0000-000000000000".into()],
        ..FlowFilter::default()
    };
    let everything = FlowFilter {
        source_pod: vec!["/".into()],
        ..FlowFilter::default()
    };
    let filters = FlowFilters::compile(&[filter, everything], &[]).unwrap();
    // Regular expressions make their caches at first use.
    filters.matches(&record);
    let matched = allocations(|| assert!(!filters.matches(&record)));
    assert_eq!(matched, 0);
}
