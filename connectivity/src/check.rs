//! The checks by name.

use clap::ValueEnum;
use serde::Serialize;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Pods reach pods of their own node and of others
    PodToPod,
    /// Pods reach ClusterIPs, and every server behind them answers
    PodToService,
    /// A pod reaches itself through a service that chose it
    PodToItself,
    /// Processes of a node reach pods of it and of other nodes
    NodeToPod,
    /// Processes of a node reach ClusterIPs
    NodeToService,
    /// Node ports answer processes of other nodes
    NodePortFromNode,
    /// Node ports of all nodes answer machines outside of the cluster
    NodePortFromOutside,
    /// External and load balancer addresses answer machines outside of the cluster
    ExternalAddress,
    /// Some megabytes arrive as they were sent, both ways
    LargeTransfer,
    /// Pods find services by their names
    Dns,
    /// What pods say to other nodes leaves encrypted, and nothing in clear text
    Encryption,
    /// The agents show every connection that was made, with the right pods
    Flows,
}

impl Check {
    /// The name, as in the table and on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it checks, in a sentence.
    pub fn about(self) -> String {
        let help = self
            .to_possible_value()
            .and_then(|it| it.get_help().cloned());
        help.map_or_else(String::new, |help| help.to_string())
    }

    /// All of them, in the order in which they run.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    /// True if what failed can have flows.
    pub fn has_flows(self) -> bool {
        !self.looks_back()
    }

    /// True for a check that looks at what others did, and makes no connections.
    fn looks_back(self) -> bool {
        matches!(self, Self::Encryption | Self::Flows)
    }
}

/// Which checks run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection(Vec<Check>);

impl Selection {
    /// These checks; all of them if none is named. Checks that only look at connections of others
    /// bring one that makes some.
    pub fn new(named: &[Check]) -> Self {
        let mut chosen: Vec<_> = match named {
            [] => Check::all().collect(),
            named => named.to_vec(),
        };
        if chosen.iter().all(|check| check.looks_back()) {
            chosen.push(Check::PodToPod);
        }
        chosen.sort_unstable();
        chosen.dedup();
        Self(chosen)
    }

    /// True if the check runs.
    pub fn has(&self, check: Check) -> bool {
        self.0.contains(&check)
    }

    /// The checks that make connections, in the order in which they run.
    pub(crate) fn active(&self) -> impl Iterator<Item = Check> {
        self.0.iter().copied().filter(|check| !check.looks_back())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sentences_are_there() {
        for check in Check::all() {
            assert!(
                !check.name().is_empty() && !check.about().is_empty(),
                "{check:?}"
            );
        }
        assert_eq!(Check::NodePortFromOutside.name(), "node-port-from-outside");
    }

    #[test]
    fn all_run_unless_some_are_named() {
        assert_eq!(Selection::new(&[]).0, Check::all().collect::<Vec<_>>());
        let two = Selection::new(&[Check::Dns, Check::PodToPod, Check::Dns]);
        assert_eq!(two.0, [Check::PodToPod, Check::Dns]);
    }

    #[test]
    fn looking_back_needs_something_to_look_at() {
        let flows = Selection::new(&[Check::Flows]);
        assert_eq!(flows.active().collect::<Vec<_>>(), [Check::PodToPod]);
        let with_traffic = Selection::new(&[Check::Flows, Check::Dns]);
        assert_eq!(with_traffic.active().collect::<Vec<_>>(), [Check::Dns]);
    }
}
