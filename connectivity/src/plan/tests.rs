use super::*;
use crate::inventory::tests::inventory;

fn told(inventory: &Inventory, check: Check) -> Vec<String> {
    let planned = plan(inventory, check, 1000);
    let cases = planned.cases.iter().map(|case| {
        let arguments = case.probe.arguments();
        let dialled = arguments[2..5].join(" ");
        format!(
            "{} > {}: {dialled} ({})",
            case.asker.name(),
            case.to,
            case.how
        )
    });
    cases.collect()
}

#[test]
fn pods_dial_all_servers_in_the_families_that_they_have() {
    let inventory = inventory();
    let cases = told(&inventory, Check::PodToPod);
    // client-1 both families, client-2 IPv4 only; two servers, two protocols.
    assert_eq!(cases.len(), 2 * 2 * 2 + 2 * 2, "{cases:#?}");
    assert_eq!(
        cases[0],
        "client-1 > server-1 (same node): tcp 10.0.1.1 8080 (TCP IPv4)"
    );
    assert_eq!(
        cases[7],
        "client-1 > server-2 (other node): udp fd00:2::1 8080 (UDP IPv6)"
    );
    assert!(
        cases[8..]
            .iter()
            .all(|case| case.starts_with("client-2 ") && case.contains("IPv4"))
    );
}

#[test]
fn every_server_of_a_service_must_answer() {
    let inventory = inventory();
    let planned = plan(&inventory, Check::PodToService, 1000);
    let case = &planned.cases[0];
    let Expect::Servers(servers) = &case.expect else {
        panic!("{case:?}")
    };
    assert_eq!((servers.only.len(), servers.each.len()), (2, 2));
    assert!(matches!(&case.probe, Probe::Tcp(dial) if dial.times == 40));
    let addresses: Vec<_> = case.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.1.1", "10.0.2.1", "10.96.0.1"]);
}

#[test]
fn a_server_that_can_ask_must_reach_itself() {
    let inventory = inventory();
    let planned = plan(&inventory, Check::PodToItself, 1000);
    assert_eq!(planned.cases.len(), 4, "server-2 has no command");
    for case in &planned.cases {
        let Expect::Servers(servers) = &case.expect else {
            panic!("{case:?}")
        };
        assert_eq!(servers.each, ["server-1".to_owned()].into());
    }
}

#[test]
fn node_ports_are_dialled_at_all_nodes_but_ones_own() {
    let inventory = inventory();
    let from_node = told(&inventory, Check::NodePortFromNode);
    assert_eq!(
        from_node,
        [
            "host-1 > shop/echo at node2: tcp 192.0.2.2 30080 (TCP IPv4)",
            "host-1 > shop/echo at node2: tcp 2001:db8::2 30080 (TCP IPv6)",
        ]
    );
    let from_outside = told(&inventory, Check::NodePortFromOutside);
    assert_eq!(from_outside.len(), 4);
    assert!(
        from_outside
            .iter()
            .all(|case| case.starts_with("laptop > "))
    );
}

#[test]
fn large_transfers_go_to_one_server_here_and_one_elsewhere() {
    let cases = told(&inventory(), Check::LargeTransfer);
    assert_eq!(
        cases[0],
        "client-1 > server-1 (same node): transfer 10.0.1.1 8080 (TCP IPv4)"
    );
    assert_eq!(cases.len(), 2 * 2 + 2);
}

#[test]
fn names_must_have_the_addresses_of_the_service() {
    let mut inventory = inventory();
    assert_eq!(plan(&inventory, Check::Dns, 1).skipped.len(), 1);
    inventory.services[0].dns_name = Some("echo.shop.svc".into());
    let planned = plan(&inventory, Check::Dns, 1000);
    assert!(planned.skipped.is_empty());
    assert_eq!(planned.cases.len(), 2);
    let expected = inventory.services[0].cluster_ips.iter().copied().collect();
    assert_eq!(planned.cases[0].expect, Expect::Addresses(expected));
}

#[test]
fn what_cannot_be_tried_is_said() {
    let mut one_node = inventory();
    one_node.servers.truncate(1);
    one_node.clients.truncate(1);
    one_node.services.clear();
    one_node.nodes.truncate(1);
    let pods = plan(&one_node, Check::PodToPod, 1000);
    assert!(!pods.cases.is_empty());
    assert!(
        pods.skipped[0].1.contains("of another node"),
        "{:?}",
        pods.skipped
    );
    for check in Check::all() {
        let planned = plan(&one_node, check, 1000);
        if planned.cases.is_empty() {
            assert_eq!(planned.skipped.len(), 1, "{check:?}");
        }
    }
}
