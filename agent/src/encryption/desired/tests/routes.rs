//! Where packets are led.

use super::*;

fn routing_of(cluster: &Cluster) -> Routing {
    routing_without(cluster, &BTreeSet::new())
}

fn routing_without(cluster: &Cluster, waited_for: &BTreeSet<String>) -> Routing {
    let device = Device {
        index: IfIndex(7),
        source: [Some("192.0.2.1".parse().unwrap()), None],
        tunnels: &Tunnels::default(),
        has_ipv6: true,
        waited_for,
    };
    routing(&cluster.desired(), device, &cluster.config).unwrap()
}

#[test]
fn packets_of_nodes_leave_the_tunnel_out_by_their_ports_both_ways() {
    let mut cluster = Cluster::new();
    cluster.peer("other", 2, "192.0.2.2", "10.1.2.0/24");
    cluster.config.node = true;
    cluster.config.node_except_ports = vec![config::Count::new(10_250)];
    let routing = routing_of(&cluster);
    let shown: Vec<_> = routing.rules.iter().map(ToString::to_string).collect();
    for rule in [
        "rule 64: from all ipproto tcp dport 10250 lookup main",
        "rule 64: from all ipproto tcp sport 10250 lookup main",
        "rule 64: from all ipproto udp sport 51871 lookup main",
        "rule 65: from all ipproto 6 lookup 51871",
        "IPv6 rule 65: from all lookup 51871",
    ] {
        assert!(shown.iter().any(|it| it == rule), "{rule} in {shown:#?}");
    }
}

#[test]
fn rules_are_few_and_encrypted_packets_come_first() {
    let mut cluster = Cluster::new();
    for number in 2..=9 {
        let (ip, pods) = (format!("192.0.2.{number}"), format!("10.2.{number}.0/24"));
        cluster.peer(&format!("n{number}"), number, &ip, &pods);
    }
    let routing = routing_of(&cluster);
    // Of each peer its pods, its address, and the latter again, for when the device is gone.
    assert_eq!(routing.routes.len(), 24);
    // Marked (twice), from our pods, and to 10.2.0.0/20.
    assert_eq!(routing.rules.len(), 4);
    let first = routing
        .rules
        .iter()
        .min_by_key(|rule| rule.priority)
        .unwrap();
    assert_eq!(first.action, RuleAction::Main);
    assert!(first.selector.mark.is_some());
}

/// Pods one by one, as where Nodes name no ranges, some of them among the nodes' own addresses.
#[test]
fn rules_do_not_grow_with_pods_and_hold_no_node() {
    let mut cluster = Cluster::new();
    for number in 2..=200 {
        let pods = format!("10.2.{number}.{}/32", 255 - number);
        cluster.peer(
            &format!("n{number}"),
            2,
            &format!("192.0.2.{number}"),
            &pods,
        );
        let pods = format!("fd00:2::{number:x}:1/128");
        cluster.peer(
            &format!("s{number}"),
            2,
            &format!("192.0.3.{number}"),
            &pods,
        );
    }
    for (name, ip, pods) in [
        ("below", "10.3.0.7", "10.3.0.4/32"),
        ("between", "10.3.0.5", "10.3.0.6/32"),
        ("other", "203.0.113.1", "172.16.0.0/24"),
    ] {
        cluster.peer(name, 3, ip, pods);
    }
    let ranges: Vec<_> = routing_of(&cluster)
        .rules
        .iter()
        .filter_map(|rule| rule.selector.to.map(|to| to.to_string()))
        .collect();
    let expected = [
        "10.2.0.0/16",
        "10.3.0.4/32",
        "10.3.0.6/32",
        "172.16.0.0/24",
        "fd00:2::/104",
    ];
    assert_eq!(ranges, expected);
}

/// As with `ipv6.disable=1`: rules and routes of that family are refused.
#[test]
fn without_ipv6_nothing_of_it_is_asked_for() {
    let mut cluster = Cluster::new();
    cluster.peer(
        "other",
        2,
        "192.0.2.2 2001:db8::2",
        "10.1.2.0/24 fd00:2::/64",
    );
    cluster.config.node = true;
    let device = Device {
        index: IfIndex(7),
        source: [None, None],
        tunnels: &Tunnels::default(),
        has_ipv6: false,
        waited_for: &BTreeSet::new(),
    };
    let routing = routing(&cluster.desired(), device, &cluster.config).unwrap();
    let rules = routing.rules.iter().map(ToString::to_string);
    let routes = routing.routes.values().map(ToString::to_string);
    let shown: Vec<_> = rules.chain(routes).collect();
    assert!(shown.len() > 5, "{shown:?}");
    assert!(
        !shown
            .iter()
            .any(|it| it.contains("IPv6") || it.contains("::")),
        "{shown:?}"
    );
}

/// A new pod sends before anybody knows it.
#[test]
fn rules_for_own_pods_hold_the_clusters_ranges_and_no_node() {
    let mut cluster = Cluster::new();
    cluster.node("this", 1, "192.0.2.1", "", &[]);
    for number in (16..32).chain([64, 70]) {
        cluster.pod("this", &format!("10.2.0.{number}"));
    }
    cluster.peer("other", 2, "10.3.0.40", "10.2.0.66/32");
    let from = |cluster: &Cluster| -> Vec<String> {
        let rules = routing_of(cluster).rules.into_iter();
        let from = rules.filter_map(|rule| rule.selector.from);
        from.map(|it| it.to_string()).collect()
    };
    let own = ["10.2.0.16/28", "10.2.0.64/32", "10.2.0.70/32"];
    assert_eq!(from(&cluster), own);
    let ranges = ["10.3.0.0/16", "172.16.0.0/16"].map(|it| it.parse().unwrap());
    cluster.config.strict_mode.pod_cidrs = ranges.to_vec();
    assert_eq!(from(&cluster), [&own[..], &["172.16.0.0/16"]].concat());
    cluster.config.strict_mode.enabled = false;
    assert_eq!(from(&cluster), own);
}

#[test]
fn no_route_leads_to_a_peer_that_is_waited_for() {
    let mut cluster = Cluster::new();
    cluster.config.strict_mode.enabled = false;
    cluster.peer("other", 2, "192.0.2.2", "10.1.2.0/24");
    cluster.peer("silent", 3, "192.0.2.3", "10.1.3.0/24");
    let waited_for = BTreeSet::from(["silent".to_owned()]);
    let routing = routing_without(&cluster, &waited_for);
    let shown: Vec<_> = routing.routes.values().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(!shown.iter().any(|it| it.contains(".3")), "{shown:?}");
}

/// Strict mode, when it is switched on, takes what it finds in the maps for reachable.
#[test]
fn a_peer_that_is_waited_for_is_not_said_to_be_reachable() {
    let mut cluster = Cluster::new();
    cluster.peer("other", 2, "192.0.2.2", "10.1.2.0/24");
    cluster.peer("silent", 3, "192.0.2.3", "10.1.3.0/24");
    let desired = cluster.desired();
    let mut ids = NodeIds::default();
    ids.follow(&desired);
    let mut ranges = ranges(&desired, &cluster.state, &cluster.config, &ids);
    without_routes(&mut ranges, &ids, &BTreeSet::from(["silent".to_owned()]));
    for (range, is_reachable) in [
        ("10.1.2.0/24", true),
        ("192.0.2.2/32", true),
        ("10.1.3.0/24", false),
        ("192.0.2.3/32", false),
    ] {
        let value = ranges[&range.parse().unwrap()];
        assert_eq!(value.has(IpcacheValue::PEER), is_reachable, "{range}");
    }
}

/// Only what must not leave in clear text is held back where the device is gone.
#[test]
fn behind_the_device_no_way_leads_to_nodes_in_strict_mode() {
    let mut cluster = Cluster::new();
    cluster.peer("other", 2, "192.0.2.2", "10.1.2.0/24");
    cluster.peer("allowed", 3, "192.0.2.3", "10.1.3.0/24");
    cluster.config.strict_mode.allowed_cidrs = vec!["192.0.2.3/32".parse().unwrap()];
    cluster.node("keyless", 4, "192.0.2.4", "10.1.4.0/24", &[]);
    let last = |cluster: &Cluster| -> Vec<String> {
        let routes = routing_of(cluster).routes.into_values();
        let last = routes.filter(|route| route.key().is_last);
        last.map(|route| route.to_string()).collect()
    };
    let (peer, keyless) = (
        "route blackhole 192.0.2.2/32",
        "route blackhole 192.0.2.4/32",
    );
    assert_eq!(last(&cluster), [peer, keyless]);
    cluster.config.node = true;
    assert_eq!(
        last(&cluster),
        [peer],
        "nodes go on talking to those without a key"
    );
    cluster.config.strict_mode.enabled = false;
    assert_eq!(last(&cluster), [""; 0]);
}
