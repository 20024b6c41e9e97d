//! What the operator is told: settings of the host, records that cannot be read.

use std::collections::BTreeSet;

use anyhow::Context;

use super::Encryption;
use crate::encryption::desired::Desired;
use crate::encryption::settings::{HostSettings, Needs};
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
