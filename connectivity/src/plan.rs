//! From an inventory to cases: pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::check::Check;
use crate::expect::Expect;
use crate::inventory::{Client, ClientKind, Inventory, Ports, Service};
use crate::place::Spot;
use crate::probe::{Dial, Probe};

mod target;

use target::{MOST_SERVERS, Target, has_family, relation};

/// Connections to one server. More than one, because the first may be special: it is not known yet.
const TIMES: u32 = 3;
/// Connections to a service, for each of its servers. If each connection takes any of them, the
/// probability that one is left out is below one in ten million, for the most that are tried.
const TIMES_PER_SERVER: u32 = 20;
/// Bytes of a large transfer, each way.
const LARGE: usize = 4 << 20;

/// One thing to try.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// Part of this check.
    pub check: Check,
    /// Who asks.
    pub asker: Spot<'a>,
    /// Who is asked, for people.
    pub to: String,
    /// Protocol and family, for people.
    pub how: &'static str,
    /// What is run.
    pub probe: Probe,
    /// What it must find.
    pub expect: Expect,
    /// Addresses by which flows of it are found: what is dialled, and what it may lead to.
    pub addresses: BTreeSet<IpAddr>,
}

/// What comes of a check before anything is run.
#[derive(Clone, Debug)]
pub struct Planned<'a> {
    /// What to try.
    pub cases: Vec<Case<'a>>,
    /// What cannot be tried: of whom, and why.
    pub skipped: Vec<(String, String)>,
}

/// Cases of one check. `timeout_ms` is the limit of each connection.
pub fn plan(inventory: &Inventory, check: Check, timeout_ms: u64) -> Planned<'_> {
    let planner = Planner {
        inventory,
        check,
        timeout_ms,
    };
    let cases = match check {
        Check::PodToPod => planner.to_servers(ClientKind::Pod),
        Check::NodeToPod => planner.to_servers(ClientKind::Node),
        Check::PodToService => planner.to_services(ClientKind::Pod),
        Check::NodeToService => planner.to_services(ClientKind::Node),
        Check::PodToItself => planner.to_itself(),
        Check::NodePortFromNode => planner.to_node_ports(ClientKind::Node),
        Check::NodePortFromOutside => planner.to_node_ports(ClientKind::Outside),
        Check::ExternalAddress => planner.to_external(),
        Check::LargeTransfer => planner.large(),
        Check::Dns => planner.names(),
        Check::Encryption | Check::Flows => Vec::new(),
    };
    let mut skipped = Vec::new();
    if cases.is_empty() {
        skipped.push(("-".to_owned(), planner.why_nothing().to_owned()));
    } else if check == Check::PodToPod && !planner.crosses_nodes(&cases) {
        let why = "no pod can ask a server of another node: the inventory has them on one node";
        skipped.push(("other nodes".to_owned(), why.to_owned()));
    }
    Planned { cases, skipped }
}

struct Planner<'a> {
    inventory: &'a Inventory,
    check: Check,
    timeout_ms: u64,
}

impl<'a> Planner<'a> {
    fn clients(&self, kind: ClientKind) -> impl Iterator<Item = &'a Client> {
        self.inventory
            .clients
            .iter()
            .filter(move |client| client.kind == kind)
    }

    fn to_servers(&self, kind: ClientKind) -> Vec<Case<'a>> {
        let mut cases = Vec::new();
        for client in self.clients(kind) {
            for server in &self.inventory.servers {
                let to = format!(
                    "{} ({})",
                    server.name,
                    relation(client.node.as_deref(), server)
                );
                let target = Target {
                    to,
                    addresses: &server.addresses,
                    ports: server.ports,
                    servers: vec![server],
                    times: TIMES,
                };
                let see_asker = kind == ClientKind::Pod;
                cases.extend(self.dial(Spot::Client(client), &target, None, see_asker));
            }
        }
        cases
    }

    fn to_services(&self, kind: ClientKind) -> Vec<Case<'a>> {
        let mut cases = Vec::new();
        for client in self.clients(kind) {
            for service in &self.inventory.services {
                let target = self.service(service, &service.cluster_ips, service.ports);
                cases.extend(self.dial(Spot::Client(client), &target, None, false));
            }
        }
        cases
    }

    fn to_itself(&self) -> Vec<Case<'a>> {
        let mut cases = Vec::new();
        for service in &self.inventory.services {
            let target = self.service(service, &service.cluster_ips, service.ports);
            let servers = target.servers.iter().copied();
            let can_ask = servers.filter(|server| server.command.is_some());
            for server in can_ask {
                cases.extend(self.dial(Spot::Server(server), &target, Some(&server.name), false));
            }
        }
        cases
    }

    fn to_node_ports(&self, kind: ClientKind) -> Vec<Case<'a>> {
        let mut cases = Vec::new();
        for client in self.clients(kind) {
            for service in &self.inventory.services {
                let others = self.inventory.nodes.iter();
                let others = others.filter(|node| client.node.as_ref() != Some(&node.name));
                for node in others {
                    let mut target = self.service(service, &node.addresses, service.node_ports);
                    target.to = format!("{} at {}", service.name, node.name);
                    cases.extend(self.dial(Spot::Client(client), &target, None, false));
                }
            }
        }
        cases
    }

    fn to_external(&self) -> Vec<Case<'a>> {
        let mut cases = Vec::new();
        for client in self.clients(ClientKind::Outside) {
            for service in &self.inventory.services {
                let target = self.service(service, &service.external_ips, service.ports);
                cases.extend(self.dial(Spot::Client(client), &target, None, false));
            }
        }
        cases
    }

    /// From each pod to one server of its own node and to one of another.
    fn large(&self) -> Vec<Case<'a>> {
        let mut cases = Vec::new();
        for client in self.clients(ClientKind::Pod) {
            for is_own in [true, false] {
                let mut servers = self.inventory.servers.iter();
                let found = servers.find(|server| {
                    let has_node = client.node.as_ref() == Some(&server.node);
                    has_node == is_own && server.ports.tcp.is_some()
                });
                let Some(server) = found else { continue };
                let target = Target {
                    to: format!(
                        "{} ({})",
                        server.name,
                        relation(client.node.as_deref(), server)
                    ),
                    addresses: &server.addresses,
                    ports: Ports {
                        udp: None,
                        ..server.ports
                    },
                    servers: vec![server],
                    times: 1,
                };
                let dialled = self.dial(Spot::Client(client), &target, None, true);
                cases.extend(dialled.into_iter().map(enlarge));
            }
        }
        cases
    }

    fn names(&self) -> Vec<Case<'a>> {
        let mut cases = Vec::new();
        for client in self.clients(ClientKind::Pod) {
            for service in &self.inventory.services {
                let Some(name) = &service.dns_name else {
                    continue;
                };
                cases.push(Case {
                    check: self.check,
                    asker: Spot::Client(client),
                    to: name.clone(),
                    how: "name",
                    probe: Probe::Name {
                        name: name.clone(),
                        timeout_ms: self.timeout_ms,
                    },
                    expect: Expect::Addresses(service.cluster_ips.iter().copied().collect()),
                    // Whom it asks is not known: what it sends is.
                    addresses: client.addresses.iter().copied().collect(),
                });
            }
        }
        cases
    }

    fn service(&self, service: &'a Service, addresses: &'a [IpAddr], ports: Ports) -> Target<'a> {
        let servers = service
            .servers
            .iter()
            .filter_map(|name| self.inventory.server(name));
        let servers: Vec<_> = servers.collect();
        let counted = servers.len().min(MOST_SERVERS);
        Target {
            to: service.name.clone(),
            addresses,
            ports,
            times: TIMES_PER_SERVER * u32::try_from(counted).unwrap_or(u32::MAX).max(1),
            servers,
        }
    }

    /// A case for each protocol of the target and each of its addresses that `asker` can dial.
    fn dial(
        &self,
        asker: Spot<'a>,
        target: &Target<'a>,
        itself: Option<&str>,
        see_asker: bool,
    ) -> Vec<Case<'a>> {
        let mut cases = Vec::new();
        for ip in target.addresses.iter().filter(|ip| has_family(asker, **ip)) {
            for (protocol, port) in [(6, target.ports.tcp), (17, target.ports.udp)] {
                let Some(port) = port else { continue };
                let dial = Dial {
                    ip: *ip,
                    port,
                    times: target.times,
                    timeout_ms: self.timeout_ms,
                };
                let (how, probe) = match (protocol, ip) {
                    (6, IpAddr::V4(_)) => ("TCP IPv4", Probe::Tcp(dial)),
                    (6, IpAddr::V6(_)) => ("TCP IPv6", Probe::Tcp(dial)),
                    (_, IpAddr::V4(_)) => ("UDP IPv4", Probe::Udp(dial)),
                    (_, IpAddr::V6(_)) => ("UDP IPv6", Probe::Udp(dial)),
                };
                cases.push(Case {
                    check: self.check,
                    asker,
                    to: target.to.clone(),
                    how,
                    probe,
                    expect: Expect::Servers(target.expected(itself, see_asker)),
                    addresses: target.seen_at(*ip),
                });
            }
        }
        cases
    }

    fn crosses_nodes(&self, cases: &[Case<'_>]) -> bool {
        cases.iter().any(|case| {
            let Expect::Servers(servers) = &case.expect else {
                return false;
            };
            let mut names = servers.only.iter();
            let nodes = |name: &String| self.inventory.server(name).map(|server| &*server.node);
            names.any(|name| nodes(name) != case.asker.node())
        })
    }

    fn why_nothing(&self) -> &'static str {
        match self.check {
            Check::PodToPod | Check::LargeTransfer => "there is no client that is a pod",
            Check::NodeToPod => "there is no client that is a node",
            Check::PodToService => {
                "there is no client that is a pod, or no service with ClusterIPs"
            }
            Check::NodeToService => {
                "there is no client that is a node, or no service with ClusterIPs"
            }
            Check::PodToItself => "there is no service with a server from which can be asked",
            Check::NodePortFromNode => {
                "there is no client that is a node, no service with node ports, or no other node"
            }
            Check::NodePortFromOutside => {
                "there is no client outside of the cluster, or no service with node ports"
            }
            Check::ExternalAddress => {
                "there is no client outside of the cluster, or no service with external addresses"
            }
            Check::Dns => "there is no cluster DNS, or no client that is a pod",
            Check::Encryption | Check::Flows => "no agent can be asked",
        }
    }
}

/// The same case with a large transfer in the place of a question.
fn enlarge(mut case: Case<'_>) -> Case<'_> {
    if let Probe::Tcp(dial) = case.probe {
        case.probe = Probe::Transfer { dial, bytes: LARGE };
    }
    case
}

#[cfg(test)]
mod tests;
