use std::collections::BTreeMap;
use std::net::IpAddr;

use super::route_message::{of_route, table_of_route, to_route};
use super::rule_message::{of_rule, to_rule};
use super::*;
use crate::datapath::private_namespace::{in_private_namespace, ip};

fn table() -> RouteTable {
    RouteTable::try_from(51871).expect("valid")
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("valid")
}

fn mark() -> FirewallMark {
    FirewallMark::try_from(0xe1f0).expect("not 0")
}

fn rule(family: Family, priority: u32, selector: Selector, action: RuleAction) -> Rule {
    Rule {
        family,
        priority: RulePriority::try_from(priority).expect("valid"),
        selector,
        action,
    }
}

/// Every selector and action there is, in both families.
fn rules() -> Vec<Rule> {
    let port = |port| Port::try_from(port).expect("not 0");
    let all = |family, from, to| {
        [
            Selector::default(),
            Selector {
                mark: Some((mark(), u32::MAX)),
                ..Selector::default()
            },
            Selector {
                mark: Some((mark(), 0xff00)),
                not: true,
                ..Selector::default()
            },
            Selector {
                from: Some(from),
                to: Some(to),
                ..Selector::default()
            },
            Selector {
                port: Some((PortProtocol::Tcp, port(10250))),
                ..Selector::default()
            },
            Selector {
                to: Some(to),
                port: Some((PortProtocol::Udp, port(53))),
                ..Selector::default()
            },
            Selector {
                source_port: Some((PortProtocol::Udp, port(51_871))),
                ..Selector::default()
            },
            Selector {
                protocol: Some(47),
                ..Selector::default()
            },
            Selector {
                protocol: Some(6),
                ..Selector::default()
            },
            Selector {
                port: Some((PortProtocol::Tcp, port(80))),
                source_port: Some((PortProtocol::Tcp, port(8080))),
                ..Selector::default()
            },
        ]
        .map(|selector| (family, selector))
    };
    let v4 = all(Family::V4, prefix("10.1.0.0/16"), prefix("10.0.0.0/8"));
    let v6 = all(Family::V6, prefix("fd00:1::/32"), prefix("::/0"));
    let actions = [
        RuleAction::Table(table()),
        RuleAction::Main,
        RuleAction::Prohibit,
    ];
    let mut rules = Vec::new();
    for (priority, (family, selector)) in (100..).zip(v4.into_iter().chain(v6)) {
        for action in actions {
            rules.push(rule(family, priority, selector.clone(), action));
        }
    }
    // The kernel does not tell "to all" from no destination at all.
    for rule in &mut rules {
        rule.selector.to = rule.selector.to.filter(|to| to.length() > 0);
    }
    rules
}

/// Every kind of route, in both families.
fn routes(device: IfIndex) -> Vec<Route> {
    let to = |to: &str, target| Route {
        to: prefix(to),
        target,
        source: None,
        mtu: None,
    };
    let device = RouteTarget::Device(device);
    vec![
        Route {
            source: Some(IpAddr::from([127, 0, 0, 1])),
            mtu: Some(1400),
            ..to("10.2.0.0/16", device)
        },
        to("10.3.0.7/32", device),
        to("10.3.0.7/32", RouteTarget::Blackhole),
        to("0.0.0.0/0", RouteTarget::Blackhole),
        to("10.4.0.0/16", RouteTarget::Prohibit),
        Route {
            mtu: Some(1300),
            ..to("fd00:2::/64", device)
        },
        to("fd00:3::7/128", device),
        to("fd00:3::7/128", RouteTarget::Blackhole),
        to("::/0", RouteTarget::Blackhole),
        to("fd00:4::/64", RouteTarget::Prohibit),
    ]
}

fn routing(rules: Vec<Rule>, routes: Vec<Route>) -> Routing {
    Routing {
        rules: rules.into_iter().collect(),
        routes: by_key(routes),
    }
}

fn by_key(routes: impl IntoIterator<Item = Route>) -> BTreeMap<RouteKey, Route> {
    let routes = routes.into_iter();
    routes.map(|route| (route.key(), route)).collect()
}

fn everything() -> Routing {
    routing(rules(), routes(IfIndex(1)))
}

/// As if the kernel had it.
fn actual(routing: &Routing) -> ActualRouting {
    ActualRouting {
        rules: routing.rules.iter().map(of_rule).collect(),
        routes: routing
            .routes
            .values()
            .map(|route| of_route(route, table()))
            .collect(),
    }
}

#[test]
fn messages_say_what_they_are_made_of() {
    for rule in rules() {
        assert_eq!(to_rule(&of_rule(&rule)), Some(rule));
    }
    for route in routes(IfIndex(7)) {
        let message = of_route(&route, table());
        assert_eq!(to_route(&message), Some(route));
        assert_eq!(table_of_route(&message), 51871);
    }
}

#[test]
fn routes_come_before_rules_and_go_after_them() {
    let desired = everything();
    let is_route = |change: &RoutingChange| {
        matches!(
            change,
            RoutingChange::SetRoute(_) | RoutingChange::RemoveRoute(_)
        )
    };
    let arrival = plan(table(), &desired, &ActualRouting::default()).expect("nobody else");
    assert_eq!(arrival.len(), desired.rules.len() + desired.routes.len());
    assert!(
        arrival.is_sorted_by_key(|change| !is_route(change)),
        "{arrival:#?}"
    );
    assert_eq!(
        plan(table(), &desired, &actual(&desired)).expect("nobody else"),
        []
    );
    let leaving = plan(table(), &Routing::default(), &actual(&desired)).expect("nobody else");
    assert_eq!(leaving.len(), arrival.len());
    assert!(leaving.is_sorted_by_key(is_route), "{leaving:#?}");
    assert_eq!(leaving, plan::removal(table(), &actual(&desired)));
}

#[test]
fn a_route_that_differs_is_replaced_and_no_other() {
    let before = everything();
    let mut desired = before.clone();
    let (to, is_last) = (prefix("10.2.0.0/16"), false);
    let key = RouteKey { to, is_last };
    desired.routes.get_mut(&key).expect("there").mtu = Some(1320);
    let changes = plan(table(), &desired, &actual(&before)).expect("nobody else");
    assert_eq!(changes, [RoutingChange::SetRoute(desired.routes[&key])]);
}

#[test]
fn routes_of_the_table_of_before_go_with_the_rules_that_led_there() {
    let other = RouteTable::try_from(200).expect("valid");
    let led = rule(
        Family::V4,
        100,
        Selector::default(),
        RuleAction::Table(other),
    );
    let route = routes(IfIndex(1))[1];
    let actual = ActualRouting {
        rules: vec![of_rule(&led)],
        routes: vec![of_route(&route, other)],
    };
    let changes = plan(table(), &Routing::default(), &actual).expect("nobody else");
    let shown: Vec<_> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "remove rule 100: from all lookup 200",
            "remove route 10.3.0.7/32 dev #1",
        ]
    );
}

/// The mark may be another one after a restart.
#[test]
fn the_rule_of_an_earlier_mark_goes() {
    let of_mark = |mark| {
        let selector = Selector {
            mark: Some((mark, u32::MAX)),
            ..Selector::default()
        };
        rule(Family::V4, 60, selector, RuleAction::Main)
    };
    let before = of_mark(mark());
    let now = of_mark(FirewallMark::try_from(0x1357).expect("not 0"));
    let actual = actual(&routing(vec![before.clone()], vec![]));
    let desired = routing(vec![now.clone()], vec![]);
    let changes = plan(table(), &desired, &actual).expect("nobody else");
    assert_eq!(
        changes,
        [
            RoutingChange::AddRule(now),
            RoutingChange::RemoveRule(of_rule(&before)),
        ]
    );
}

/// Runs a test with a connection in a namespace of its own.
fn with_netlink(test: impl AsyncFnOnce(Netlink) + Send + 'static) {
    in_private_namespace(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("a runtime");
        runtime.block_on(async { test(Netlink::connect().expect("a socket")).await });
    });
}

#[test]
fn the_kernel_has_what_it_was_told_and_nothing_is_left() {
    with_netlink(async |netlink| {
        let loopback = IfIndex(1);
        let desired = routing(rules(), routes(loopback));
        let count = desired.rules.len() + desired.routes.len();
        assert_eq!(
            apply(&netlink, table(), &desired).await.expect("set"),
            count
        );
        assert_eq!(apply(&netlink, table(), &desired).await.expect("same"), 0);

        // Every route to another target, and half of the rules.
        let mut other = desired.clone();
        other.rules = desired.rules.iter().step_by(2).cloned().collect();
        other.routes = by_key(desired.routes.values().map(|route| Route {
            target: match route.target {
                RouteTarget::Device(_) => RouteTarget::Prohibit,
                _ => RouteTarget::Device(loopback),
            },
            source: None,
            mtu: Some(1280),
            ..*route
        }));
        apply(&netlink, table(), &other).await.expect("changed");
        assert_eq!(apply(&netlink, table(), &other).await.expect("same"), 0);

        ip("rule add priority 1000 from 10.9.0.0/16 lookup 7");
        ip("route add 10.9.0.0/16 dev lo table 7");
        let removed = remove_all(&netlink, table()).await.expect("removed");
        assert_eq!(removed, other.rules.len() + other.routes.len());
        assert_eq!(remove_all(&netlink, table()).await.expect("nothing"), 0);
        // They fail if what others made is gone.
        ip("rule delete priority 1000");
        ip("route delete 10.9.0.0/16 dev lo table 7");
    });
}

#[test]
fn what_others_made_is_named_and_nothing_is_changed() {
    with_netlink(async |netlink| {
        let lookup = RuleAction::Table(table());
        let marked = Selector {
            mark: Some((mark(), u32::MAX)),
            ..Selector::default()
        };
        let desired = routing(
            vec![
                rule(Family::V4, 90, marked, RuleAction::Main),
                rule(Family::V4, 100, Selector::default(), lookup),
            ],
            routes(IfIndex(1)),
        );
        for (add, remove, expected) in [
            (
                "route add 10.9.0.0/16 dev lo table 51871",
                "route delete 10.9.0.0/16 dev lo table 51871",
                "routing table 51871 is used by someone else: route 10.9.0.0/16 dev #1 (proto 3)",
            ),
            (
                "-6 route add unreachable fd09::/64 table 51871 proto 88",
                "-6 route delete unreachable fd09::/64 table 51871",
                // Not one that ours could be, so no more is told of it.
                "routing table 51871 is used by someone else: route to fd09::/64 (proto 88)",
            ),
            (
                "rule add protocol 88 priority 500 from 10.9.0.0/16 lookup 51871",
                "rule delete priority 500",
                "routing table 51871 is used by someone else: rule 500: from 10.9.0.0/16 lookup \
                 51871 (proto 88)",
            ),
            (
                "rule add protocol 88 priority 100 iif lo lookup 7",
                "rule delete priority 100",
                "rule priority 100 is used by someone else: rule 100 that leads to table 7 (proto \
                 88)",
            ),
            (
                "rule add protocol 88 priority 50 fwmark 0xe1f0 lookup 700",
                "rule delete priority 50",
                "firewall mark 0xe1f0 is used by someone else: rule 50: from all fwmark \
                 0xe1f0/0xffffffff lookup 700 (proto 88)",
            ),
        ] {
            ip(add);
            let error = apply(&netlink, table(), &desired)
                .await
                .expect_err(add)
                .to_string();
            assert!(error.starts_with(expected), "{add}: {error}");
            let ours = read(&netlink).await.expect("readable");
            assert_eq!(
                plan::removal(table(), &ours),
                [],
                "{add}: nothing was changed"
            );
            ip(remove);
        }
        // Where our rule for the mark is asked first, theirs takes nothing.
        ip("rule add protocol 88 priority 500 fwmark 0xe1f0 lookup 700");
        apply(&netlink, table(), &desired)
            .await
            .expect("nobody else now");
    });
}

#[test]
fn the_way_to_an_endpoint_is_found_with_its_mtu() {
    with_netlink(async |netlink| {
        ip("link add wire type veth peer name far");
        ip("link set wire mtu 1400 up");
        ip("link set far up");
        ip("address add 192.0.2.1/24 dev wire");
        ip("route add 198.51.100.0/24 via 192.0.2.2 mtu 1300");
        ip("rule add fwmark 0xe1f0 to 203.0.113.0/24 prohibit");
        let way = async |to: [u8; 4]| {
            let way = crate::encryption::mtu::path(&netlink, to.into(), mark()).await;
            let way = way.expect("answered")?;
            let link = netlink.link_at(way.interface).await.expect("answered");
            Some((link.expect("it is there").mtu, way.learnt))
        };
        assert_eq!(way([192, 0, 2, 9]).await, Some((1400, None)));
        assert_eq!(way([198, 51, 100, 9]).await, Some((1400, Some(1300))));
        assert_eq!(way([8, 8, 8, 8]).await, None);
        assert_eq!(way([203, 0, 113, 9]).await, None, "the mark counts");
    });
}
