//! Where the suite can run `weir`.

use std::future::Future;
use std::time::Duration;

use thiserror::Error;

use crate::inventory::{Client, Node, Server};

/// Where something is run.
#[derive(Clone, Copy, Debug)]
pub enum Spot<'a> {
    /// At a client.
    Client(&'a Client),
    /// At a server, which asks for once.
    Server(&'a Server),
    /// Beside the agent of a node.
    Agent(&'a Node),
}

impl<'a> Spot<'a> {
    /// Its name in the inventory.
    pub fn name(self) -> &'a str {
        match self {
            Self::Client(client) => &client.name,
            Self::Server(server) => &server.name,
            Self::Agent(node) => &node.name,
        }
    }

    /// The node that it is on, if it is on one.
    pub fn node(self) -> Option<&'a str> {
        match self {
            Self::Client(client) => client.node.as_deref(),
            Self::Server(server) => Some(&server.node),
            Self::Agent(node) => Some(&node.name),
        }
    }

    /// The pod that it is, as `namespace/name`.
    pub fn pod(self) -> Option<&'a str> {
        match self {
            Self::Client(client) => client.pod.as_deref(),
            Self::Server(server) => server.pod.as_deref(),
            Self::Agent(_) => None,
        }
    }
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Why `weir` could not be run somewhere.
#[derive(Debug, Error)]
pub enum Unreachable {
    /// The inventory has no command for it.
    #[error("{0}: the inventory has no command to run weir there")]
    NoCommand(String),
    /// The command could not be started, or the connection to it broke.
    #[error("{name}: {what}")]
    Start {
        /// Where.
        name: String,
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It did not end in time.
    #[error("{name}: no answer to {what} within {limit:?}")]
    Timeout {
        /// Where.
        name: String,
        /// What was run.
        what: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// It was refused.
    #[error("{name}: {what} failed: {why}")]
    Failed {
        /// Where.
        name: String,
        /// What was run.
        what: String,
        /// Exit code, and what it wrote to standard error.
        why: String,
    },
}

/// Runs `weir` in the parts of a cluster.
pub trait Place {
    /// Runs `weir` with these arguments and returns what it printed. A command that ends with an
    /// exit code in `accepted`, or with zero, has succeeded.
    fn run(
        &self,
        spot: Spot<'_>,
        arguments: &[String],
        accepted: &[i32],
        limit: Duration,
    ) -> impl Future<Output = Result<Ran, Unreachable>>;
}
