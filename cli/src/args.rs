//! The command line's grammar and its help.

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::connect::Server;
use crate::connectivity::ConnectivityCommand;
use crate::encrypt::{ReportArgs, RotateArgs};
use crate::observe::ObserveArgs;

/// See what the Weir agent of this node balances, sees and drops.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Arguments {
    /// Where the agent listens: `unix:///PATH` or `HOST:PORT`
    #[arg(long, global = true, env = "WEIR_SERVER", default_value = Server::DEFAULT)]
    pub server: Server,

    /// When to use colours; `auto` is on a terminal, unless `NO_COLOR` is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  weir status                          is it working, and what is wrong with the manifests?
  weir service list                    what is balanced, and to how many backends?
  weir observe -f                      show flows as they come
  weir observe --verdict DROPPED       what was dropped lately, and why?
  weir observe --help                  all filters
  weir encrypt report                  did anything leave for other nodes in clear text?
  weir connectivity test               does all of it work, between all parts of the cluster?

Exit codes:
  0  it worked
  1  it failed
  2  the command line makes no sense; connectivity test: it could not run
  3  no agent answers
  4  status: the agent is starting
  5  status: something does not work: a part of the agent failed, or a manifest is not served
  6  encrypt report --fail-on-clear: something left in clear text";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the state of the agent: data path, source, flows, problems
    Status(OutputArgs),

    /// Show flows: who talks to whom, what is dropped, and why
    // Boxed, because it is far larger than the others.
    Observe(Box<ObserveArgs>),

    /// Services as the data path balances them
    Service {
        /// What to do
        #[command(subcommand)]
        command: ServiceCommand,
    },

    /// Backends of all services
    Backend {
        /// What to do
        #[command(subcommand)]
        command: BackendCommand,
    },

    /// Pods of this node
    Endpoint {
        /// What to do
        #[command(subcommand)]
        command: EndpointCommand,
    },

    /// Encryption between nodes: its state, its peers, what left in clear text, a new key
    Encrypt {
        /// What to do
        #[command(subcommand)]
        command: EncryptCommand,
    },

    /// Check with real connections what a cluster promises
    Connectivity {
        /// What to do
        #[command(subcommand)]
        command: ConnectivityCommand,
    },

    /// Print a script that teaches a shell to complete weir's commands
    #[command(after_help = "Example:\n  source <(weir completions bash)")]
    Completions {
        /// The shell
        shell: Shell,
    },

    /// Remove every trace of Weir from this node (runs `weir-agent uninstall`)
    Uninstall {
        /// Passed on to weir-agent; see `weir-agent uninstall --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// What to do with services.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// List frontends, how many backends they have, and the size of their tables
    List(OutputArgs),
}

/// What to do with backends.
#[derive(Debug, Subcommand)]
pub enum BackendCommand {
    /// List backends, whether they get connections, and how many slots they have
    List(OutputArgs),
}

/// What to do with endpoints.
#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// List pods of this node, their identities and interfaces
    List(OutputArgs),
}

/// What to do with encryption.
#[derive(Debug, Subcommand)]
pub enum EncryptCommand {
    /// Show device, key and nodes, and what is wrong with them
    #[command(after_help = STATUS_HELP)]
    Status(OutputArgs),

    /// List the peers of the WireGuard device: endpoints, allowed IPs, bytes, handshakes
    #[command(after_help = PEERS_HELP)]
    Peers(OutputArgs),

    /// Show what went to each node, encrypted or not, and why what was not is not
    #[command(after_help = REPORT_HELP)]
    Report(ReportArgs),

    /// Replace this node's key without interrupting its connections
    #[command(after_help = ROTATE_HELP)]
    RotateKey(RotateArgs),
}

const STATUS_HELP: &str = "\
What a node can be:
  peer      its traffic is encrypted
  no key    it has not published a key, so its pods are not reached: does its agent run there?
  refused   its Node contradicts itself or an older one; the reason stands beside it

A peer that `DOES NOT ANSWER` is being sent to without a handshake in the last three minutes: is
its UDP port open between the nodes? A peer that is `idle` has nothing to say.

Exit code 5 if the agent's last step failed or a node is not encrypted as it should be.";

const PEERS_HELP: &str = "\
A node that changes its key has two peers for a while; the one without allowed IPs is not used.

Examples:
  weir encrypt peers
  weir encrypt peers -o json | jq -r '.peers[] | select(.sent_bytes != \"0\") | .node'";

const REPORT_HELP: &str = "\
Paths:
  encrypted          through the WireGuard device
  clear_allowed      to pods in encryption.strictMode.allowedCidrs, tunnels to excepted nodes
  clear_not_strict   to pods, while encryption.strictMode.enabled is false
  clear_tunnel       in a VXLAN, Geneve or IP tunnel, while strict mode is off
  clear_node         to the node itself, while encryption.node is false
  clear_excepted     to the node itself, by an exception to encryption.node
  clear_no_peer      to the node itself, before it is a peer
  dropped            did not leave: it would have been in clear text

The programs in the kernel count, also while no agent runs. Counts go on over restarts.

Examples:
  weir encrypt report
  weir encrypt report --fail-on-clear              exit code 6 if a pod's packet left in clear text
  weir encrypt report --fail-on-clear=any          the nodes' own packets count too
  weir encrypt report --during 1m --fail-on-clear  only what leaves in the next minute";

const ROTATE_HELP: &str = "\
The new key is published at once and used after encryption.wireguard.rotationGrace, by which time
every other node must have received it. Connections go on. A second change is refused while one is
under way.

Example:
  weir encrypt rotate-key --wait";

/// How to print an answer.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Form of the output
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub output: Form,
}

/// Forms of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    Text,
    /// For programs: the answer of the agent as protobuf JSON
    Json,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Even into a file
    Always,
    /// Not even on a terminal
    Never,
}

impl Color {
    /// Whether colours are used. `NO_COLOR` counts if it is not empty (see no-color.org).
    pub fn applies(self, is_terminal: bool, no_color: Option<OsString>) -> bool {
        match self {
            Self::Auto => is_terminal && no_color.is_none_or(|value| value.is_empty()),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn colours_are_for_terminals_of_those_who_want_them() {
        let set = |text: &str| Some(OsString::from(text));
        let cases = [
            (Color::Auto, true, None, true),
            (Color::Auto, true, set("1"), false),
            (Color::Auto, true, set(""), true),
            (Color::Auto, false, None, false),
            (Color::Always, false, set("1"), true),
            (Color::Never, true, None, false),
        ];
        for (color, is_terminal, no_color, expected) in cases {
            assert_eq!(
                color.applies(is_terminal, no_color.clone()),
                expected,
                "{color:?} {no_color:?}"
            );
        }
    }
}
