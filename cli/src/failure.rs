//! How a command fails, and the exit code that tells scripts so.

use std::fmt;
use std::io;

use tonic::Code;

/// Why a command did not do what it should.
#[derive(Debug)]
pub enum Failure {
    /// The arguments make no sense. Exit code 2, as for those that the parser refuses.
    Usage(String),
    /// No agent answers. Exit code 3.
    Unreachable(String),
    /// The agent refused or failed. Exit code 1.
    Refused(tonic::Status),
    /// The agent answers and is not ready yet. Exit code 4.
    Starting(String),
    /// The agent is ready, and something does not work. Exit code 5.
    Degraded(String),
    /// Something left in clear text that must not. Exit code 6.
    ClearText(String),
    /// A check of connectivity failed. Exit code 1.
    Connectivity(String),
    /// Checks could not be run. Exit code 2.
    CouldNotRun(anyhow::Error),
    /// Anything else. Exit code 1.
    Other(anyhow::Error),
}

impl Failure {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Connectivity(_) | Self::Other(_) => 1,
            Self::Usage(_) | Self::CouldNotRun(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Starting(_) => 4,
            Self::Degraded(_) => 5,
            Self::ClearText(_) => 6,
        }
    }

    /// True if the reader of the output went away.
    pub fn is_closed_pipe(&self) -> bool {
        let Self::Other(error) = self else {
            return false;
        };
        let io = error.downcast_ref::<io::Error>();
        io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text)
            | Self::Unreachable(text)
            | Self::Starting(text)
            | Self::Degraded(text)
            | Self::ClearText(text)
            | Self::Connectivity(text) => f.write_str(text),
            Self::Refused(status) => f.write_str(status.message()),
            Self::CouldNotRun(error) | Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        match status.code() {
            Code::Unavailable => {
                Self::Unreachable(format!("the agent went away: {}", status.message()))
            }
            _ => Self::Refused(status),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.into())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}
