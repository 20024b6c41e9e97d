//! What messages of rtnetlink mean to us. Pure.

use std::net::IpAddr;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::MacAddr;
use super::select::Link;
use super::table::LinkAddress;

/// A message nobody asked for.
pub type Notification = NetlinkMessage<RouteNetlinkMessage>;

/// What to do about a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Others were lost before this: read everything again.
    Lost,
    /// The link exists and is this.
    Link(Link),
    /// The link of this number is gone.
    Gone(u32),
    /// Read the default routes again.
    DefaultRoutes,
    /// Read the addresses again.
    Addresses,
    /// It does not concern us.
    Nothing,
}

/// What `notification` asks for.
pub fn hint_of(notification: &Notification) -> Hint {
    use RouteNetlinkMessage as Message;
    let message = match &notification.payload {
        NetlinkPayload::Overrun(_) => return Hint::Lost,
        NetlinkPayload::InnerMessage(message) => message,
        _ => return Hint::Nothing,
    };
    match message {
        Message::NewLink(link) => link_of(link).map_or(Hint::Nothing, Hint::Link),
        Message::DelLink(link) if is_about_link(link) => Hint::Gone(link.header.index),
        Message::NewRoute(route) | Message::DelRoute(route) if is_default(route) => {
            Hint::DefaultRoutes
        }
        Message::NewAddress(_) | Message::DelAddress(_) => Hint::Addresses,
        _ => Hint::Nothing,
    }
}

/// Whether a link message is about the link itself. Bridges send the same types of message about
/// their view of it: a link that leaves a bridge is "deleted" in that family.
fn is_about_link(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

/// The link, if the message describes one.
pub fn link_of(message: &LinkMessage) -> Option<Link> {
    if !is_about_link(message) {
        return None;
    }
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let mut link = Link {
        ifindex: message.header.index,
        name: String::new(),
        mtu: 0,
        mac: None,
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        leads_elsewhere: leads_elsewhere(message),
        is_veth: is_of_kind(message, &[InfoKind::Veth]),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) if ethernet => {
                link.mac = bytes.as_slice().try_into().ok().map(MacAddr);
            }
            _ => {}
        }
    }
    Some(link)
}

/// Whether the link is one end of a pair whose other end is in another network namespace
/// (`IFLA_LINK_NETNSID`).
fn leads_elsewhere(message: &LinkMessage) -> bool {
    let mut attributes = message.attributes.iter();
    attributes.any(|it| matches!(it, LinkAttribute::LinkNetNsId(id) if *id >= 0))
        && is_of_kind(message, &[InfoKind::Veth, InfoKind::Netkit])
}

fn is_of_kind(message: &LinkMessage, kinds: &[InfoKind]) -> bool {
    let is_it = |info: &LinkInfo| matches!(info, LinkInfo::Kind(kind) if kinds.contains(kind));
    let mut attributes = message.attributes.iter();
    attributes.any(|it| matches!(it, LinkAttribute::LinkInfo(infos) if infos.iter().any(is_it)))
}

/// Whether packets without a more special route take it.
pub fn is_default(route: &RouteMessage) -> bool {
    let table = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
    route.header.destination_prefix_length == 0
        && route.header.kind == RouteType::Unicast
        && table.unwrap_or(route.header.table.into()) == u32::from(RouteHeader::RT_TABLE_MAIN)
}

/// The links a route leaves by.
pub fn links_of(route: &RouteMessage) -> impl Iterator<Item = u32> {
    route
        .attributes
        .iter()
        .flat_map(|attribute| match attribute {
            RouteAttribute::Oif(ifindex) => vec![*ifindex],
            RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
            _ => vec![],
        })
}

/// The address, if the node can be reached by it: not link-local, and nobody else's as far as is known.
pub fn address_of(message: &AddressMessage) -> Option<LinkAddress> {
    const UNUSABLE: AddressFlags = AddressFlags::Tentative.union(AddressFlags::Dadfailed);
    const SECOND_CHOICE: AddressFlags = AddressFlags::Deprecated.union(AddressFlags::Secondary);
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let mut address: Option<IpAddr> = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Flags(all) => flags = flags.union(*all),
            // On a point-to-point link `Address` is the peer's and `Local` ours.
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(found) => address = address.or(Some(*found)),
            _ => {}
        }
    }
    if flags.intersects(UNUSABLE) {
        return None;
    }
    let address = address?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    Some(LinkAddress {
        ifindex: message.header.index,
        address,
        is_first_choice: !flags.intersects(SECOND_CHOICE),
        is_alone: message.header.prefix_len == bits,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use netlink_packet_core::NetlinkHeader;
    use netlink_packet_route::route::RouteNextHop;

    use super::*;

    fn link(family: AddressFamily, layer: LinkLayerType) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.interface_family = family;
        message.header.index = 7;
        message.header.link_layer_type = layer;
        message.attributes = vec![
            LinkAttribute::IfName("veth7".into()),
            LinkAttribute::Mtu(1400),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 7]),
        ];
        message
    }

    fn hint(message: RouteNetlinkMessage) -> Hint {
        hint_of(&NetlinkMessage::new(
            NetlinkHeader::default(),
            NetlinkPayload::InnerMessage(message),
        ))
    }

    #[test]
    fn only_messages_about_the_link_itself_count() {
        let ether = LinkLayerType::Ether;
        let expected = Link {
            ifindex: 7,
            name: "veth7".into(),
            mtu: 1400,
            mac: Some(MacAddr([2, 0, 0, 0, 0, 7])),
            loopback: false,
            leads_elsewhere: false,
            is_veth: false,
        };
        let unspec = link(AddressFamily::Unspec, ether);
        let bridge = link(AddressFamily::Bridge, ether);
        assert_eq!(
            hint(RouteNetlinkMessage::NewLink(unspec.clone())),
            Hint::Link(expected)
        );
        assert_eq!(hint(RouteNetlinkMessage::DelLink(unspec)), Hint::Gone(7));
        assert_eq!(
            hint(RouteNetlinkMessage::NewLink(bridge.clone())),
            Hint::Nothing
        );
        assert_eq!(hint(RouteNetlinkMessage::DelLink(bridge)), Hint::Nothing);
    }

    #[test]
    fn pairs_lead_elsewhere_if_their_other_end_has_a_namespace() {
        let namespace = LinkAttribute::LinkNetNsId(3);
        let kind = |kind| LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]);
        let rows = [
            (vec![kind(InfoKind::Veth), namespace.clone()], true, true),
            (vec![namespace.clone(), kind(InfoKind::Netkit)], true, false),
            (vec![kind(InfoKind::Veth)], false, true),
            (
                vec![kind(InfoKind::Veth), LinkAttribute::LinkNetNsId(-1)],
                false,
                true,
            ),
            // Its other end is an address, and of no pod.
            (vec![kind(InfoKind::Vxlan), namespace], false, false),
        ];
        for (attributes, leads_elsewhere, is_veth) in rows {
            let mut message = link(AddressFamily::Unspec, LinkLayerType::Ether);
            message.attributes.extend(attributes);
            let link = link_of(&message).unwrap();
            let found = (link.leads_elsewhere, link.is_veth);
            assert_eq!(found, (leads_elsewhere, is_veth), "{message:?}");
        }
    }

    #[test]
    fn a_device_without_ethernet_has_no_mac() {
        let tunnel = link(AddressFamily::Unspec, LinkLayerType::Tunnel);
        assert_eq!(link_of(&tunnel).unwrap().mac, None);
    }

    #[test]
    fn an_overrun_means_that_something_was_lost() {
        let overrun = NetlinkPayload::Overrun(Vec::new());
        assert_eq!(
            hint_of(&NetlinkMessage::new(NetlinkHeader::default(), overrun)),
            Hint::Lost
        );
    }

    #[test]
    fn default_routes_are_those_of_the_main_table_to_everywhere() {
        let route = |prefix: u8, table: u8, kind: RouteType, wide: Option<u32>| {
            let mut route = RouteMessage::default();
            route.header.destination_prefix_length = prefix;
            route.header.table = table;
            route.header.kind = kind;
            route.attributes.extend(wide.map(RouteAttribute::Table));
            route
        };
        let cases = [
            (route(0, 254, RouteType::Unicast, None), true),
            (route(0, 252, RouteType::Unicast, Some(254)), true),
            (route(0, 254, RouteType::Unicast, Some(1000)), false),
            (route(0, 100, RouteType::Unicast, None), false),
            (route(24, 254, RouteType::Unicast, None), false),
            (route(0, 254, RouteType::Unreachable, None), false),
        ];
        for (route, expected) in cases {
            assert_eq!(is_default(&route), expected, "{route:?}");
        }
    }

    #[test]
    fn a_route_leaves_by_all_its_next_hops() {
        let mut route = RouteMessage::default();
        route.attributes.push(RouteAttribute::Oif(3));
        assert_eq!(links_of(&route).collect::<Vec<_>>(), [3]);
        let hops = [4, 5].map(|ifindex| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = ifindex;
            hop
        });
        route.attributes = vec![RouteAttribute::MultiPath(hops.to_vec())];
        assert_eq!(links_of(&route).collect::<Vec<_>>(), [4, 5]);
    }

    #[test]
    fn doubtful_addresses_are_left_out_and_others_come_second() {
        let address = |scope, flags: AddressFlags, attributes: &[AddressAttribute]| {
            let mut message = AddressMessage::default();
            message.header.index = 7;
            message.header.scope = scope;
            message.attributes = attributes.to_vec();
            message.attributes.push(AddressAttribute::Flags(flags));
            address_of(&message).map(|found| (found.address, found.is_first_choice))
        };
        let own = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
        let peer = IpAddr::from(Ipv4Addr::new(192, 0, 2, 9));
        let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
        let (universe, link) = (AddressScope::Universe, AddressScope::Link);
        let permanent = AddressFlags::Permanent;
        let point_to_point = [
            AddressAttribute::Address(peer),
            AddressAttribute::Local(own),
        ];
        let plain = [AddressAttribute::Address(v6)];
        assert_eq!(
            address(universe, permanent, &point_to_point),
            Some((own, true))
        );
        assert_eq!(address(universe, permanent, &plain), Some((v6, true)));
        assert_eq!(address(link, permanent, &plain), None);
        for (flag, expected) in [
            (AddressFlags::Tentative, None),
            (AddressFlags::Dadfailed, None),
            (AddressFlags::Deprecated, Some((v6, false))),
            (AddressFlags::Secondary, Some((v6, false))),
        ] {
            let found = address(universe, permanent.union(flag), &plain);
            assert_eq!(found, expected, "{flag:?}");
        }
    }

    #[test]
    fn an_address_is_alone_if_its_prefix_is_all_of_it() {
        for (ip, prefix_len, expected) in [
            ("192.0.2.1", 32, true),
            ("192.0.2.1", 24, false),
            ("2001:db8::1", 128, true),
            ("2001:db8::1", 32, false),
        ] {
            let mut message = AddressMessage::default();
            message.header.prefix_len = prefix_len;
            let ip = AddressAttribute::Address(ip.parse().unwrap());
            message.attributes = vec![ip];
            let found = address_of(&message).unwrap();
            assert_eq!(found.is_alone, expected, "{found:?}");
        }
    }
}
