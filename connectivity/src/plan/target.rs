//! What is dialled, and what may come of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::expect::Servers;
use crate::inventory::{Ports, Server};
use crate::place::Spot;

/// Most servers of a service of which every one must answer.
pub(super) const MOST_SERVERS: usize = 10;

/// What is dialled.
pub(super) struct Target<'a> {
    pub to: String,
    pub addresses: &'a [IpAddr],
    pub ports: Ports,
    pub servers: Vec<&'a Server>,
    pub times: u32,
}

impl Target<'_> {
    /// Which servers must answer; one that must answer itself is the only one that has to.
    pub fn expected(&self, itself: Option<&str>, see_asker: bool) -> Servers {
        let names = self.servers.iter().map(|server| server.name.clone());
        let only: BTreeSet<_> = names.collect();
        let each = match itself {
            Some(name) => [name.to_owned()].into(),
            None if only.len() <= MOST_SERVERS => only.clone(),
            None => BTreeSet::new(),
        };
        Servers {
            only,
            each,
            see_asker,
        }
    }

    /// Addresses of what happens when `dialled` is dialled.
    pub fn seen_at(&self, dialled: IpAddr) -> BTreeSet<IpAddr> {
        let servers = self.servers.iter().flat_map(|server| &server.addresses);
        let same_family = servers.filter(|ip| ip.is_ipv4() == dialled.is_ipv4());
        same_family.copied().chain([dialled]).collect()
    }
}

/// Where a server is, seen from a node.
pub(super) fn relation(node: Option<&str>, server: &Server) -> &'static str {
    if node == Some(&server.node) {
        "same node"
    } else {
        "other node"
    }
}

/// True if `asker` may be expected to reach the address's family.
pub(super) fn has_family(asker: Spot<'_>, ip: IpAddr) -> bool {
    let own = match asker {
        Spot::Client(client) => &client.addresses,
        Spot::Server(server) => &server.addresses,
        Spot::Agent(node) => &node.addresses,
    };
    own.is_empty() || own.iter().any(|it| it.is_ipv4() == ip.is_ipv4())
}
