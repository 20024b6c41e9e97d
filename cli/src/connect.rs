//! Reaching the agent, and saying what to check when it cannot be reached.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use weir_proto::admin::admin_client::AdminClient;

use crate::failure::Failure;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of the largest answer that is taken. An agent whose maps are full of backends has less than
/// half of that to tell, and more than the 4 MiB that tonic takes unless it is told otherwise.
const ANSWER_MAX: usize = 256 << 20;

/// Where an agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// A socket in the file system.
    Unix(PathBuf),
    /// `HOST:PORT`, without encryption.
    Tcp(String),
}

impl Server {
    /// Where the agent listens unless it is told otherwise.
    pub const DEFAULT: &str = "unix:///run/weir/agent.sock";

    /// Connects to the agent's own service.
    pub(crate) async fn admin(&self) -> Result<AdminClient<Channel>, Failure> {
        let client = AdminClient::new(self.connect().await?);
        Ok(client.max_decoding_message_size(ANSWER_MAX))
    }

    /// Connects, or says why not and what to check.
    pub(crate) async fn connect(&self) -> Result<Channel, Failure> {
        let uri = match self {
            Self::Unix(path) => {
                // The first connection is only for its error, which the channel does not pass on.
                UnixStream::connect(path)
                    .map_err(|error| self.unreachable(error.kind(), &error))?;
                format!("unix://{}", path.display())
            }
            Self::Tcp(address) => format!("http://{address}"),
        };
        let endpoint = Endpoint::try_from(uri)
            .map_err(|error| Failure::Usage(format!("--server {self}: {error}")))?;
        endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .connect()
            .await
            .map_err(|error| self.unreachable(ErrorKind::Other, &root_cause(&error)))
    }

    fn unreachable(&self, kind: ErrorKind, error: &dyn fmt::Display) -> Failure {
        let hint = match (self, kind) {
            (Self::Tcp(_), _) => "is that the address of an agent?",
            (_, ErrorKind::NotFound) => {
                "is weir-agent running on this node, and is this the path it listens at \
                 (paths.socket of its configuration)?"
            }
            (_, ErrorKind::PermissionDenied) => "the socket is root's alone; try again as root",
            (_, ErrorKind::ConnectionRefused) => {
                "the socket was left behind by an agent that no longer runs; start weir-agent"
            }
            _ => "is weir-agent running on this node?",
        };
        Failure::Unreachable(format!(
            "no agent answers at {self}: {error}\n  {hint}\n  \
             --server or WEIR_SERVER asks another one"
        ))
    }
}

/// The innermost error: the outer ones of the transport only say that something failed.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err("the path of the socket is missing: unix:///PATH".into()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let is_port = |port: &str| port.parse::<u16>().is_ok();
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && is_port(port) => Ok(Self::Tcp(text.into())),
            _ => Err("use unix:///PATH or HOST:PORT".into()),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => f.write_str(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_sockets_or_addresses() {
        let unix = |path: &str| Ok(Server::Unix(path.into()));
        let tcp = |address: &str| Ok(Server::Tcp(address.into()));
        let cases = [
            (Server::DEFAULT, unix("/run/weir/agent.sock")),
            ("unix:/tmp/a", unix("/tmp/a")),
            ("unix:relative", unix("relative")),
            ("/tmp/a", unix("/tmp/a")),
            ("localhost:4245", tcp("localhost:4245")),
            ("[::1]:4245", tcp("[::1]:4245")),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Server>(), expected, "{text}");
        }
        for text in [
            "",
            "unix:",
            "unix://",
            "localhost",
            ":80",
            "host:port",
            "http://a",
        ] {
            assert!(text.parse::<Server>().is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn an_agent_that_does_not_answer_is_told_with_what_to_check() {
        let folder = tempfile::tempdir().unwrap();
        let stale = folder.path().join("stale");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        let cases = [
            (folder.path().join("none"), "is weir-agent running"),
            (stale, "left behind"),
        ];
        for (path, hint) in cases {
            let failure = Server::Unix(path.clone()).connect().await.unwrap_err();
            assert_eq!(failure.exit_code(), 3);
            let text = failure.to_string();
            assert!(
                text.contains(path.to_str().unwrap()) && text.contains(hint),
                "{text}"
            );
        }
    }
}
