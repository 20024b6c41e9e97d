//! What the operator is told: settings of the host, records that cannot be read, nodes that do not
//! answer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Context;

use super::Encryption;
use crate::encryption::Port;
use crate::encryption::desired::Desired;
use crate::encryption::key::KeyStoreError;
use crate::encryption::settings::Needs;
use crate::encryption::snapshot::{NodeStatus, Snapshot};
use crate::state::{Problem, Severity};

impl<A> Encryption<A> {
    /// Settings of the host that are in the way.
    pub(super) fn findings(&self, desired: &Desired) -> anyhow::Result<Vec<Problem>> {
        let needs = Needs {
            device: self.settings.name.clone(),
            ipv4: desired
                .members
                .iter()
                .any(|member| member.pods.iter().any(|it| it.is_ipv4())),
            ipv6: desired
                .members
                .iter()
                .any(|member| member.pods.iter().any(|it| !it.is_ipv4())),
        };
        let findings = self.host.findings(&needs).context("settings of the host")?;
        Ok(findings
            .iter()
            .map(|finding| problem(String::new(), finding.to_string()))
            .collect())
    }
}

/// Nodes that packets were encrypted for and that do not answer, and those that are waited for in vain.
pub(super) fn silent_problems(
    snapshot: &Snapshot,
    waited_for: &BTreeSet<String>,
) -> impl Iterator<Item = Problem> {
    let silent = |node: &&NodeStatus| node.handshake.is_unanswered();
    let nodes = snapshot.nodes.iter().filter(silent);
    nodes.map(|node| {
        let effect = if waited_for.contains(&node.name) {
            "it was called and made no handshake, so what is sent to it goes in clear text"
        } else {
            "packets to it were encrypted and no handshake was made"
        };
        silent_problem(&node.name, effect, snapshot.port)
    })
}

pub(super) fn record_problem(what: String) -> Problem {
    problem(
        what,
        "is no record of a node's key: it is not taken".to_owned(),
    )
}

pub(super) fn problem(origin: String, message: String) -> Problem {
    Problem {
        severity: Severity::Error,
        origin,
        object: String::new(),
        field: String::new(),
        message,
    }
}

fn silent_problem(node: &str, effect: &str, port: Port) -> Problem {
    let message = format!(
        "does not answer: {effect}. It has another \
         key than it published, another presharedSecretFile, or UDP port {port} of it cannot be reached"
    );
    Problem {
        object: format!("Node {node}"),
        ..problem(String::new(), message)
    }
}

pub(super) fn not_replaced_problem(error: &KeyStoreError) -> Problem {
    let reason = crate::error_chain(error);
    let message = format!(
        "this node's key is as old as encryption.wireguard.rotateAfter lets it become and stays in \
         use: {reason}"
    );
    problem(String::new(), message)
}

pub(super) fn fragmented_problem(endpoint: IpAddr) -> Problem {
    let message = format!(
        "the way to {endpoint} takes so small packets that encrypted ones are sent in fragments; \
         give it an MTU of 1360 bytes or more, or 1380 over IPv6"
    );
    Problem {
        severity: Severity::Warning,
        ..problem(String::new(), message)
    }
}
