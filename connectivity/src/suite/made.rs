//! What connections were made, and which agents must have seen them: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::flows::{Connection, Failure};
use crate::inventory::{Client, ClientKind, Inventory, Server};
use crate::place::Spot;
use crate::plan::Case;
use crate::probe::{Answer, Attempt, Identity, Report};
use crate::report::CaseResult;

/// What the cases of one check did.
#[derive(Debug, Default)]
pub struct Made {
    /// What the agent of each node must have seen.
    pub seen: BTreeMap<String, Vec<Connection>>,
    /// What failed, by the number of the result.
    pub failures: BTreeMap<usize, Failure>,
    /// Where flows of all this are found.
    pub addresses: BTreeSet<std::net::IpAddr>,
    /// Nodes whose pods talked to pods of other nodes.
    pub crossed: BTreeSet<String>,
    /// What the agents showed, in the end.
    pub shown: Vec<CaseResult>,
}

impl Made {
    /// Adds what one case did, whose result has the number `index`.
    pub fn add(
        &mut self,
        inventory: &Inventory,
        case: &Case<'_>,
        report: &Report,
        index: usize,
        result: &CaseResult,
    ) {
        self.addresses.extend(case.addresses.iter().copied());
        if result.is_failure() {
            let attempts = report.attempts.iter();
            let failed = attempts.filter(|it| !matches!(it.answer, Answer::Addresses(_)));
            let failure = Failure {
                clients: failed.filter_map(|attempt| attempt.local).collect(),
                addresses: case.addresses.clone(),
            };
            self.failures.insert(index, failure);
        }
        for attempt in &report.attempts {
            if let Answer::Server(identity) = &attempt.answer
                && let Some(server) = inventory.server(&identity.name)
            {
                self.connected(case.asker, attempt, identity, server);
            }
        }
    }

    fn connected(
        &mut self,
        asker: Spot<'_>,
        attempt: &Attempt,
        identity: &Identity,
        server: &Server,
    ) {
        // What a pod says to itself does not pass by anyone.
        let is_itself = asker.pod().is_some() && asker.pod() == server.pod.as_deref();
        let is_pod = is_pod(asker);
        if let Some(node) = asker.node()
            && is_pod
            && !is_itself
        {
            if node != server.node && server.pod.is_some() {
                self.crossed.extend([node.to_owned(), server.node.clone()]);
            }
            if let Some(local) = attempt.local {
                self.expect(node, local, asker.pod(), server);
            }
        }
        // On its way to the server another node may have put its own address there.
        let is_asker = is_pod && Some(identity.peer) == attempt.local;
        if !is_itself {
            let pod = asker.pod().filter(|_| is_asker);
            self.expect(&server.node, identity.peer, pod, server);
        }
    }

    fn expect(&mut self, node: &str, client: SocketAddr, pod: Option<&str>, server: &Server) {
        let connection = Connection {
            client,
            client_pod: pod.map(str::to_owned),
            server_pod: server.pod.clone(),
        };
        let seen = self.seen.entry(node.to_owned()).or_default();
        if !seen.contains(&connection) {
            seen.push(connection);
        }
    }
}

fn is_pod(asker: Spot<'_>) -> bool {
    match asker {
        Spot::Client(Client { kind, .. }) => *kind == ClientKind::Pod,
        Spot::Server(_) => true,
        Spot::Agent(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Check;
    use crate::inventory::tests::inventory;
    use crate::plan::plan;
    use crate::report::Outcome;

    /// What comes of a case of `check` that is the first one of `asker`, with this attempt.
    fn made(check: Check, asker: &str, server: &str, local: &str, peer: &str) -> Made {
        let inventory = inventory();
        let planned = plan(&inventory, check, 1000);
        let case = planned
            .cases
            .iter()
            .find(|case| case.asker.name() == asker)
            .unwrap();
        let identity = Identity {
            name: server.into(),
            peer: peer.parse().unwrap(),
        };
        let attempt = Attempt {
            local: Some(local.parse().unwrap()),
            millis: 1.0,
            answer: Answer::Server(identity),
        };
        let result = CaseResult {
            check,
            from: asker.into(),
            to: case.to.clone(),
            how: case.how.into(),
            millis: 1.0,
            outcome: Outcome::Passed {
                note: String::new(),
            },
        };
        let report = Report {
            attempts: vec![attempt],
        };
        let mut made = Made::default();
        made.add(&inventory, case, &report, 0, &result);
        made
    }

    fn told(made: &Made) -> Vec<String> {
        let seen = made
            .seen
            .iter()
            .flat_map(|(node, seen)| seen.iter().map(move |it| (node, it)));
        seen.map(|(node, it)| {
            let pod = |pod: &Option<String>| pod.clone().unwrap_or_else(|| "?".into());
            let (client, server) = (pod(&it.client_pod), pod(&it.server_pod));
            format!("{node}: {} {client} > {server}", it.client)
        })
        .collect()
    }

    #[test]
    fn both_nodes_see_a_pod_talk_to_a_pod() {
        let (local, check) = ("10.0.1.9:4000", Check::PodToService);
        let across = made(check, "client-1", "server-2", local, local);
        assert_eq!(
            told(&across),
            [
                "node1: 10.0.1.9:4000 shop/client-1 > shop/server-2",
                "node2: 10.0.1.9:4000 shop/client-1 > shop/server-2",
            ]
        );
        assert_eq!(across.crossed.len(), 2);
        let here = made(check, "client-1", "server-1", local, local);
        assert_eq!(
            told(&here),
            ["node1: 10.0.1.9:4000 shop/client-1 > shop/server-1"]
        );
        assert!(here.crossed.is_empty());
    }

    #[test]
    fn whoever_is_not_a_pod_is_seen_where_the_server_is_as_the_server_sees_it() {
        let check = Check::NodePortFromOutside;
        let made = made(
            check,
            "laptop",
            "server-2",
            "192.0.2.77:4000",
            "192.0.2.1:63000",
        );
        assert_eq!(told(&made), ["node2: 192.0.2.1:63000 ? > shop/server-2"]);
        assert!(made.crossed.is_empty());
    }

    #[test]
    fn nobody_sees_a_pod_talk_to_itself() {
        let local = "10.0.1.1:4000";
        let itself = made(Check::PodToItself, "server-1", "server-1", local, local);
        assert!(told(&itself).is_empty());
        let other = made(Check::PodToItself, "server-1", "server-2", local, local);
        assert_eq!(told(&other).len(), 2);
    }
}
