//! What the reader is told, step by step.

use super::super::select::tests::{ethernet, selector};
use super::*;

fn table() -> Table {
    Table::new(selector(&[], &["veth*"]), Vec::new())
}

/// An address like most.
fn on(ifindex: u32, address: &str) -> LinkAddress {
    LinkAddress {
        ifindex,
        address: address.parse().unwrap(),
        is_first_choice: true,
        is_alone: false,
    }
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Events in short: `+eth0:Uplink`, and addresses that connections start from.
fn short(events: Vec<InterfaceEvent>) -> Vec<String> {
    let told = |sign: &str, it: &Interface| format!("{sign}{}:{:?}", it.name, it.role);
    let text = |event| match event {
        InterfaceEvent::Added(it) => told("+", &it),
        InterfaceEvent::Changed(it) => told("~", &it),
        InterfaceEvent::Removed(it) => told("-", &it),
        InterfaceEvent::Addresses(OwnAddresses { source, .. }) => {
            format!("{:?} {:?}", source.v4, source.v6)
        }
        InterfaceEvent::SnapshotComplete => "complete".into(),
        InterfaceEvent::Settled => "settled".into(),
    };
    events.into_iter().map(text).collect()
}

#[test]
fn only_differences_are_told() {
    let mut table = table();
    table.replace_links(vec![
        ethernet(2, "eth0"),
        ethernet(3, "veth1"),
        ethernet(4, "br0"),
    ]);
    table.replace_default_routes([2].into());
    assert_eq!(short(table.catch_up()), ["+eth0:Uplink", "+veth1:Pod"]);
    assert!(table.catch_up().is_empty());

    table.set_link(Link {
        mtu: 9000,
        ..ethernet(3, "veth1")
    });
    assert_eq!(short(table.catch_up()), ["~veth1:Pod"]);
    table.remove_link(3);
    table.remove_link(4);
    assert_eq!(short(table.catch_up()), ["-veth1:Pod"]);
}

#[test]
fn a_rename_can_change_the_role() {
    let mut table = table();
    table.set_link(ethernet(3, "tmp0"));
    assert!(table.catch_up().is_empty());
    table.set_link(ethernet(3, "veth9"));
    assert_eq!(short(table.catch_up()), ["+veth9:Pod"]);
    table.set_link(ethernet(3, "veth8"));
    assert_eq!(short(table.catch_up()), ["~veth8:Pod"]);
    table.set_link(ethernet(3, "tmp0"));
    assert_eq!(short(table.catch_up()), ["-veth8:Pod"]);
}

#[test]
fn the_default_route_moves_the_uplink() {
    let mut table = table();
    table.replace_links(vec![
        ethernet(2, "eth0"),
        ethernet(3, "eth1"),
        ethernet(4, "veth1"),
    ]);
    table.replace_default_routes([2].into());
    table.catch_up();
    table.replace_default_routes([3].into());
    assert_eq!(short(table.catch_up()), ["-eth0:Uplink", "+eth1:Uplink"]);
    table.replace_default_routes([4].into());
    assert_eq!(
        short(table.catch_up()),
        ["-eth1:Uplink", "-veth1:Pod", "+veth1:Uplink"]
    );
}

#[test]
fn a_new_link_of_an_old_name_is_another_link() {
    let mut table = table();
    table.set_link(ethernet(3, "veth1"));
    table.catch_up();
    table.replace_links(vec![ethernet(7, "veth1")]);
    assert_eq!(short(table.catch_up()), ["-veth1:Pod", "+veth1:Pod"]);
}

#[test]
fn the_first_address_of_an_uplink_is_the_nodes() {
    let mut table = table();
    table.replace_links(vec![ethernet(2, "eth0"), ethernet(4, "veth1")]);
    table.replace_default_routes([2].into());
    table.replace_addresses(vec![
        on(4, "10.9.9.9"),
        on(2, "192.0.2.1"),
        on(2, "192.0.2.2"),
        on(2, "2001:db8::1"),
    ]);
    let expected = "Some(192.0.2.1) Some(2001:db8::1)";
    assert_eq!(
        short(table.catch_up()),
        ["+eth0:Uplink", "+veth1:Pod", expected]
    );
    table.replace_addresses(vec![on(2, "192.0.2.2")]);
    assert_eq!(short(table.catch_up()), ["Some(192.0.2.2) None"]);
    table.replace_default_routes(BTreeSet::new());
    assert_eq!(short(table.catch_up()), ["-eth0:Uplink", "None None"]);
}

#[test]
fn an_uplink_with_a_default_route_gives_the_address() {
    let mut table = Table::new(selector(&["eth*"], &[]), Vec::new());
    table.replace_links(vec![ethernet(2, "eth0"), ethernet(3, "eth1")]);
    table.replace_default_routes([3].into());
    table.replace_addresses(vec![on(2, "192.0.2.1"), on(3, "198.51.100.1")]);
    assert!(short(table.catch_up()).contains(&"Some(198.51.100.1) None".to_owned()));
    assert!(table.told.values().all(|it| it.role == Role::Uplink));
}

/// Links 2 and 3 with an address each, the default route on the first.
fn two_networks(adopted: &[&str]) -> Table {
    let mut table = Table::new(selector(&[], &["veth*"]), addresses(adopted));
    table.replace_links(vec![ethernet(2, "eth0"), ethernet(3, "eth1")]);
    table.replace_default_routes([2].into());
    table.replace_addresses(vec![on(2, "192.0.2.1"), on(3, "10.0.0.1")]);
    table
}

#[test]
fn a_link_with_an_address_of_the_node_object_is_an_uplink() {
    let (without, with) = ("Some(192.0.2.1) None", "Some(10.0.0.1) None");
    let mut table = two_networks(&[]);
    assert_eq!(short(table.catch_up()), ["+eth0:Uplink", without]);
    table.replace_node_addresses(addresses(&["10.0.0.1", "198.51.100.1"]));
    assert_eq!(short(table.catch_up()), ["+eth1:Uplink", with]);

    // The API server has no such object, or one that nobody has completed.
    table.replace_node_addresses(Vec::new());
    assert!(table.catch_up().is_empty());

    table.replace_addresses(vec![on(2, "192.0.2.1")]);
    assert_eq!(short(table.catch_up()), ["-eth1:Uplink", without]);
    table.replace_addresses(vec![on(2, "192.0.2.1"), on(3, "10.0.0.1")]);
    assert_eq!(short(table.catch_up()), ["+eth1:Uplink", with]);
    table.replace_node_addresses(addresses(&["10.0.0.2"]));
    assert_eq!(short(table.catch_up()), ["-eth1:Uplink", without]);
}

#[test]
fn a_second_address_makes_an_uplink_as_well() {
    let mut table = two_networks(&[]);
    let second = LinkAddress {
        is_first_choice: false,
        ..on(3, "10.0.0.9")
    };
    table.replace_addresses(vec![on(2, "192.0.2.1"), on(3, "10.0.0.1"), second]);
    table.replace_node_addresses(addresses(&["10.0.0.9"]));
    let expected = ["+eth0:Uplink", "+eth1:Uplink", "Some(10.0.0.9) None"];
    assert_eq!(short(table.catch_up()), expected);
}

#[test]
fn names_count_before_the_node_object() {
    let mut table = Table::new(selector(&["eth0"], &[]), Vec::new());
    table.replace_links(vec![ethernet(2, "eth0"), ethernet(3, "eth1")]);
    table.replace_addresses(vec![on(3, "10.0.0.1")]);
    table.replace_node_addresses(addresses(&["10.0.0.1"]));
    assert_eq!(short(table.catch_up()), ["+eth0:Uplink"]);
}

#[test]
fn what_the_data_path_was_found_with_stands_in_for_the_node_object() {
    let mut table = two_networks(&["10.0.0.1"]);
    let expected = ["+eth0:Uplink", "+eth1:Uplink", "Some(10.0.0.1) None"];
    assert_eq!(short(table.catch_up()), expected);
    // There is none, or nobody has completed it: no interface is let go for that, but connections start
    // where they would have without an earlier agent.
    table.replace_node_addresses(Vec::new());
    assert_eq!(short(table.catch_up()), ["Some(192.0.2.1) None"]);
    table.replace_node_addresses(addresses(&["10.0.0.1"]));
    assert_eq!(short(table.catch_up()), ["Some(10.0.0.1) None"]);
    table.replace_node_addresses(addresses(&["192.0.2.1"]));
    let expected = ["-eth1:Uplink", "Some(192.0.2.1) None"];
    assert_eq!(short(table.catch_up()), expected);
}

#[test]
fn a_pods_interface_with_the_nodes_address_stays_one() {
    let pair = |ifindex, name| Link {
        leads_elsewhere: true,
        ..ethernet(ifindex, name)
    };
    let mut table = two_networks(&[]);
    table.set_link(pair(3, "eth1"));
    table.set_link(pair(4, "veth1"));
    let lent = LinkAddress {
        is_alone: true,
        ..on(4, "10.0.0.1")
    };
    table.replace_addresses(vec![on(3, "10.0.0.1"), lent]);
    table.replace_node_addresses(addresses(&["10.0.0.1"]));
    let roles = &short(table.catch_up())[..3];
    assert_eq!(roles, ["+eth0:Uplink", "+eth1:Uplink", "+veth1:Pod"]);
}

#[test]
fn what_an_uplink_is_depends_on_the_node_object_unless_it_has_a_name() {
    let mut table = table();
    assert!(!table.is_settled());
    table.replace_node_addresses(Vec::new());
    assert!(table.is_settled());
    assert!(Table::new(selector(&["eth0"], &[]), Vec::new()).is_settled());
}

/// Where connections start after what the table has to tell now.
fn source(table: &mut Table) -> UplinkAddresses {
    table.catch_up();
    table.in_use.source
}

fn both(v4: &str, v6: &str) -> UplinkAddresses {
    UplinkAddresses::first_of(&addresses(&[v4, v6]))
}

#[test]
fn connections_start_where_the_node_object_says_in_its_order() {
    let mut table = Table::new(selector(&["eth*"], &[]), Vec::new());
    table.replace_links(vec![ethernet(2, "eth0"), ethernet(3, "eth1")]);
    table.replace_default_routes([2].into());
    table.replace_addresses(vec![
        on(2, "198.51.100.1"),
        on(2, "2001:db8::1"),
        on(3, "10.0.0.1"),
        on(3, "fd00::1"),
    ]);
    assert_eq!(source(&mut table), both("198.51.100.1", "2001:db8::1"));
    // The InternalIP is IPv4 alone: the other family stays where it was.
    table.replace_node_addresses(addresses(&["10.0.0.1", "198.51.100.1"]));
    assert_eq!(source(&mut table), both("10.0.0.1", "2001:db8::1"));
    table.replace_node_addresses(addresses(&["198.51.100.1", "10.0.0.1", "fd00::1"]));
    assert_eq!(source(&mut table), both("198.51.100.1", "fd00::1"));
    // An address that is no uplink's is of no use.
    table.replace_node_addresses(addresses(&["203.0.113.9", "10.0.0.1"]));
    assert_eq!(source(&mut table), both("10.0.0.1", "2001:db8::1"));
}

/// As where routes to the node are told by BGP: uplinks may have no address at all.
#[test]
fn the_node_objects_address_may_be_on_loopback() {
    let mut table = Table::new(selector(&["eth*"], &[]), Vec::new());
    let loopback = Link {
        loopback: true,
        ..ethernet(1, "lo")
    };
    table.replace_links(vec![loopback, ethernet(2, "eth0"), ethernet(3, "dummy0")]);
    table.replace_addresses(vec![on(1, "192.0.2.1"), on(3, "198.51.100.7")]);
    table.replace_node_addresses(addresses(&["198.51.100.7", "192.0.2.1"]));
    let found = source(&mut table);
    assert_eq!((found.v4, found.v6), ("192.0.2.1".parse().ok(), None));
}

#[test]
fn connections_follow_a_default_route_that_moves_where_no_node_object_says_otherwise() {
    for adopted in [addresses(&[]), addresses(&["192.0.2.1", "2001:db8:1::1"])] {
        let mut table = Table::new(selector(&["eth*"], &[]), adopted);
        table.replace_links(vec![ethernet(2, "eth0"), ethernet(3, "eth1")]);
        table.replace_default_routes([2].into());
        table.replace_addresses(vec![
            on(2, "192.0.2.1"),
            on(2, "2001:db8:1::1"),
            on(3, "198.51.100.1"),
            on(3, "2001:db8:2::1"),
        ]);
        table.replace_node_addresses(Vec::new());
        assert_eq!(source(&mut table), both("192.0.2.1", "2001:db8:1::1"));
        table.replace_default_routes([3].into());
        assert_eq!(source(&mut table), both("198.51.100.1", "2001:db8:2::1"));
    }
}

#[test]
fn an_address_that_is_added_moves_no_connection() {
    let mut table = Table::new(selector(&["eth0"], &[]), Vec::new());
    table.set_link(ethernet(2, "eth0"));
    let first = [on(2, "192.0.2.1"), on(2, "2001:db8:1::1")];
    table.replace_addresses(first.to_vec());
    let before = both("192.0.2.1", "2001:db8:1::1");
    assert_eq!(source(&mut table), before);
    // A new prefix, and an address that is there for a service, come first in the kernel's order.
    let added = [on(2, "192.0.2.200"), on(2, "2001:db8:2::1")];
    table.replace_addresses([added, first].concat());
    assert!(table.catch_up().is_empty());
    assert_eq!(source(&mut table), before);

    table.replace_addresses([&added[..], &first[..1]].concat());
    assert_eq!(source(&mut table), both("192.0.2.1", "2001:db8:2::1"));
    table.replace_addresses(added.to_vec());
    assert_eq!(source(&mut table), both("192.0.2.200", "2001:db8:2::1"));
}

#[test]
fn a_restart_moves_no_connection() {
    let adopted = addresses(&["192.0.2.9", "2001:db8:1::1"]);
    let mut table = Table::new(selector(&["eth0"], &[]), adopted);
    table.set_link(ethernet(2, "eth0"));
    // Known before the interfaces were looked at.
    table.replace_node_addresses(addresses(&["192.0.2.9"]));
    table.replace_addresses(vec![
        on(2, "192.0.2.1"),
        on(2, "192.0.2.9"),
        on(2, "2001:db8:2::1"),
        on(2, "2001:db8:1::1"),
    ]);
    let expected = "Some(192.0.2.9) Some(2001:db8:1::1)";
    assert_eq!(short(table.catch_up()), ["+eth0:Uplink", expected]);
}

#[test]
fn every_uplink_answers_node_ports_at_an_address() {
    let mut table = two_networks(&[]);
    table.replace_node_addresses(addresses(&["10.0.0.9"]));
    let second = LinkAddress {
        is_first_choice: false,
        ..on(3, "10.0.0.9")
    };
    let first = [on(2, "192.0.2.1"), on(3, "10.0.0.1"), second];
    table.replace_addresses(first.to_vec());
    table.catch_up();
    let served = addresses(&["192.0.2.1", "10.0.0.1", "10.0.0.9"]);
    let mut served: BTreeSet<IpAddr> = served.into_iter().collect();
    assert_eq!(table.in_use.served, served);
    // What comes first in the kernel's order later does not take their place.
    let added = [on(2, "192.0.2.0"), on(2, "2001:db8::1")];
    table.replace_addresses([&added[..], &first[..]].concat());
    table.catch_up();
    served.extend(addresses(&["2001:db8::1"]));
    assert_eq!(table.in_use.served, served);
}
