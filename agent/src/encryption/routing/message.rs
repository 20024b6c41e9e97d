//! Rules and routes as netlink messages, there and back. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::IpProtocol;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
    RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{
    RuleAction as ActionMessage, RuleAttribute, RuleFlags, RuleMessage, RulePortRange,
};

use super::{Family, PROTOCOL, PortProtocol, Route, RouteTarget, Rule, RuleAction, Selector};
use crate::encryption::link::IfIndex;
use crate::encryption::values::{FirewallMark, Port, Prefix, RouteTable, RulePriority};

/// Metric of an IPv6 route that names none. The kernel adds it; named, it is the same everywhere.
const IPV6_METRIC: u32 = 1024;

fn family_of(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// The message that asks for a route in a table.
pub fn of_route(route: &Route, table: RouteTable) -> RouteMessage {
    let mut message = RouteMessage::default();
    let family = Family::of(route.to);
    message.header = RouteHeader {
        address_family: family_of(family),
        destination_prefix_length: route.to.length(),
        protocol: RouteProtocol::from(PROTOCOL),
        // Of a device, without a gateway. IPv6 knows no scopes.
        scope: match (family, route.target) {
            (Family::V4, RouteTarget::Device(_)) => RouteScope::Link,
            _ => RouteScope::Universe,
        },
        kind: match route.target {
            RouteTarget::Device(_) => RouteType::Unicast,
            RouteTarget::Unreachable => RouteType::Unreachable,
            RouteTarget::Prohibit => RouteType::Prohibit,
        },
        ..RouteHeader::default()
    };
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(table.get()));
    if route.to.length() > 0 {
        attributes.push(RouteAttribute::Destination(address(route.to.address())));
    }
    if let RouteTarget::Device(index) = route.target {
        attributes.push(RouteAttribute::Oif(index.0));
    }
    if family == Family::V6 {
        attributes.push(RouteAttribute::Priority(IPV6_METRIC));
    }
    attributes.extend(
        route
            .source
            .map(|source| RouteAttribute::PrefSource(address(source))),
    );
    let mtu = route.mtu.map(|mtu| vec![RouteMetric::Mtu(mtu)]);
    attributes.extend(mtu.map(RouteAttribute::Metrics));
    message
}

fn address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

/// The route of a message; `None` if it says more than a route of ours can.
pub fn to_route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let mut to: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    let (mut device, mut source, mut mtu) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(destination) => to = plain(destination)?,
            RouteAttribute::PrefSource(address) => source = Some(plain(address)?),
            RouteAttribute::Oif(index) => device = Some(IfIndex(*index)),
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    match metric {
                        RouteMetric::Mtu(bytes) => mtu = Some(*bytes),
                        _ => return None,
                    }
                }
            }
            RouteAttribute::Priority(IPV6_METRIC)
            | RouteAttribute::Table(_)
            | RouteAttribute::CacheInfo(_)
            | RouteAttribute::Preference(_) => {}
            _ => return None,
        }
    }
    let target = match header.kind {
        RouteType::Unicast => RouteTarget::Device(device?),
        // IPv6 shows the loopback device with them.
        RouteType::Unreachable => RouteTarget::Unreachable,
        RouteType::Prohibit => RouteTarget::Prohibit,
        _ => return None,
    };
    let to = Prefix::new(to, header.destination_prefix_length).ok()?;
    (header.tos == 0 && header.source_prefix_length == 0).then_some(Route {
        to,
        target,
        source,
        mtu,
    })
}

/// An address of a route; `None` for what is none of IP.
pub fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// Whether a route is one that someone made, and not one the kernel keeps to itself.
pub fn is_relevant(message: &RouteMessage) -> bool {
    !message.header.flags.contains(RouteFlags::Cloned)
}

/// The table a route is in.
pub fn table_of_route(message: &RouteMessage) -> u32 {
    let named = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
    named.unwrap_or(message.header.table.into())
}

/// Who made a route.
pub fn protocol_of_route(message: &RouteMessage) -> u8 {
    message.header.protocol.into()
}

/// A route as `ip route` shows it, about.
pub fn show_route(message: &RouteMessage) -> String {
    if let Some(route) = to_route(message) {
        return route.to_string();
    }
    let length = message.header.destination_prefix_length;
    let to = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(destination) => plain(destination),
            _ => None,
        });
    let to = to.map_or_else(|| "default".to_owned(), |to| format!("{to}/{length}"));
    format!("route to {to}")
}

/// The message that asks for a rule.
pub fn of_rule(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family_of(rule.family);
    if rule.selector.not {
        message.header.flags |= RuleFlags::Invert;
    }
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority.get()));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)));
    message.header.action = match rule.action {
        RuleAction::Table(table) => {
            attributes.push(RuleAttribute::Table(table.get()));
            ActionMessage::ToTable
        }
        RuleAction::Main => {
            let main = RouteHeader::RT_TABLE_MAIN;
            attributes.push(RuleAttribute::Table(main.into()));
            ActionMessage::ToTable
        }
        RuleAction::Prohibit => ActionMessage::Prohibit,
    };
    let selector = &rule.selector;
    if let Some((mark, mask)) = selector.mark {
        attributes.push(RuleAttribute::FwMark(mark.get()));
        attributes.push(RuleAttribute::FwMask(mask));
    }
    if let Some(from) = selector.from {
        message.header.src_len = from.length();
        attributes.push(RuleAttribute::Source(from.address()));
    }
    if let Some(to) = selector.to {
        message.header.dst_len = to.length();
        attributes.push(RuleAttribute::Destination(to.address()));
    }
    if let Some((protocol, port)) = selector.port {
        attributes.push(RuleAttribute::IpProtocol(match protocol {
            PortProtocol::Tcp => IpProtocol::Tcp,
            PortProtocol::Udp => IpProtocol::Udp,
        }));
        let (start, end) = (port.get(), port.get());
        attributes.push(RuleAttribute::DestinationPortRange(RulePortRange {
            start,
            end,
        }));
    }
    message
}

/// The rule of a message; `None` if it says more than a rule of ours can.
pub fn to_rule(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    let mut selector = Selector {
        not: header.flags.contains(RuleFlags::Invert),
        ..Selector::default()
    };
    let (mut mark, mut mask, mut protocol, mut port) = (None, u32::MAX, None, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::FwMark(value) if *value != 0 => mark = Some(FirewallMark::try_from(*value).ok()?),
            RuleAttribute::FwMask(value) => mask = *value,
            RuleAttribute::Source(address) => {
                selector.from = Some(Prefix::new(*address, header.src_len).ok()?);
            }
            RuleAttribute::Destination(address) => {
                selector.to = Some(Prefix::new(*address, header.dst_len).ok()?);
            }
            RuleAttribute::IpProtocol(IpProtocol::Tcp) => protocol = Some(PortProtocol::Tcp),
            RuleAttribute::IpProtocol(IpProtocol::Udp) => protocol = Some(PortProtocol::Udp),
            RuleAttribute::DestinationPortRange(range) if range.start == range.end => {
                port = Some(Port::try_from(range.start).ok()?);
            }
            RuleAttribute::FwMark(_)
            | RuleAttribute::Priority(_)
            | RuleAttribute::Protocol(_)
            | RuleAttribute::Table(_)
            // "Suppress nothing", which the kernel always says.
            | RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            RuleAttribute::Other(other) if is_whole_port(other) => {}
            _ => return None,
        }
    }
    selector.mark = mark.map(|mark| (mark, mask));
    selector.port = match (protocol, port) {
        (Some(protocol), Some(port)) => Some((protocol, port)),
        (None, None) => None,
        _ => return None,
    };
    let action = match (header.action, table_of_rule(message)) {
        (ActionMessage::ToTable, table) if table == u32::from(RouteHeader::RT_TABLE_MAIN) => {
            RuleAction::Main
        }
        (ActionMessage::ToTable, table) => RuleAction::Table(RouteTable::try_from(table).ok()?),
        (ActionMessage::Prohibit, _) => RuleAction::Prohibit,
        _ => return None,
    };
    (header.tos == 0).then_some(Rule {
        family: match header.family {
            AddressFamily::Inet => Family::V4,
            _ => Family::V6,
        },
        priority: RulePriority::try_from(priority_of_rule(message)).ok()?,
        selector,
        action,
    })
}

/// Whether an attribute says that all bits of the destination port count, as they always did.
///
/// # Kernel
/// Told from 6.15 on, for every rule with a port.
fn is_whole_port(attribute: &DefaultNla) -> bool {
    /// `FRA_DPORT_MASK` of `linux/fib_rules.h`.
    const DESTINATION_PORT_MASK: u16 = 29;
    let mut mask = [0; 2];
    let is_mask = attribute.kind() == DESTINATION_PORT_MASK && attribute.value_len() == mask.len();
    if is_mask {
        attribute.emit_value(&mut mask);
    }
    mask == [0xff; 2]
}

/// The table a rule leads to; 0 if it leads to none.
pub fn table_of_rule(message: &RuleMessage) -> u32 {
    let named = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Table(table) => Some(*table),
            _ => None,
        });
    named.unwrap_or(message.header.table.into())
}

/// A rule's place.
pub fn priority_of_rule(message: &RuleMessage) -> u32 {
    let named = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Priority(priority) => Some(*priority),
            _ => None,
        });
    named.unwrap_or(0)
}

/// Who made a rule.
pub fn protocol_of_rule(message: &RuleMessage) -> u8 {
    let named = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Protocol(protocol) => Some(u8::from(*protocol)),
            _ => None,
        });
    named.unwrap_or(0)
}

/// A rule as `ip rule` shows it, about.
pub fn show_rule(message: &RuleMessage) -> String {
    let priority = priority_of_rule(message);
    match (to_rule(message), table_of_rule(message)) {
        (Some(rule), _) => rule.to_string(),
        (None, 0) => format!("rule {priority}"),
        (None, table) => format!("rule {priority} that leads to table {table}"),
    }
}
