//! A place that is reached by commands: `ip netns exec`, `ssh`, `docker exec`, or nothing at all.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::inventory::{Inventory, Server};
use crate::place::{Place, Ran, Spot, Unreachable};
use crate::serve;

/// How long a server may take to listen.
const SERVER_DEADLINE: Duration = Duration::from_secs(20);

/// Runs the commands of an inventory, and the servers that it has commands for as long as this lives.
#[derive(Debug, Default)]
pub struct Commands {
    servers: Vec<Child>,
}

/// Why a server could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// There is no such program.
    #[error("start the server {name}: {command}")]
    Spawn {
        /// Of the server.
        name: String,
        /// What was run.
        command: String,
        /// Why it failed.
        source: io::Error,
    },
    /// It ended, or said nothing in time.
    #[error("the server {name} does not listen: {why}")]
    Silent {
        /// Of the server.
        name: String,
        /// What it said.
        why: String,
    },
}

impl Commands {
    /// Starts the servers of the inventory that have a command, and returns when they listen. They
    /// end with this value, and with this process however it ends: each reads its standard input and
    /// ends with it.
    pub async fn start(inventory: &Inventory) -> Result<Self, StartError> {
        let mut servers = Vec::new();
        for server in &inventory.servers {
            if let Some(command) = &server.command {
                servers.push(start_server(server, command).await?);
            }
        }
        Ok(Self { servers })
    }

    /// Ends the servers and returns when they have ended.
    pub async fn stop(mut self) {
        for server in &mut self.servers {
            drop(server.stdin.take());
        }
        for server in &mut self.servers {
            // One that does not end is killed when it is dropped.
            let _ = timeout(SERVER_DEADLINE, server.wait()).await;
        }
    }
}

impl Place for Commands {
    async fn run(
        &self,
        spot: Spot<'_>,
        arguments: &[String],
        accepted: &[i32],
        limit: Duration,
    ) -> Result<Ran, Unreachable> {
        let name = || spot.name().to_owned();
        let words = match spot {
            Spot::Client(client) => Some(&client.command),
            Spot::Server(server) => server.command.as_ref(),
            Spot::Agent(node) => node.agent.as_ref(),
        };
        let words = words.ok_or_else(|| Unreachable::NoCommand(name()))?;
        let what = format!("`weir {}`", arguments.join(" "));
        let failed = |source: io::Error| Unreachable::Start {
            name: name(),
            what: shown(words),
            source: source.into(),
        };
        let mut command = command(words).map_err(failed)?;
        command.args(arguments).stdin(Stdio::null());
        let Ok(output) = timeout(limit, command.output()).await else {
            let name = name();
            return Err(Unreachable::Timeout { name, what, limit });
        };
        let output = output.map_err(failed)?;
        let code = output.status.code();
        if !output.status.success() && !code.is_some_and(|code| accepted.contains(&code)) {
            let (name, why) = (name(), why(&output));
            return Err(Unreachable::Failed { name, what, why });
        }
        Ok(Ran {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

fn why(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("{}: {}", output.status, stderr.trim())
}

/// A command that runs `weir`, without its arguments. No words are this very program, here.
fn command(words: &[String]) -> io::Result<Command> {
    let mut command = match words {
        [] => Command::new(std::env::current_exe()?),
        [program, rest @ ..] => {
            let mut command = Command::new(program);
            command.args(rest);
            command
        }
    };
    command.kill_on_drop(true);
    Ok(command)
}

fn shown(words: &[String]) -> String {
    match words {
        [] => "this program".to_owned(),
        words => words.join(" "),
    }
}

async fn start_server(server: &Server, words: &[String]) -> Result<Child, StartError> {
    let spawn = || {
        command(words)?
            .args(serve::arguments(server))
            // It ends when this end is closed, however that happens.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    };
    let mut child = spawn().map_err(|source| StartError::Spawn {
        name: server.name.clone(),
        command: shown(words),
        source,
    })?;
    match timeout(SERVER_DEADLINE, first_line(&mut child)).await {
        Ok(Ok(line)) if line.trim_end() == serve::READY => Ok(child),
        result => {
            let said = match result {
                Ok(Ok(line)) => line,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("it said nothing for {}s", SERVER_DEADLINE.as_secs()),
            };
            let _ = child.kill().await;
            let mut text = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                let _ = stderr.read_to_string(&mut text).await;
            }
            let why = format!("{}{}", said.trim_end(), text.trim_end());
            let name = server.name.clone();
            Err(StartError::Silent { name, why })
        }
    }
}

async fn first_line(child: &mut Child) -> io::Result<String> {
    let mut line = String::new();
    if let Some(stdout) = &mut child.stdout {
        BufReader::new(stdout).read_line(&mut line).await?;
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{Client, ClientKind};

    fn client(words: &[&str]) -> Client {
        Client {
            name: "asker".into(),
            kind: ClientKind::Outside,
            node: None,
            pod: None,
            addresses: Vec::new(),
            command: words.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    async fn run(words: &[&str], arguments: &[&str]) -> Result<Ran, Unreachable> {
        let arguments: Vec<_> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let place = Commands::default();
        let limit = Duration::from_millis(500);
        let client = client(words);
        place
            .run(Spot::Client(&client), &arguments, &[5], limit)
            .await
    }

    #[tokio::test]
    async fn words_come_before_the_arguments() {
        let ran = run(&["echo", "weir"], &["a", "b c"]).await.unwrap();
        assert_eq!(ran.stdout, "weir a b c\n");
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_with_the_name() {
        let told = |error: Unreachable| error.to_string();
        let missing = told(run(&["/nowhere/weir"], &[]).await.unwrap_err());
        assert_eq!(missing, "asker: /nowhere/weir");
        let slow = told(run(&["sleep"], &["30"]).await.unwrap_err());
        assert_eq!(slow, "asker: no answer to `weir 30` within 500ms");
        let failed = told(
            run(&["sh", "-c"], &["echo no >&2; exit 3"])
                .await
                .unwrap_err(),
        );
        assert!(failed.ends_with("failed: exit status: 3: no"), "{failed}");
    }

    #[tokio::test]
    async fn an_exit_code_may_be_accepted() {
        let ran = run(&["sh", "-c"], &["echo yes; exit 5"]).await.unwrap();
        assert_eq!(ran.stdout, "yes\n");
    }
}
