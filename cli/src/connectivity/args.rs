//! The grammar of `weir connectivity`, and its help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::SignedDuration;
use weir_connectivity::probe::Probe;
use weir_connectivity::serve::ServeArgs;
use weir_connectivity::{Check, Selection, Settings, kubernetes};

use crate::args::OutputArgs;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum ConnectivityCommand {
    /// Check who reaches whom: pods, services, node ports, names; encryption, and the flows of it all
    // Boxed, because it is far larger than the others.
    #[command(after_help = TEST_HELP)]
    Test(Box<TestArgs>),

    /// Answer probes: what `test` runs in its servers
    #[command(hide = true)]
    Serve(ServeArgs),

    /// Make connections and print what came of them as JSON: what `test` runs in its clients
    #[command(hide = true)]
    Probe {
        /// What to try
        #[command(subcommand)]
        probe: Probe,
    },
}

const TEST_HELP: &str = "\
On Kubernetes:
  Makes a namespace with pods on two nodes and two services, runs the checks from them, and removes
  everything, also after Ctrl-C. Finds the cluster as kubectl does, and asks the agents by `kubectl
  exec`'s way. On a cluster of one node, what goes between nodes is skipped.

Elsewhere:
  --inventory names who asks, who answers and under which addresses, and how to run weir at each of
  them, such as by `ssh node1 weir`. The guide shows one: docs/guide/connectivity.md.

What failed is shown with the flows that the agents saw of it. Nothing is tried twice: one failed
connection fails its check.

Examples:
  weir connectivity test
  weir connectivity test --outside                      this machine reaches the nodes' addresses
  weir connectivity test --test pod-to-service,flows
  weir connectivity test --inventory cluster.yaml -o json | jq '.results[] | select(.result == \"failed\")'

Exit codes:
  0  all that was tried works
  1  something does not
  2  the checks could not be run, or nothing could be tried";

/// How to test.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Run only these checks (repeat it, or separate them by commas)
    #[arg(long = "test", value_name = "CHECK", value_delimiter = ',')]
    checks: Vec<Check>,

    /// Limit of each connection: `500ms`, `5s`
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = span)]
    timeout: Duration,

    /// Use what this file describes, instead of making pods on Kubernetes
    #[arg(long, value_name = "FILE", conflicts_with_all = ON_KUBERNETES)]
    pub(super) inventory: Option<PathBuf>,

    #[command(flatten)]
    pub(super) output: OutputArgs,

    /// File that says where the cluster is [default: as for kubectl]
    #[arg(long, value_name = "FILE", help_heading = KUBERNETES)]
    kubeconfig: Option<PathBuf>,

    /// Context of that file [default: its current one]
    #[arg(long, value_name = "NAME", help_heading = KUBERNETES)]
    context: Option<String>,

    /// Namespace to make and remove
    #[arg(long, value_name = "NAME", default_value = "weir-connectivity", help_heading = KUBERNETES)]
    pub(super) namespace: String,

    /// Image of the pods; it must have `weir` [default: that of the agents]
    #[arg(long, value_name = "IMAGE", help_heading = KUBERNETES)]
    image: Option<String>,

    /// Most nodes to put pods on
    #[arg(long, value_name = "N", default_value_t = 2, help_heading = KUBERNETES)]
    nodes: usize,

    /// Namespace of the agents [default: looked for in all]
    #[arg(long, value_name = "NAME", help_heading = KUBERNETES)]
    agent_namespace: Option<String>,

    /// Check from this machine as well, as one outside of the cluster: it must reach the nodes
    #[arg(long, help_heading = KUBERNETES)]
    outside: bool,

    /// How long pods and services may take to be ready
    #[arg(
        long,
        value_name = "TIME",
        default_value = "2m",
        value_parser = span,
        help_heading = KUBERNETES
    )]
    ready_timeout: Duration,

    /// Leave the namespace there, for a look around
    #[arg(long, help_heading = KUBERNETES)]
    pub(super) keep: bool,
}

const KUBERNETES: &str = "On Kubernetes";

const ON_KUBERNETES: [&str; 9] = [
    "kubeconfig",
    "context",
    "namespace",
    "image",
    "nodes",
    "agent_namespace",
    "outside",
    "ready_timeout",
    "keep",
];

impl TestArgs {
    /// How to run the suite.
    pub(super) fn suite(&self) -> Settings {
        Settings {
            selection: Selection::new(&self.checks),
            timeout: self.timeout,
        }
    }

    /// What to make on Kubernetes.
    pub(super) fn kubernetes(&self) -> kubernetes::Settings {
        kubernetes::Settings {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            namespace: self.namespace.clone(),
            image: self.image.clone(),
            nodes: self.nodes,
            agents: self.agent_namespace.clone(),
            outside: self.outside,
            ready_within: self.ready_timeout,
        }
    }
}

fn span(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok();
    parsed
        .and_then(|span| Duration::try_from(span).ok())
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "use a time such as 500ms, 5s or 2m".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::Arguments;
    use crate::args::Command;

    fn parse(words: &str) -> Result<TestArgs, clap::Error> {
        let words = format!("weir connectivity test {words}");
        match Arguments::try_parse_from(words.split_whitespace())?.command {
            Command::Connectivity {
                command: ConnectivityCommand::Test(args),
            } => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn checks_are_chosen_by_name() {
        let args = parse("--test dns,flows --test pod-to-pod --timeout 500ms").unwrap();
        let expected = Selection::new(&[Check::PodToPod, Check::Dns, Check::Flows]);
        assert_eq!(args.suite().selection, expected);
        assert_eq!(args.suite().timeout, Duration::from_millis(500));
        assert_eq!(parse("").unwrap().suite().selection, Selection::new(&[]));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [
            "--test nothing",
            "--timeout 0s",
            "--inventory x.yaml --keep",
            "--inventory x.yaml --namespace y",
        ] {
            let error = parse(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words}");
        }
        // Defaults are not in the way of an inventory.
        parse("--inventory x.yaml").unwrap();
    }
}
