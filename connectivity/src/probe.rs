//! One look from where a client is: connections to one address, a transfer, or a name. Run there as
//! `weir connectivity probe`, which prints a [`Report`] as JSON.
//!
//! That an address does not answer is a result, not an error: the command fails only if it could
//! not try.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

mod name;
mod tcp;
mod transfer;
mod udp;

/// Failures after which no more is tried: it will not get better, and each may cost a timeout.
const ENOUGH: usize = 3;

/// What to try.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Probe {
    /// Ask a server over TCP who it is
    Tcp(Dial),
    /// Ask a server over UDP who it is
    Udp(Dial),
    /// Send bytes to a server and get as many from it, and compare checksums
    Transfer {
        /// Where
        #[command(flatten)]
        dial: Dial,
        /// How many each way
        #[arg(long, default_value_t = 1 << 22)]
        bytes: usize,
    },
    /// Look a name up as programs here do
    Name {
        /// The name
        name: String,
        /// Limit of each try, in milliseconds
        #[arg(long, default_value_t = 5000)]
        timeout_ms: u64,
    },
}

/// Where to connect to, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Dial {
    /// Address
    pub ip: IpAddr,
    /// Port
    pub port: u16,
    /// Connections, one after the other, each from a port of its own
    #[arg(long, default_value_t = 1)]
    pub times: u32,
    /// Limit of each connection, in milliseconds
    #[arg(long, default_value_t = 5000)]
    pub timeout_ms: u64,
}

impl Dial {
    /// Where to.
    pub fn target(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    fn limit(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// What came of a probe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// In the order in which they were made.
    pub attempts: Vec<Attempt>,
}

/// One connection or look-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The client's end. Its address is unspecified where the connection was not made.
    pub local: Option<SocketAddr>,
    /// Time until the answer or the failure, in milliseconds.
    pub millis: f64,
    /// What came of it.
    pub answer: Answer,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A server answered.
    Server(Identity),
    /// A name has these addresses.
    Addresses(Vec<IpAddr>),
    /// Why there is none.
    Failed(String),
}

/// Who a server says that it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Name of the server.
    pub name: String,
    /// Whom it sees at the other end.
    pub peer: SocketAddr,
}

impl Probe {
    /// The arguments of `weir` that run this. Only letters, digits and `.:-`: they pass through any
    /// shell on the way.
    pub fn arguments(&self) -> Vec<String> {
        let mut words = vec!["connectivity".to_owned(), "probe".to_owned()];
        match self {
            Self::Tcp(dial) => dial.add_to(&mut words, "tcp"),
            Self::Udp(dial) => dial.add_to(&mut words, "udp"),
            Self::Transfer { dial, bytes } => {
                dial.add_to(&mut words, "transfer");
                words.extend(["--bytes".to_owned(), bytes.to_string()]);
            }
            Self::Name { name, timeout_ms } => {
                let limit = timeout_ms.to_string();
                words.extend([
                    "name".to_owned(),
                    name.clone(),
                    "--timeout-ms".to_owned(),
                    limit,
                ]);
            }
        }
        words
    }

    /// How long this may take at most.
    pub fn longest(&self) -> Duration {
        match self {
            // Retries and the way there and back are part of an attempt's limit.
            Self::Tcp(dial) | Self::Udp(dial) => dial.limit() * dial.times.max(1),
            // Each way has a limit of its own.
            Self::Transfer { dial, .. } => dial.limit() * dial.times.max(1) * 2,
            Self::Name { timeout_ms, .. } => Duration::from_millis(*timeout_ms),
        }
    }

    /// Tries it.
    pub async fn run(&self) -> Report {
        let mut report = Report::default();
        let times = match self {
            Self::Tcp(dial) | Self::Udp(dial) | Self::Transfer { dial, .. } => dial.times,
            Self::Name { .. } => 1,
        };
        let mut failures = 0;
        for _ in 0..times {
            let attempt = match self {
                Self::Tcp(dial) => tcp::attempt(dial.target(), dial.limit()).await,
                Self::Udp(dial) => udp::attempt(dial.target(), dial.limit()).await,
                Self::Transfer { dial, bytes } => {
                    transfer::attempt(dial.target(), *bytes, dial.limit()).await
                }
                Self::Name { name, timeout_ms } => {
                    name::attempt(name, Duration::from_millis(*timeout_ms)).await
                }
            };
            failures += usize::from(matches!(attempt.answer, Answer::Failed(_)));
            report.attempts.push(attempt);
            if failures == ENOUGH {
                break;
            }
        }
        report
    }
}

impl Dial {
    fn add_to(&self, words: &mut Vec<String>, kind: &str) {
        words.extend([kind.to_owned(), self.ip.to_string(), self.port.to_string()]);
        words.extend(["--times".to_owned(), self.times.to_string()]);
        words.extend(["--timeout-ms".to_owned(), self.timeout_ms.to_string()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(subcommand)]
        probe: Probe,
    }

    #[test]
    fn what_is_asked_for_arrives_on_the_other_side() {
        let dial = |ip: &str| Dial {
            ip: ip.parse().unwrap(),
            port: 30080,
            times: 7,
            timeout_ms: 250,
        };
        for probe in [
            Probe::Tcp(dial("192.0.2.1")),
            Probe::Udp(dial("2001:db8::1")),
            Probe::Transfer {
                dial: dial("fd00::9"),
                bytes: 77,
            },
            Probe::Name {
                name: "echo.shop.svc".into(),
                timeout_ms: 10,
            },
        ] {
            let arguments = probe.arguments();
            assert_eq!(arguments[..2], ["connectivity", "probe"]);
            let parsed = Program::try_parse_from(&arguments[1..]).unwrap();
            assert_eq!(parsed.probe, probe);
            let plain = |c: char| c.is_ascii_alphanumeric() || ".:-".contains(c);
            assert!(
                arguments.iter().all(|word| word.chars().all(plain)),
                "{arguments:?}"
            );
        }
    }
}
