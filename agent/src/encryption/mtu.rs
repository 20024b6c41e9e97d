//! Largest packets: what fits into the tunnel, given what fits into the way below it.
//!
//! An encrypted packet is longer than the one inside it, by a fixed number of bytes
//! ([`overhead`]). The padding to 16 bytes does not count: WireGuard never pads beyond the MTU of the
//! route, or the device's for what comes without one ([`without_padding`]). The way below is told by
//! [`path`], which asks the kernel for the route that encrypted packets take, with what it has learnt of
//! their path's MTU; all paths are followed in [`super::path_mtu`].

use std::io;
use std::net::IpAddr;

use futures::TryStreamExt;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteMetric};
use rtnetlink::RouteMessageBuilder;

use super::link::{IfIndex, Netlink, io_error};
use super::routing::Family;
use super::values::FirewallMark;

/// Header and tag of a data packet of WireGuard: type, receiver, counter; tag.
const WIREGUARD: u32 = 4 + 4 + 8 + 16;
const UDP: u32 = 8;
const IPV4: u32 = 20;
const IPV6: u32 = 40;

/// IPv6 is switched off on interfaces with less.
const IPV6_MINIMUM: u32 = 1280;
/// What every host must be able to receive by IPv4.
const IPV4_MINIMUM: u32 = 576;

/// Bytes that encryption adds to a packet, by the family of the peer's endpoint.
pub const fn overhead(endpoint: Family) -> u32 {
    let outer = match endpoint {
        Family::V4 => IPV4,
        Family::V6 => IPV6,
    };
    outer + UDP + WIREGUARD
}

/// What fits into the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelMtu {
    /// Largest packet inside, in bytes.
    pub bytes: u32,
    /// Whether such a packet does not fit into the way below in one piece. It is sent in
    /// fragments then, which costs speed and which some networks drop: worth a warning.
    pub fragments: bool,
}

/// Largest packet inside a tunnel over a way with this MTU. Not below what the family inside needs
/// to work at all: 1280 bytes if that can be IPv6.
pub fn tunnel(underlay: u32, endpoint: Family, ipv6_inside: bool) -> TunnelMtu {
    let fits = underlay.saturating_sub(overhead(endpoint));
    let minimum = if ipv6_inside {
        IPV6_MINIMUM
    } else {
        IPV4_MINIMUM
    };
    TunnelMtu {
        bytes: fits.max(minimum),
        fragments: fits < minimum,
    }
}

/// Largest packet of at most so many bytes that WireGuard does not pad: it does to 16 bytes.
pub const fn without_padding(bytes: u32) -> u32 {
    const PADDED_TO: u32 = 16;
    bytes / PADDED_TO * PADDED_TO
}

/// MTU of the device: that of the widest of its tunnels. Routes narrow it for each peer, see
/// [`route`]. `None` without peers.
pub fn device(tunnels: impl IntoIterator<Item = TunnelMtu>) -> Option<u32> {
    tunnels.into_iter().map(|tunnel| tunnel.bytes).max()
}

/// MTU to write on the routes to a peer; `None` where that of the device is the same.
pub fn route(tunnel: TunnelMtu, device: u32) -> Option<u32> {
    (tunnel.bytes < device).then_some(tunnel.bytes)
}

/// The path that encrypted packets take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnderlayPath {
    /// Interface they leave by.
    pub interface: IfIndex,
    /// Largest packet that is known to pass beyond it, in bytes: learnt, or set on the route.
    pub learnt: Option<u32>,
}

/// The path to an endpoint; `None` if there is none.
///
/// The kernel knows a smaller MTU of the path after a router has told it, and forgets it after some
/// minutes: ask again from time to time.
pub async fn path(
    netlink: &Netlink,
    endpoint: IpAddr,
    mark: FirewallMark,
) -> io::Result<Option<UnderlayPath>> {
    let mut request = match endpoint {
        IpAddr::V4(address) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(address, 32)
            .build(),
        IpAddr::V6(address) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(address, 128)
            .build(),
    };
    request.header.table = 0;
    request.attributes.push(RouteAttribute::Mark(mark.get()));
    let mut routes = netlink.handle().route().get(request).execute();
    match routes.try_next().await.map_err(io_error) {
        Ok(found) => Ok(found.as_ref().and_then(path_of)),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES) => Ok(None),
            _ => Err(error),
        },
    }
}

fn path_of(route: &RouteMessage) -> Option<UnderlayPath> {
    let (mut interface, mut learnt) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(IfIndex(*index)),
            RouteAttribute::Metrics(metrics) => {
                learnt = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(bytes) => Some(*bytes),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let interface = interface?;
    Some(UnderlayPath { interface, learnt })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overhead_is_that_of_the_protocol() {
        assert_eq!(overhead(Family::V4), 60);
        assert_eq!(overhead(Family::V6), 80);
    }

    #[test]
    fn a_tunnel_is_as_wide_as_the_way_below_lets_it_be() {
        for (name, underlay, endpoint, ipv6, bytes, fragments) in [
            ("ethernet", 1500, Family::V4, true, 1440, false),
            ("ethernet, IPv6 below", 1500, Family::V6, true, 1420, false),
            ("in a VXLAN", 1450, Family::V4, true, 1390, false),
            ("jumbo frames", 9000, Family::V6, true, 8920, false),
            ("narrow", 1400, Family::V6, true, 1320, false),
            ("just wide enough", 1360, Family::V6, true, 1280, false),
            ("too narrow for IPv6", 1359, Family::V6, true, 1280, true),
            (
                "narrow, but IPv4 only",
                1280,
                Family::V4,
                false,
                1220,
                false,
            ),
            ("too narrow for anything", 600, Family::V4, false, 576, true),
            ("nonsense", 0, Family::V6, false, 576, true),
        ] {
            let expected = TunnelMtu { bytes, fragments };
            assert_eq!(tunnel(underlay, endpoint, ipv6), expected, "{name}");
        }
    }

    #[test]
    fn the_device_is_as_wide_as_its_widest_tunnel_and_routes_narrow_it() {
        let wide = tunnel(1500, Family::V4, true);
        let narrow = tunnel(1500, Family::V6, true);
        assert_eq!(device([narrow, wide]), Some(1440));
        assert_eq!(device([]), None);
        assert_eq!(route(narrow, 1440), Some(1420));
        assert_eq!(route(wide, 1440), None);
    }
}
