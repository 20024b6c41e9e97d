//! The routes into the device, and the rules that lead to them.
//!
//! | place | rule | for |
//! | --- | --- | --- |
//! | first | marked as encrypted: main table | the device's own packets never enter it again |
//! | +1 | from pods of this node: our table | pods to pods and to other nodes |
//! | +2 | to ranges with pods of other nodes: our table | the node, and clients whose connections it passes on |
//! | +3 | to excepted nodes: main table | with encryption of nodes |
//! | +4 | from and to excepted ports, from the device's own port: main table | with encryption of nodes |
//! | +5 | all (IPv4: all protocols that carry data): our table | with encryption of nodes |
//!
//! In strict mode each node's address has a route that leads nowhere as well, for when there is no device,
//! or no peer yet. Packets to pods are stopped by the programs at the uplinks then, which count and report
//! them; but who sends to a node is not known there any more if the CNI masquerades what pods send to
//! nodes. Where nodes encrypt their own traffic, that has no way without the device either: the peer's
//! answers come encrypted. What they send to those that are no peers goes by the main table.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Desired;
use super::nodes::Standing;
use crate::config::{self, StrictMode};
use crate::encryption::link::IfIndex;
use crate::encryption::path_mtu::Tunnels;
use crate::encryption::routing::{
    Family, PortProtocol, Route, RouteTarget, Routing, Rule, RuleAction, Selector,
};
use crate::encryption::{FirewallMark, InvalidValue, Port, Prefix, RouteTable, RulePriority};

/// All bits of a mark.
const WHOLE_MARK: u32 = u32::MAX;

/// What routing needs to know besides the objects.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// The WireGuard device.
    pub index: IfIndex,
    /// Addresses of this node, the source of what it sends itself.
    pub source: [Option<IpAddr>; 2],
    /// What fits into the tunnels.
    pub tunnels: &'a Tunnels,
    /// Whether the kernel has IPv6, and it is not switched off.
    pub has_ipv6: bool,
    /// Names of peers that no route leads to yet.
    pub waited_for: &'a BTreeSet<String>,
}

/// Decides.
///
/// # Errors
/// A number in the settings that is not one of its kind.
pub fn routing(
    desired: &Desired,
    device: Device<'_>,
    config: &config::Encryption,
) -> Result<Routing, InvalidValue> {
    let settings = &config.wireguard;
    let mark = FirewallMark::try_from(settings.firewall_mark.get())?;
    let table = RouteTable::try_from(settings.route_table.get())?;
    let first = settings.rule_priority.get();
    let mut routes = Vec::new();
    let answering = desired.peer_nodes();
    for member in answering.filter(|member| !device.waited_for.contains(&member.name)) {
        let own = member.addresses.iter().copied().map(Prefix::from);
        let mtu = member
            .endpoint()
            .and_then(|endpoint| device.tunnels.route(endpoint.ip()));
        for to in member.pods.iter().copied().chain(own) {
            let [v4, v6] = device.source;
            routes.push(Route {
                to,
                target: RouteTarget::Device(device.index),
                source: if to.is_ipv4() { v4 } else { v6 },
                mtu,
            });
        }
    }
    routes.extend(guarded_addresses(desired, config).map(|to| Route {
        to: to.into(),
        // Not "unreachable": a connection that opens now succeeds with its next try.
        target: RouteTarget::Blackhole,
        source: None,
        mtu: None,
    }));
    let is_usable = |family| device.has_ipv6 || family == Family::V4;
    routes.retain(|route| is_usable(Family::of(route.to)));
    let mut routing = Routing {
        routes: routes.into_iter().map(|it| (it.key(), it)).collect(),
        ..Routing::default()
    };
    let mut add = |family, place: u32, selector, action| -> Result<(), InvalidValue> {
        if !is_usable(family) {
            return Ok(());
        }
        routing.rules.insert(Rule {
            family,
            priority: RulePriority::try_from(first + place)?,
            selector,
            action,
        });
        Ok(())
    };
    let into = RuleAction::Table(table);
    for family in Family::ALL {
        let marked = Selector {
            mark: Some((mark, WHOLE_MARK)),
            ..Selector::default()
        };
        add(family, 0, marked, RuleAction::Main)?;
        if config.node && !desired.this_node().is_some_and(|this| this.excepted) {
            for selector in of_ports_in_clear(config)? {
                add(family, 4, selector, RuleAction::Main)?;
            }
            for protocol in protocols(family) {
                let selector = Selector {
                    protocol,
                    ..Selector::default()
                };
                add(family, 5, selector, into)?;
            }
        }
    }
    for range in own_pods(desired, &config.strict_mode) {
        let selector = Selector {
            from: Some(range),
            ..Selector::default()
        };
        add(Family::of(range), 1, selector, into)?;
    }
    for range in ranges_with_pods_of_peers(desired) {
        let selector = Selector {
            to: Some(range),
            ..Selector::default()
        };
        add(Family::of(range), 2, selector, into)?;
    }
    for address in excepted_addresses(desired).filter(|_| config.node) {
        let address = Prefix::from(address);
        let selector = Selector {
            to: Some(address),
            ..Selector::default()
        };
        add(Family::of(address), 3, selector, RuleAction::Main)?;
    }
    Ok(routing)
}

/// Addresses of other nodes that our table must not leave to the main one.
fn guarded_addresses(
    desired: &Desired,
    config: &config::Encryption,
) -> impl Iterator<Item = IpAddr> {
    let strict = &config.strict_mode;
    let guarded = desired
        .members
        .iter()
        .filter(|member| match member.standing {
            Standing::This => false,
            Standing::Peer { .. } => strict.enabled,
            Standing::NoKey | Standing::Refused => strict.enabled && !config.node,
        });
    let is_allowed = |address: &IpAddr| {
        let mut allowed = strict.allowed_cidrs.iter();
        allowed.any(|range| range.contains(address))
    };
    let addresses = guarded.flat_map(|member| member.addresses.iter().copied());
    addresses.filter(move |address| !is_allowed(address))
}

/// Protocols of the nodes' own packets that enter the device; `None` is all.
///
/// IPv4 names them one by one. A node answers an ARP request only if the way back to the asking node
/// is the interface that it came by, where the filter on the reverse path is strict; and the kernel
/// looks for that way without a protocol.
fn protocols(family: Family) -> Vec<Option<u8>> {
    /// ICMP, IP in IP, TCP, UDP, IPv6 in IP, GRE, SCTP.
    const WITH_DATA: [u8; 7] = [1, 4, 6, 17, 41, 47, 132];
    match family {
        Family::V4 => WITH_DATA.map(Some).to_vec(),
        Family::V6 => vec![None],
    }
}

/// Packets of nodes that never enter the device, by their ports.
fn of_ports_in_clear(config: &config::Encryption) -> Result<Vec<Selector>, InvalidValue> {
    let port = |number: u32| Port::try_from(u16::try_from(number).unwrap_or_default());
    // By their mark the device's packets find the way out; but the filter on the reverse path looks
    // for the way back to those that come in, which have none.
    let mut selectors = vec![Selector {
        source_port: Some((PortProtocol::Udp, port(config.wireguard.port.get())?)),
        ..Selector::default()
    }];
    for excepted in &config.node_except_ports {
        let excepted = Some((PortProtocol::Tcp, port(excepted.get())?));
        selectors.push(Selector {
            port: excepted,
            ..Selector::default()
        });
        // The answers.
        selectors.push(Selector {
            source_port: excepted,
            ..Selector::default()
        });
    }
    Ok(selectors)
}

/// Ranges with the pods of all peers. What lies between them finds no route in our table and goes on to
/// the next rule. An address of a node might find one, and lies in none.
fn ranges_with_pods_of_peers(desired: &Desired) -> Vec<Prefix> {
    let pods = desired.peer_nodes().flat_map(|it| &it.pods);
    few_ranges(pods.copied().collect(), &addresses_of_nodes(desired))
}

/// The pods of this node, and in strict mode the ranges that pods are known to be in by the settings: a new
/// pod sends before anybody knows it. Not those with a node's address, as that of this one would be meant too.
fn own_pods(desired: &Desired, strict: &StrictMode) -> Vec<Prefix> {
    let addresses = addresses_of_nodes(desired);
    let configured = strict.pod_cidrs.iter().copied().map(Prefix::from);
    let configured = configured.filter(|range| {
        strict.enabled && range.length() > 0 && !addresses.iter().any(|it| range.contains(*it))
    });
    let pods = desired.this_node().into_iter().flat_map(|it| &it.pods);
    let nets: Vec<IpNet> = configured.chain(pods.copied()).map(Prefix::net).collect();
    IpNet::aggregate(&nets)
        .into_iter()
        .map(Prefix::from)
        .collect()
}

fn addresses_of_nodes(desired: &Desired) -> BTreeSet<IpAddr> {
    let addresses = desired.members.iter().flat_map(|it| &it.addresses);
    addresses.copied().collect()
}

/// As few ranges as hold all of `pods` and nothing of what is `apart`, however many pods there are: rules
/// are asked one by one, by each packet, and each that comes or goes has the kernel look its ways up anew.
fn few_ranges(pods: BTreeSet<Prefix>, apart: &BTreeSet<IpAddr>) -> Vec<Prefix> {
    let is_free = |range: Prefix| {
        let mut next = apart.range(range.address()..);
        // A rule about everything would be one of another kind.
        range.length() > 0 && !next.next().is_some_and(|address| range.contains(*address))
    };
    let mut ranges: Vec<Prefix> = Vec::new();
    // In their order, so that those of one range follow one another.
    for pods in pods {
        let last = ranges.last().copied();
        let with_last = last.and_then(|last| last.and_wider().find(|it| it.covers(pods)));
        match with_last {
            Some(range) if Some(range) == last || is_free(range) => {
                ranges.pop();
                ranges.push(range);
            }
            _ => ranges.push(pods),
        }
    }
    ranges
}

fn excepted_addresses(desired: &Desired) -> impl Iterator<Item = IpAddr> {
    let excepted = desired
        .members
        .iter()
        .filter(|member| member.excepted && member.standing != Standing::This);
    excepted.flat_map(|member| member.addresses.iter().copied())
}
