//! Follows the paths to all peers, for the MTU of the device and that of each peer's routes.
//!
//! A new peer's path is asked for at once, and then all in turn, some at a time: a thousand peers are
//! not asked for in one go. The MTU of an interface, which all its paths share, is looked at every
//! time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use super::link::{IfIndex, Netlink};
use super::mtu::{self, TunnelMtu, UnderlayPath};
use super::routing::Family;
use super::values::FirewallMark;

/// Known paths that are asked for again in one go.
const AT_ONCE: usize = 32;

/// The paths that are known.
#[derive(Debug, Default)]
pub struct PathWatch {
    known: BTreeMap<IpAddr, Option<UnderlayPath>>,
    /// The one asked for last.
    last: Option<IpAddr>,
}

/// What fits into the tunnels, by the peers' endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnels {
    by_endpoint: BTreeMap<IpAddr, TunnelMtu>,
    device: Option<u32>,
}

impl PathWatch {
    /// Looks at the paths to `endpoints`, and forgets all others.
    pub async fn follow(
        &mut self,
        netlink: &Netlink,
        endpoints: &BTreeSet<IpAddr>,
        mark: FirewallMark,
    ) -> io::Result<Tunnels> {
        self.known
            .retain(|endpoint, _| endpoints.contains(endpoint));
        for endpoint in self.due(endpoints) {
            let path = mtu::path(netlink, endpoint, mark).await?;
            self.known.insert(endpoint, path);
            self.last = Some(endpoint);
        }
        let mut links = BTreeMap::new();
        for way in self.known.values().flatten() {
            if let std::collections::btree_map::Entry::Vacant(entry) = links.entry(way.interface.0)
            {
                entry.insert(netlink.link_at(way.interface).await?.map(|link| link.mtu));
            }
        }
        Ok(self.tunnels(|interface| links.get(&interface.0).copied().flatten()))
    }

    /// The new ones, and those whose turn it is.
    fn due(&self, endpoints: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        let new = endpoints
            .iter()
            .filter(|endpoint| !self.known.contains_key(endpoint));
        let after = self.known.keys().filter(|it| Some(**it) > self.last);
        let before = self.known.keys().filter(|it| Some(**it) <= self.last);
        let again = after.chain(before).take(AT_ONCE);
        new.chain(again).copied().collect()
    }

    fn tunnels(&self, link_mtu: impl Fn(IfIndex) -> Option<u32>) -> Tunnels {
        let tunnels = self.known.iter().filter_map(|(endpoint, way)| {
            let way = (*way)?;
            let link = link_mtu(way.interface)?;
            let underlay = way.learnt.map_or(link, |learnt| learnt.min(link));
            let family = match endpoint {
                IpAddr::V4(_) => Family::V4,
                IpAddr::V6(_) => Family::V6,
            };
            Some((*endpoint, mtu::tunnel(underlay, family, true)))
        });
        let by_endpoint: BTreeMap<_, _> = tunnels.collect();
        let device = mtu::device(by_endpoint.values().copied());
        Tunnels {
            by_endpoint,
            device,
        }
    }
}

impl Tunnels {
    /// MTU of the device, in bytes: that of its widest tunnel. `None` without any.
    pub fn device(&self) -> Option<u32> {
        self.device
    }

    /// Largest packet that fits into every tunnel, in bytes, whoever sends it. `None` without any.
    ///
    /// Without a route the device pads up to its own MTU, so for a narrower tunnel the size is one that
    /// needs no padding.
    pub fn narrowest(&self) -> Option<u32> {
        let least = self.by_endpoint.values().map(|tunnel| tunnel.bytes).min()?;
        if Some(least) == self.device {
            return Some(least);
        }
        Some(mtu::without_padding(least))
    }

    /// MTU of the routes to a peer where it is less than that of the device.
    pub fn route(&self, endpoint: IpAddr) -> Option<u32> {
        let tunnel = self.by_endpoint.get(&endpoint)?;
        mtu::route(*tunnel, self.device?)
    }

    /// Endpoints whose packets are sent in fragments, as their path is too narrow.
    pub fn fragmented(&self) -> impl Iterator<Item = IpAddr> {
        let narrow = self
            .by_endpoint
            .iter()
            .filter(|(_, tunnel)| tunnel.fragments);
        narrow.map(|(endpoint, _)| *endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(number: u8) -> IpAddr {
        [172, 18, 0, number].into()
    }

    fn watch(of: impl IntoIterator<Item = (IpAddr, u32, Option<u32>)>) -> PathWatch {
        let known = of.into_iter().map(|(endpoint, interface, learnt)| {
            let interface = IfIndex(interface);
            (endpoint, Some(UnderlayPath { interface, learnt }))
        });
        PathWatch {
            known: known.collect(),
            last: None,
        }
    }

    #[test]
    fn new_peers_are_asked_for_at_once_and_all_others_in_turn() {
        let known = (0..100).map(|number| (endpoint(number), 2, None));
        let mut watch = watch(known);
        let endpoints: BTreeSet<_> = (0..=100).map(endpoint).collect();
        let mut asked = BTreeSet::new();
        for _ in 0..4 {
            let due = watch.due(&endpoints);
            assert!(due.len() <= AT_ONCE + 1);
            assert!(due.contains(&endpoint(100)), "it is not known yet");
            watch.last = due.iter().rev().copied().find(|it| *it != endpoint(100));
            asked.extend(due);
        }
        assert_eq!(asked, endpoints);
    }

    #[test]
    fn the_device_fits_the_widest_path_and_routes_fit_theirs() {
        let of = [
            (endpoint(1), 2, None),
            (endpoint(2), 2, Some(1_400)),
            (endpoint(3), 3, None),
            ("fd00:18::4".parse().unwrap(), 2, None),
        ];
        let tunnels =
            watch(of).tunnels(|interface| Some(if interface.0 == 2 { 1_500 } else { 9_000 }));
        assert_eq!(tunnels.device(), Some(8_940));
        assert_eq!(tunnels.narrowest(), Some(1_328));
        let route = |endpoint| tunnels.route(endpoint);
        assert_eq!(route(endpoint(1)), Some(1_440));
        assert_eq!(route(endpoint(2)), Some(1_340));
        assert_eq!(route(endpoint(3)), None);
        assert_eq!(route("fd00:18::4".parse().unwrap()), Some(1_420));
        assert_eq!(tunnels.fragmented().count(), 0);
    }

    #[test]
    fn a_path_that_is_too_narrow_is_named() {
        let of = [(endpoint(1), 2, None), (endpoint(2), 2, Some(1_300))];
        let tunnels = watch(of).tunnels(|_| Some(1_500));
        assert_eq!(tunnels.fragmented().collect::<Vec<_>>(), [endpoint(2)]);
        assert_eq!(PathWatch::default().tunnels(|_| None).device(), None);
    }
}
