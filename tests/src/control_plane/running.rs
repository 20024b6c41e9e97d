//! One program of a control plane as a process.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::wait;

/// How long a program may take to answer, on a machine busy with other tests.
const DEADLINE: Duration = Duration::from_mins(2);

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Waits until a program answers; fails at once if it has ended.
pub(super) fn await_answer(
    running: Option<&mut Running>,
    mut answers: impl FnMut() -> Result<()>,
) -> Result<()> {
    let running = running.context("it was not started")?;
    let name = running.name;
    let answer = wait::until(&format!("{name} to answer"), DEADLINE, || {
        let child = running.child.as_mut().context("it was let go")?;
        if let Some(status) = child.try_wait().context("look at it")? {
            return Ok(Err(anyhow!("{name} ended: {status}")));
        }
        answers().map(Ok)
    });
    answer.and_then(|inner| inner)
}

/// A process that ends with this value.
#[derive(Debug)]
pub(super) struct Running {
    name: &'static str,
    /// `None`: it was let go.
    child: Option<Child>,
}

impl Running {
    pub(super) fn start(name: &'static str, mut command: Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self {
            name,
            child: Some(child),
        })
    }

    /// Lets it live on after this value.
    pub(super) fn detach(&mut self) {
        self.child = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors mean that it is gone; waiting makes sure that no zombie stays.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
