//! What the kernel said about links, routes and addresses, and what the reader knows of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::select::Link;
use super::{DeviceSelector, Interface, InterfaceEvent, OwnAddresses, Role, UplinkAddresses};

/// An address by which the node can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAddress {
    /// Link it is on.
    pub ifindex: u32,
    /// The address.
    pub address: IpAddr,
    /// Whether connections start from it unasked: not a second one of its subnet, not temporary and
    /// not deprecated.
    pub is_first_choice: bool,
    /// Whether its subnet has no other address.
    pub is_alone: bool,
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
    /// Those that the cluster knows this node by, the best one first.
    node_addresses: Vec<IpAddr>,
    is_node_known: bool,
    /// They are the Node object's, not those that the data path was found with.
    are_named: bool,
    told: BTreeMap<u32, Interface>,
    told_addresses: OwnAddresses,
    /// Those last told, and at first those that the data path was found with.
    in_use: OwnAddresses,
}

impl Table {
    /// Knows nothing yet but the addresses that the data path was found with. They stand in for those of
    /// the Node object, so that a restart does not take an interface away until that is known.
    pub fn new(selector: DeviceSelector, adopted: Vec<IpAddr>) -> Self {
        let in_use = OwnAddresses {
            source: UplinkAddresses::first_of(&adopted),
            served: adopted.iter().copied().collect(),
        };
        Self {
            selector,
            links: BTreeMap::new(),
            default_routes: BTreeSet::new(),
            addresses: Vec::new(),
            node_addresses: adopted,
            is_node_known: false,
            are_named: false,
            told: BTreeMap::new(),
            told_addresses: OwnAddresses::default(),
            in_use,
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

    /// All addresses that the Node object names, the best one first. None at all says that there is no
    /// such object or that nobody has written them to it yet, which is no reason to forget the others.
    pub fn replace_node_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.is_node_known = true;
        if !addresses.is_empty() {
            self.node_addresses = addresses;
            self.are_named = true;
        }
    }

    /// Whether all is known that makes a link an uplink.
    pub fn is_settled(&self) -> bool {
        self.is_node_known || !self.selector.is_guessing_uplinks()
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
        let addresses = self.own_addresses(&wanted);
        if addresses != self.told_addresses {
            events.push(InterfaceEvent::Addresses(addresses.clone()));
        }
        self.told = wanted;
        self.in_use.clone_from(&addresses);
        self.told_addresses = addresses;
        events
    }

    /// The links the reader should know.
    fn wanted(&self) -> BTreeMap<u32, Interface> {
        let outward = self.outward();
        let interface = |link: &Link| {
            let role = self.selector.role(link, &outward)?;
            Some(Interface {
                ifindex: link.ifindex,
                name: link.name.clone(),
                role,
                mtu: link.mtu,
                mac: link.mac?,
                is_veth: link.is_veth,
            })
        };
        self.links
            .values()
            .filter_map(interface)
            .map(|found| (found.ifindex, found))
            .collect()
    }

    /// The links by which others reach this node: those with a default route, and those with an address
    /// that the cluster knows it by.
    fn outward(&self) -> BTreeSet<u32> {
        let named = self
            .addresses
            .iter()
            .filter(|found| self.node_addresses.contains(&found.address) && !self.is_lent(found))
            .map(|found| found.ifindex);
        self.default_routes.iter().copied().chain(named).collect()
    }

    /// Whether an address is there for a pod to have a gateway, as some plugins give the node's to all
    /// their interfaces.
    fn is_lent(&self, found: &LinkAddress) -> bool {
        let link = self.links.get(&found.ifindex);
        found.is_alone && link.is_some_and(|link| link.leads_elsewhere)
    }

    fn own_addresses(&self, known: &BTreeMap<u32, Interface>) -> OwnAddresses {
        let is_uplink = |ifindex: u32| {
            let found = known.get(&ifindex);
            found.is_some_and(|interface| interface.role == Role::Uplink)
        };
        let on_uplinks: Vec<LinkAddress> = self
            .addresses
            .iter()
            .copied()
            .filter(|found| is_uplink(found.ifindex))
            .collect();
        let mut candidates = on_uplinks.clone();
        candidates.retain(|found| found.is_first_choice);
        candidates.sort_by_key(|found| !self.default_routes.contains(&found.ifindex)); // stable
        let source = self.source(&on_uplinks, &candidates);
        let mut served = self.one_per_uplink(&candidates);
        served.extend(source.all());
        OwnAddresses { source, served }
    }

    /// Where connections start: at an address that the cluster knows this node by, as others let those
    /// pass and their network leads back; else where they did before, so that an address which is
    /// added moves none, unless the default route has moved; else at the first one.
    fn source(&self, on_uplinks: &[LinkAddress], candidates: &[LinkAddress]) -> UplinkAddresses {
        let named = self.node_addresses.iter().copied();
        let named = named.filter(|address| {
            let is_held = holds(on_uplinks, *address) || self.is_on_loopback(*address);
            (self.are_named || !self.is_node_known) && is_held
        });
        let before = self.in_use.source.all();
        let before = before.filter(|address| self.is_among_the_first(*address, candidates));
        let others = candidates.iter().map(|found| found.address);
        let ranked: Vec<IpAddr> = named.chain(before).chain(others).collect();
        UplinkAddresses::first_of(&ranked)
    }

    /// Whether a loopback device has the address, as where routes to the node are told by BGP.
    fn is_on_loopback(&self, address: IpAddr) -> bool {
        let mut holders = self.addresses.iter().filter(|it| it.address == address);
        holders.any(|it| {
            self.links
                .get(&it.ifindex)
                .is_some_and(|link| link.loopback)
        })
    }

    /// Whether no candidate of its family is on an uplink with a default route while it is not.
    fn is_among_the_first(&self, address: IpAddr, candidates: &[LinkAddress]) -> bool {
        let mut of_family = candidates
            .iter()
            .filter(|found| found.address.is_ipv4() == address.is_ipv4());
        let is_default = |found: &LinkAddress| self.default_routes.contains(&found.ifindex);
        let best = of_family.clone().next().map(is_default);
        of_family.any(|found| found.address == address && Some(is_default(found)) == best)
    }

    /// An address of each family of every uplink: the one that it was before, or else the first.
    fn one_per_uplink(&self, candidates: &[LinkAddress]) -> BTreeSet<IpAddr> {
        let was_served = |found: &&LinkAddress| self.in_use.served.contains(&found.address);
        let before = candidates.iter().filter(was_served);
        let mut chosen = BTreeMap::new();
        for found in before.chain(candidates) {
            let place = (found.ifindex, found.address.is_ipv4());
            chosen.entry(place).or_insert(found.address);
        }
        chosen.into_values().collect()
    }
}

fn holds(addresses: &[LinkAddress], address: IpAddr) -> bool {
    addresses.iter().any(|found| found.address == address)
}

#[cfg(test)]
mod tests;
