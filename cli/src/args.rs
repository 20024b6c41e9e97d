//! The command line's grammar and its help.

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::connect::Server;
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

Exit codes:
  0  it worked
  1  it failed
  2  the command line makes no sense
  3  no agent answers
  4  status: the agent is starting
  5  status: something does not work: a part of the agent failed, or a manifest is not served";

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
