//! As much as the maps hold, and no more.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ebpf_abi::{BackendId, ServiceId};
use maglev::LADDER;
use weir_agent::lb::BackendAddress;
use weir_agent::lb::apply::LbMaps;

use crate::node::on_node;

fn backend(number: u32) -> BackendAddress {
    BackendAddress {
        ip: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)),
        port: 8080,
        local: false,
    }
}

/// What is planned for the maps is cut to the capacity that they tell.
#[test]
fn the_maps_hold_the_backends_that_they_say_and_the_largest_table() {
    on_node(|node| {
        let maps = node.balancer();
        let room = u32::try_from(maps.capacity().backends).unwrap();
        assert!(room >= 100_000, "room for {room}");
        for number in 1..=room {
            let inserted = maps.insert_backend(BackendId(number), &backend(number));
            inserted.unwrap_or_else(|error| panic!("backend {number} of {room}: {error}"));
        }
        let beyond = room + 1;
        maps.insert_backend(BackendId(beyond), &backend(beyond))
            .expect_err("one more than there is room for");

        let size = LADDER[LADDER.len() - 1].get();
        let slots: Vec<_> = (0..size).map(|slot| BackendId(slot % room + 1)).collect();
        let begun = Instant::now();
        maps.swap_table(ServiceId(1), &slots).unwrap();
        println!(
            "a table of {size} slots was written in {:?}",
            begun.elapsed()
        );
        assert_eq!(maps.table(ServiceId(1)).unwrap(), Some(slots));
    });
}
