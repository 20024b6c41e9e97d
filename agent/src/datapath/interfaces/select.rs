//! Decides which link is what.

use std::collections::BTreeSet;

use super::{MacAddr, Role};
use crate::config::{Devices, Glob};

/// A link as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Number in its network namespace.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// Largest packet in bytes, counted from the network header.
    pub mtu: u32,
    /// Ethernet address; `None` if its frames are not Ethernet's.
    pub mac: Option<MacAddr>,
    /// Whether it is a loopback device.
    pub loopback: bool,
    /// Whether it is one end of a pair whose other end is in another network namespace, as all
    /// common plugins give pods their interface.
    pub leads_elsewhere: bool,
    /// Whether it is one end of a veth pair.
    pub is_veth: bool,
}

/// The operator's choice of interfaces.
#[derive(Clone, Debug, Default)]
pub struct DeviceSelector {
    /// Uplinks; empty stands for the links by which others reach this node: those with a default route,
    /// and those with an address that its Node object names.
    pub uplinks: Vec<Glob>,
    /// Interfaces of pods; empty stands for those that lead into another network namespace.
    pub pods: Vec<Glob>,
}

impl From<&Devices> for DeviceSelector {
    fn from(devices: &Devices) -> Self {
        Self {
            uplinks: devices.uplinks.clone(),
            pods: devices.pods.clone(),
        }
    }
}

impl DeviceSelector {
    /// What `link` is, given the links by which others reach this node; `None` if it is left alone.
    ///
    /// Loopback, and devices whose frames have no Ethernet header (tunnels), are always left alone:
    /// the programs parse Ethernet.
    pub fn role(&self, link: &Link, outward: &BTreeSet<u32>) -> Option<Role> {
        if link.loopback || link.mac.is_none() {
            return None;
        }
        let named = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(&link.name));
        let uplink = if self.is_guessing_uplinks() {
            outward.contains(&link.ifindex)
        } else {
            named(&self.uplinks)
        };
        if uplink {
            return Some(Role::Uplink);
        }
        let pod = if self.pods.is_empty() {
            // A node that is a container itself has uplinks that look the same.
            link.leads_elsewhere && !outward.contains(&link.ifindex)
        } else {
            named(&self.pods)
        };
        pod.then_some(Role::Pod)
    }

    /// Whether uplinks follow from routes and addresses, as no names are given.
    pub fn is_guessing_uplinks(&self) -> bool {
        self.uplinks.is_empty()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::value::Scalar;

    pub fn selector(uplinks: &[&str], pods: &[&str]) -> DeviceSelector {
        let globs = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| Glob::parse(text).unwrap())
                .collect::<Vec<_>>()
        };
        DeviceSelector {
            uplinks: globs(uplinks),
            pods: globs(pods),
        }
    }

    pub fn ethernet(ifindex: u32, name: &str) -> Link {
        let mac = Some(MacAddr([2, 0, 0, 0, 0, ifindex as u8]));
        Link {
            ifindex,
            name: name.into(),
            mtu: 1500,
            mac,
            loopback: false,
            leads_elsewhere: false,
            is_veth: false,
        }
    }

    #[test]
    fn without_patterns_pods_are_behind_links_to_other_namespaces() {
        let leading = |ifindex, name| Link {
            leads_elsewhere: true,
            ..ethernet(ifindex, name)
        };
        let outward = BTreeSet::from([2]);
        let rows = [
            (leading(7, "azv4fe"), &["eth0"][..], Some(Role::Pod)),
            (leading(7, "eth0"), &["eth0"], Some(Role::Uplink)),
            (leading(2, "eth0"), &[], Some(Role::Uplink)),
            (leading(2, "eth1"), &["eth0"], None),
            (ethernet(7, "veth7"), &["eth0"], None),
        ];
        for (link, uplinks, expected) in rows {
            let role = selector(uplinks, &[]).role(&link, &outward);
            assert_eq!(role, expected, "{link:?} of {uplinks:?}");
        }
    }

    #[test]
    fn roles_follow_names_and_ways() {
        struct Case {
            about: &'static str,
            uplinks: &'static [&'static str],
            link: Link,
            expected: Option<Role>,
        }
        let case = |about, uplinks, link, expected| Case {
            about,
            uplinks,
            link,
            expected,
        };
        let cases = [
            case(
                "others reach the node by it",
                &[],
                ethernet(2, "eth0"),
                Some(Role::Uplink),
            ),
            case(
                "nobody reaches the node by it",
                &[],
                ethernet(3, "eth1"),
                None,
            ),
            case("pod by name", &[], ethernet(4, "veth12ab"), Some(Role::Pod)),
            case(
                "the way to the node wins over a pod's name",
                &[],
                ethernet(2, "veth0"),
                Some(Role::Uplink),
            ),
            case(
                "named uplink",
                &["eth*"],
                ethernet(3, "eth1"),
                Some(Role::Uplink),
            ),
            case(
                "names replace what others reach the node by",
                &["eth1"],
                ethernet(2, "eth0"),
                None,
            ),
            case(
                "named uplink wins over a pod's name",
                &["veth0"],
                ethernet(9, "veth0"),
                Some(Role::Uplink),
            ),
            case(
                "loopback",
                &["*"],
                Link {
                    loopback: true,
                    ..ethernet(1, "lo")
                },
                None,
            ),
            case(
                "tunnel by which others reach the node",
                &[],
                Link {
                    mac: None,
                    ..ethernet(2, "tun0")
                },
                None,
            ),
        ];
        let outward = BTreeSet::from([2]);
        for Case {
            about,
            uplinks,
            link,
            expected,
        } in cases
        {
            let role = selector(uplinks, &["veth*"]).role(&link, &outward);
            assert_eq!(role, expected, "{about}");
        }
    }
}
