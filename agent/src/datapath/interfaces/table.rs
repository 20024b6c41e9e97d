//! What the kernel said about links, routes and addresses, and what the reader knows of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::select::Link;
use super::{DeviceSelector, Interface, InterfaceEvent, UplinkAddresses};

/// An address that can be the source of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAddress {
    /// Link it is on.
    pub ifindex: u32,
    /// The address.
    pub address: IpAddr,
}

/// The two sides, and the way from one to the other.
#[derive(Debug)]
pub struct Table {
    selector: DeviceSelector,
    links: BTreeMap<u32, Link>,
    /// Links with a default route.
    default_routes: BTreeSet<u32>,
    /// In the order of the kernel, the primary address of a link first.
    addresses: Vec<LinkAddress>,
    told: BTreeMap<u32, Interface>,
    told_addresses: UplinkAddresses,
}

impl Table {
    /// Knows nothing yet.
    pub fn new(selector: DeviceSelector) -> Self {
        Self {
            selector,
            links: BTreeMap::new(),
            default_routes: BTreeSet::new(),
            addresses: Vec::new(),
            told: BTreeMap::new(),
            told_addresses: UplinkAddresses::default(),
        }
    }

    /// A link exists or changed.
    pub fn set_link(&mut self, link: Link) {
        self.links.insert(link.ifindex, link);
    }

    /// A link is gone.
    pub fn remove_link(&mut self, ifindex: u32) {
        self.links.remove(&ifindex);
    }

    /// All links there are.
    pub fn replace_links(&mut self, links: Vec<Link>) {
        self.links = links.into_iter().map(|link| (link.ifindex, link)).collect();
    }

    /// All links with a default route.
    pub fn replace_default_routes(&mut self, links: BTreeSet<u32>) {
        self.default_routes = links;
    }

    /// All usable addresses, in the order of the kernel.
    pub fn replace_addresses(&mut self, addresses: Vec<LinkAddress>) {
        self.addresses = addresses;
    }

    /// What the reader has to be told, as if it had been: removals first, since a name may move to
    /// another link.
    pub fn catch_up(&mut self) -> Vec<InterfaceEvent> {
        let wanted = self.wanted();
        let mut events = Vec::new();
        for (ifindex, told) in &self.told {
            if wanted
                .get(ifindex)
                .is_none_or(|wanted| wanted.role != told.role)
            {
                events.push(InterfaceEvent::Removed(told.clone()));
            }
        }
        for (ifindex, wanted) in &wanted {
            match self.told.get(ifindex) {
                Some(told) if told == wanted => {}
                Some(told) if told.role == wanted.role => {
                    events.push(InterfaceEvent::Changed(wanted.clone()));
                }
                _ => events.push(InterfaceEvent::Added(wanted.clone())),
            }
        }
        let addresses = self.uplink_addresses(&wanted);
        if addresses != self.told_addresses {
            events.push(InterfaceEvent::Addresses(addresses));
        }
        self.told = wanted;
        self.told_addresses = addresses;
        events
    }

    /// The links the reader should know.
    fn wanted(&self) -> BTreeMap<u32, Interface> {
        let interface = |link: &Link| {
            let role = self.selector.role(link, &self.default_routes)?;
            Some(Interface {
                ifindex: link.ifindex,
                name: link.name.clone(),
                role,
                mtu: link.mtu,
                mac: link.mac?,
            })
        };
        self.links
            .values()
            .filter_map(interface)
            .map(|found| (found.ifindex, found))
            .collect()
    }

    /// The first address of each family on an uplink: of the uplinks that carry a default route if
    /// there is one, else of any.
    fn uplink_addresses(&self, known: &BTreeMap<u32, Interface>) -> UplinkAddresses {
        let uplink = |ifindex| {
            known
                .get(&ifindex)
                .is_some_and(|it| it.role == super::Role::Uplink)
        };
        let mut candidates: Vec<_> = self
            .addresses
            .iter()
            .filter(|found| uplink(found.ifindex))
            .collect();
        candidates.sort_by_key(|found| !self.default_routes.contains(&found.ifindex)); // stable
        UplinkAddresses {
            v4: candidates.iter().find_map(|found| match found.address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            }),
            v6: candidates.iter().find_map(|found| match found.address {
                IpAddr::V6(address) => Some(address),
                IpAddr::V4(_) => None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::super::select::tests::{ethernet, selector};
    use super::*;

    fn table() -> Table {
        Table::new(selector(&[], &["veth*"]))
    }

    /// Events in short: `+eth0:Uplink`.
    fn short(events: Vec<InterfaceEvent>) -> Vec<String> {
        let told = |sign: &str, it: &Interface| format!("{sign}{}:{:?}", it.name, it.role);
        let text = |event| match event {
            InterfaceEvent::Added(it) => told("+", &it),
            InterfaceEvent::Changed(it) => told("~", &it),
            InterfaceEvent::Removed(it) => told("-", &it),
            InterfaceEvent::Addresses(UplinkAddresses { v4, v6 }) => format!("{v4:?} {v6:?}"),
            InterfaceEvent::SnapshotComplete => "complete".into(),
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
        let on = |ifindex, address: &str| LinkAddress {
            ifindex,
            address: address.parse().unwrap(),
        };
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
        let mut table = Table::new(selector(&["eth*"], &[]));
        let on = |ifindex, address: &str| LinkAddress {
            ifindex,
            address: address.parse().unwrap(),
        };
        table.replace_links(vec![ethernet(2, "eth0"), ethernet(3, "eth1")]);
        table.replace_default_routes([3].into());
        table.replace_addresses(vec![on(2, "192.0.2.1"), on(3, "198.51.100.1")]);
        assert!(short(table.catch_up()).contains(&"Some(198.51.100.1) None".to_owned()));
        assert!(table.told.values().all(|it| it.role == Role::Uplink));
    }
}
