//! Container engines: whichever answers on this machine.

use std::process::Command;

use crate::process;
use crate::setup;

/// An engine that answers.
#[derive(Debug)]
pub struct Engine {
    name: &'static str,
}

impl Engine {
    /// The first one that answers, or why none does.
    pub fn find() -> Result<Self, String> {
        let mut reasons = Vec::new();
        for name in ["docker", "podman"] {
            match Self::try_named(name) {
                Ok(engine) => return Ok(engine),
                Err(reason) => reasons.push(format!("{name}: {reason}")),
            }
        }
        Err(format!(
            "no container engine answers ({})",
            reasons.join("; ")
        ))
    }

    /// This one, if it answers.
    pub fn try_named(name: &'static str) -> Result<Self, String> {
        if setup::places().program(name).is_none() {
            return Err("not installed".to_owned());
        }
        let engine = Self { name };
        // Asks the engine itself, not only its client.
        let answer = process::read(
            engine
                .command()
                .args(["version", "--format={{.Server.Version}}"]),
        );
        match answer {
            Ok(_) => Ok(engine),
            Err(error) => {
                let text = format!("{error:#}");
                let reason = text.lines().rev().find(|line| !line.trim().is_empty());
                Err(reason.unwrap_or("no answer").to_owned())
            }
        }
    }

    /// A call of it.
    pub fn command(&self) -> Command {
        Command::new(self.name)
    }
}
