//! What the operator is told: settings of the host, records that cannot be read, nodes that do not
//! answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Instant, SystemTime};

use anyhow::Context;

use super::Encryption;
use crate::encryption::desired::Desired;
use crate::encryption::desired::nodes::Standing;
use crate::encryption::device::{DeviceSettings, DeviceState};
use crate::encryption::settings::{HostSettings, Needs};
use crate::encryption::silence::{self, Seen};
use crate::state::{Problem, Severity};

impl<A> Encryption<A> {
    /// Settings of the host that are in the way.
    pub(super) fn findings(&self, desired: &Desired) -> anyhow::Result<Vec<Problem>> {
        let needs = Needs {
            device: self.settings.name.clone(),
            uplinks: BTreeSet::new(),
            ipv4: desired
                .members
                .iter()
                .any(|member| member.pods.iter().any(|it| it.is_ipv4())),
            ipv6: desired
                .members
                .iter()
                .any(|member| member.pods.iter().any(|it| !it.is_ipv4())),
            nodes: self.config.node,
        };
        let findings = HostSettings::default()
            .findings(&needs)
            .context("settings of the host")?;
        Ok(findings
            .iter()
            .map(|finding| problem(String::new(), finding.to_string()))
            .collect())
    }

    /// Peers that packets were encrypted for and that do not answer.
    pub(super) fn silent(
        &mut self,
        desired: &Desired,
        state: &DeviceState,
    ) -> anyhow::Result<Vec<Problem>> {
        let now = SystemTime::now();
        let mut seen = BTreeMap::new();
        let mut names = BTreeMap::new();
        for member in desired.peer_nodes() {
            let Standing::Peer { key, .. } = member.standing else {
                continue;
            };
            let traffic = state.traffic.get(&key).copied().unwrap_or_default();
            let id = self.ids.as_ref().and_then(|ids| ids.id(&member.name));
            let Some(id) = id.filter(|_| silence::is_without_session(traffic.last_handshake, now))
            else {
                continue;
            };
            let packets = self.maps.encrypted_packets(id);
            let of_peer = Seen {
                last_handshake: traffic.last_handshake,
                packets: packets.context("reading a node's account")?,
            };
            seen.insert(key, of_peer);
            names.insert(key, &member.name);
        }
        let silent = self.silence.look(&seen, Instant::now());
        Ok(silent
            .iter()
            .map(|key| silent_problem(names[key], &self.settings))
            .collect())
    }
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

fn silent_problem(node: &str, settings: &DeviceSettings) -> Problem {
    let message = format!(
        "does not answer: packets to it were encrypted and no handshake was made. It has another \
         key than it published, another presharedSecretFile, or UDP port {} of it cannot be reached",
        settings.port
    );
    Problem {
        object: format!("Node {node}"),
        ..problem(String::new(), message)
    }
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
