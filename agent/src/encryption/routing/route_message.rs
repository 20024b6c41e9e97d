//! Routes as netlink messages, there and back. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
    RouteProtocol, RouteScope, RouteType,
};

use super::{Family, PROTOCOL, Route, RouteTarget};
use crate::encryption::link::IfIndex;
use crate::encryption::values::{Prefix, RouteTable};

/// Metric of an IPv6 route that names none. The kernel adds it; named, it is the same everywhere.
const IPV6_METRIC: u32 = 1024;
/// Metric of routes that count only where no other does: any number above [`IPV6_METRIC`].
const LAST_METRIC: u32 = 65_536;

/// The metric of a route, if it has one.
fn metric(family: Family, target: RouteTarget) -> Option<u32> {
    match family {
        _ if target.is_last() => Some(LAST_METRIC),
        Family::V4 => None,
        Family::V6 => Some(IPV6_METRIC),
    }
}

/// The message that asks for a route in a table.
pub fn of_route(route: &Route, table: RouteTable) -> RouteMessage {
    let mut message = RouteMessage::default();
    let family = Family::of(route.to);
    message.header = RouteHeader {
        address_family: family.address_family(),
        destination_prefix_length: route.to.length(),
        protocol: RouteProtocol::from(PROTOCOL),
        // Of a device, without a gateway. IPv6 knows no scopes.
        scope: match (family, route.target) {
            (Family::V4, RouteTarget::Device(_)) => RouteScope::Link,
            _ => RouteScope::Universe,
        },
        kind: match route.target {
            RouteTarget::Device(_) => RouteType::Unicast,
            RouteTarget::Blackhole => RouteType::BlackHole,
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
    attributes.extend(metric(family, route.target).map(RouteAttribute::Priority));
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
    let (mut device, mut source, mut mtu, mut priority) = (None, None, None, None);
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
            RouteAttribute::Priority(metric) => priority = Some(*metric),
            RouteAttribute::Table(_)
            | RouteAttribute::CacheInfo(_)
            | RouteAttribute::Preference(_) => {}
            _ => return None,
        }
    }
    let target = match header.kind {
        RouteType::Unicast => RouteTarget::Device(device?),
        // IPv6 shows the loopback device with them.
        RouteType::BlackHole => RouteTarget::Blackhole,
        RouteType::Prohibit => RouteTarget::Prohibit,
        _ => return None,
    };
    let to = Prefix::new(to, header.destination_prefix_length).ok()?;
    let is_plain = header.tos == 0 && header.source_prefix_length == 0;
    (is_plain && priority == metric(Family::of(to), target)).then_some(Route {
        to,
        target,
        source,
        mtu,
    })
}

/// An address of a route; `None` for what is none of IP.
fn plain(address: &RouteAddress) -> Option<IpAddr> {
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
