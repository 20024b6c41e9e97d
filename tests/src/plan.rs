//! Names and addresses of a cluster: pure.
//!
//! Addresses are the same in every cluster, since namespaces keep clusters apart; names of
//! namespaces carry the id of the run, since the machine has one list of them.
//!
//! | network | IPv4 | IPv6 |
//! |---|---|---|
//! | underlay | 172.18.0.0/24 | fd00:18::/64 |
//! | pods of node *n* | 10.244.*n*.0/24 | fd00:10:244:*n*::/64 |
//! | ClusterIPs | 10.96.0.0/16 | fd00:10:96::/112 |
//! | load balancer addresses | 203.0.113.0/24 | 2001:db8:113::/64 |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};

/// Interface of a node or client that leads to the underlay.
pub const UPLINK: &str = "eth0";
/// Bridge in the underlay namespace.
pub const BRIDGE: &str = "br0";
/// Range of ClusterIPs.
pub const CLUSTER_RANGES: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];
/// Range of load balancer addresses.
pub const VIP_RANGES: [&str; 2] = ["203.0.113.0/24", "2001:db8:113::/64"];

/// Both addresses of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DualAddress {
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address.
    pub v6: Ipv6Addr,
}

impl DualAddress {
    /// Both as a list, IPv4 first.
    pub fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }

    /// Is `address` one of them?
    pub fn contains(self, address: IpAddr) -> bool {
        self.both().contains(&address)
    }
}

/// How packets of a client to service addresses and pods leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// Through the node of this number, from 0.
    Node(usize),
    /// Spread over all nodes by the kernel, per connection.
    AllNodes,
}

/// How pods hang on their node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodWiring {
    /// As by the plugin `ptp` (kindnet): the node's ends answer for the gateway, a route to each pod.
    #[default]
    PointToPoint,
    /// As by the plugin `bridge` (flannel and many others): the node's ends are ports of a bridge that
    /// has the gateway's address, and pods of a node are neighbours.
    Bridge,
    /// As by Calico: the node's ends have no address and answer for any, a route to each pod.
    ProxyArp,
}

/// What a cluster shall consist of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Number of nodes.
    pub nodes: usize,
    /// Name of each pod and the number of its node, from 0.
    pub pods: Vec<(String, usize)>,
    /// Name of each client and its route.
    pub clients: Vec<(String, Via)>,
    /// How pods hang on their nodes.
    pub wiring: PodWiring,
}

/// A node to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// Name, also of its veth in the underlay.
    pub name: String,
    /// Addresses on the underlay.
    pub address: DualAddress,
    /// Gateway address of its pods.
    pub pod_gateway: Ipv4Addr,
    /// Ranges of its pods' addresses.
    pub pod_ranges: [String; 2],
}

/// A pod to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlan {
    /// Name.
    pub name: String,
    /// Number of its node, from 0.
    pub node: usize,
    /// Its addresses.
    pub address: DualAddress,
    /// Name of the node's end of its veth.
    pub host_interface: String,
}

/// A client to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPlan {
    /// Name, also of its veth in the underlay.
    pub name: String,
    /// Addresses on the underlay.
    pub address: DualAddress,
    /// Numbers of the nodes its service traffic goes to.
    pub via: Vec<usize>,
}

/// All names and addresses of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Addresses of the underlay's own end, the default gateway of everyone.
    pub gateway: DualAddress,
    /// Nodes.
    pub nodes: Vec<NodePlan>,
    /// Pods.
    pub pods: Vec<PodPlan>,
    /// Clients.
    pub clients: Vec<ClientPlan>,
    /// How pods hang on their nodes.
    pub wiring: PodWiring,
}

impl Plan {
    /// Gives every member of `shape` its names and addresses.
    ///
    /// # Errors
    ///
    /// When a name is taken twice or too long for an interface, a pod names a node that is not
    /// there, or there are more members than addresses.
    pub fn new(shape: &Shape) -> Result<Self> {
        ensure!(
            (1..=80).contains(&shape.nodes),
            "a cluster has 1 to 80 nodes"
        );
        ensure!(
            shape.clients.len() <= 100,
            "a cluster has at most 100 clients"
        );
        let nodes: Vec<_> = (1..=shape.nodes).map(NodePlan::new).collect();
        let mut pods = Vec::with_capacity(shape.pods.len());
        let mut pods_of = vec![0; shape.nodes];
        for (name, node) in &shape.pods {
            ensure!(
                *node < shape.nodes,
                "pod {name}: there is no node {}",
                node + 1
            );
            pods_of[*node] += 1;
            ensure!(pods_of[*node] <= 200, "a node has at most 200 pods");
            pods.push(PodPlan::new(name, *node, pods_of[*node], shape.wiring));
        }
        let all_nodes = (0..shape.nodes).collect::<Vec<_>>();
        let mut clients = Vec::with_capacity(shape.clients.len());
        for (index, (name, via)) in shape.clients.iter().enumerate() {
            let via = match via {
                Via::Node(node) => vec![*node],
                Via::AllNodes => all_nodes.clone(),
            };
            ensure!(
                via.iter().all(|n| *n < shape.nodes),
                "client {name}: there is no such node"
            );
            clients.push(ClientPlan {
                name: name.clone(),
                address: underlay(101 + index),
                via,
            });
        }
        let plan = Self {
            gateway: underlay(1),
            nodes,
            pods,
            clients,
            wiring: shape.wiring,
        };
        plan.check_names()?;
        Ok(plan)
    }

    /// Names of all members that get a network namespace, the underlay first.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        let nodes = self.nodes.iter().map(|n| n.name.as_str());
        let pods = self.pods.iter().map(|p| p.name.as_str());
        let clients = self.clients.iter().map(|c| c.name.as_str());
        ["underlay"]
            .into_iter()
            .chain(nodes)
            .chain(pods)
            .chain(clients)
    }

    fn check_names(&self) -> Result<()> {
        let mut seen = std::collections::BTreeSet::new();
        for name in self.members() {
            // Names of interfaces hold 15 bytes; names of members become such.
            let fits = (1..=15).contains(&name.len());
            let plain = name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            ensure!(
                fits && plain,
                "member name {name:?}: use 1 to 15 of a-z, 0-9 and -"
            );
            ensure!(seen.insert(name), "two members are called {name:?}");
        }
        Ok(())
    }
}

impl NodePlan {
    fn new(number: usize) -> Self {
        Self {
            name: format!("node{number}"),
            address: underlay(10 + number),
            pod_gateway: Ipv4Addr::new(10, 244, number as u8, 1),
            pod_ranges: [
                format!("10.244.{number}.0/24"),
                format!("fd00:10:244:{number}::/64"),
            ],
        }
    }
}

impl PodPlan {
    /// The `nth` pod, from 1, of node number `node`, from 0.
    fn new(name: &str, node: usize, nth: usize, wiring: PodWiring) -> Self {
        let (subnet, host) = (node as u8 + 1, 10 + nth as u8);
        let named = match wiring {
            PodWiring::PointToPoint => "pod",
            PodWiring::Bridge => "veth3a9f0",
            PodWiring::ProxyArp => "cali5b0c1",
        };
        Self {
            name: name.to_owned(),
            node,
            address: DualAddress {
                v4: Ipv4Addr::new(10, 244, subnet, host),
                v6: Ipv6Addr::new(
                    0xfd00,
                    0x10,
                    0x244,
                    as_hex(subnet.into()),
                    0,
                    0,
                    0,
                    as_hex(host.into()),
                ),
            },
            host_interface: format!("{named}{nth}"),
        }
    }
}

/// Load balancer addresses number `index`, from 0.
pub fn vip(index: u8) -> DualAddress {
    let host = index + 10;
    DualAddress {
        v4: Ipv4Addr::new(203, 0, 113, host),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, as_hex(host.into())),
    }
}

/// ClusterIPs number `index`, from 0.
pub fn cluster_ip(index: u8) -> DualAddress {
    let host = index + 10;
    DualAddress {
        v4: Ipv4Addr::new(10, 96, 0, host),
        v6: Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, as_hex(host.into())),
    }
}

fn underlay(host: usize) -> DualAddress {
    DualAddress {
        v4: Ipv4Addr::new(172, 18, 0, host as u8),
        v6: Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, as_hex(host as u16)),
    }
}

/// The group that prints as the decimal digits of `number`, so that both families read alike.
fn as_hex(number: u16) -> u16 {
    (0..4).fold(0, |group, digit| {
        group | (number / 10_u16.pow(digit) % 10) << (4 * digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            nodes: 2,
            pods: vec![
                ("web-1".into(), 0),
                ("web-2".into(), 1),
                ("web-3".into(), 1),
            ],
            clients: vec![
                ("client".into(), Via::Node(1)),
                ("many".into(), Via::AllNodes),
            ],
            wiring: PodWiring::default(),
        }
    }

    #[test]
    fn both_families_read_alike() {
        let plan = Plan::new(&shape()).unwrap();
        let addresses = |a: DualAddress| (a.v4.to_string(), a.v6.to_string());
        let expect = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            addresses(plan.nodes[1].address),
            expect("172.18.0.12", "fd00:18::12")
        );
        assert_eq!(
            addresses(plan.pods[2].address),
            expect("10.244.2.12", "fd00:10:244:2::12")
        );
        assert_eq!(
            addresses(plan.clients[0].address),
            expect("172.18.0.101", "fd00:18::101")
        );
        assert_eq!(
            addresses(vip(0)),
            expect("203.0.113.10", "2001:db8:113::10")
        );
        assert_eq!(
            addresses(cluster_ip(5)),
            expect("10.96.0.15", "fd00:10:96::15")
        );
    }

    #[test]
    fn clients_go_where_their_route_says() {
        let plan = Plan::new(&shape()).unwrap();
        assert_eq!(
            (plan.clients[0].via.as_slice(), plan.clients[1].via.len()),
            (&[1][..], 2)
        );
    }

    #[test]
    fn refuses_what_cannot_be_built() {
        let broken = |change: fn(&mut Shape), why: &str| {
            let mut shape = shape();
            change(&mut shape);
            let text = Plan::new(&shape).unwrap_err().to_string();
            assert!(text.contains(why), "{text}");
        };
        broken(|s| s.nodes = 0, "1 to 80 nodes");
        broken(|s| s.pods[0].1 = 7, "there is no node 8");
        broken(|s| s.pods[0].0 = "web-2".into(), "two members");
        broken(
            |s| s.clients[0].0 = "a-name-too-long-for-an-interface".into(),
            "1 to 15",
        );
        broken(|s| s.clients[0].0 = "../etc".into(), "a-z");
        broken(|s| s.clients[0].1 = Via::Node(9), "no such node");
    }
}
