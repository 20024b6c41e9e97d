//! The agent's part: its source and its load balancer in a process of their own.
//!
//! The process is `weir-bench follow`. It answers questions, a line on its input each, with lines of
//! JSON on its output.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::wait::patiently;

mod process;

pub(super) use process::monotonic_ns;
pub use process::{Options, follow};

/// What the process tells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// The first maps are written: seconds since the start until all was listed, and until now.
    Planned([f64; 2]),
    /// Asked with `figures`.
    Figures(Figures),
    /// Asked with `problems`.
    Problems(Vec<String>),
    /// Since it was asked to `tell`: a table went live.
    Swapped {
        /// Of the machine's monotonic clock, in nanoseconds.
        at_ns: u64,
        /// Backends that were added for it.
        added: Vec<String>,
    },
}

/// What there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Namespaces in the tables.
    pub namespaces: usize,
    /// Nodes.
    pub nodes: usize,
    /// Services.
    pub services: usize,
    /// `EndpointSlice`s.
    pub slices: usize,
    /// Endpoints in them.
    pub endpoints: usize,
    /// Pods.
    pub pods: usize,
    /// Addresses by which a pod is found.
    pub pods_by_ip: usize,
    /// Frontends in the maps.
    pub frontends: usize,
    /// Backends in the maps.
    pub backends: usize,
    /// Maglev tables that lead to backends.
    pub filled_tables: usize,
}

/// Of the process, so far.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// What it holds.
    pub counts: Counts,
    /// Bytes that are allocated.
    pub heap: u64,
    /// Bytes that are resident.
    pub resident: u64,
    /// Most bytes that ever were.
    pub resident_peak: u64,
    /// Processor time.
    pub cpu_seconds: f64,
    /// Changes of the tables.
    pub revision: u64,
}

/// The process, from outside. It ends with this value.
pub struct Follower {
    child: Child,
    input: std::sync::Mutex<ChildStdin>,
    told: std::sync::Mutex<Receiver<Told>>,
}

impl Follower {
    /// Starts it as the agent of a node.
    pub fn start(program: &Path, url: &str, node: &str) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["follow", url, node])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let input = child.stdin.take().context("its input is a pipe")?;
        let output = child.stdout.take().context("its output is a pipe")?;
        let (sender, told) = mpsc::channel();
        // Ends with the process's output.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    // Who is told has ended, and so will the process.
                    Ok(one) => drop(sender.send(one)),
                    Err(error) => eprintln!("weir-bench follow said {line:?}: {error}"),
                }
            }
        });
        Ok(Self {
            child,
            input: input.into(),
            told: told.into(),
        })
    }

    fn ask(&self, question: &str) -> Result<()> {
        let mut input = self.input.lock().map_err(|_| anyhow!("a thread failed"))?;
        writeln!(input, "{question}").context("ask the process")
    }

    fn next(&self, deadline: Duration) -> Result<Told> {
        let told = self.told.lock().map_err(|_| anyhow!("a thread failed"))?;
        told.recv_timeout(patiently(deadline))
            .context("the process says nothing")
    }

    /// Seconds until all was listed, and until the maps were written.
    pub fn first_plan(&self, deadline: Duration) -> Result<[f64; 2]> {
        match self.next(deadline)? {
            Told::Planned(seconds) => Ok(seconds),
            other => bail!("first it says {other:?}"),
        }
    }

    /// As they are now. What it told before is skipped.
    pub fn figures(&self) -> Result<Figures> {
        self.ask("figures")?;
        loop {
            if let Told::Figures(figures) = self.next(Duration::from_mins(1))? {
                return Ok(figures);
            }
        }
    }

    /// What is wrong, as in the agent's status.
    pub fn problems(&self) -> Result<Vec<String>> {
        self.ask("problems")?;
        loop {
            if let Told::Problems(problems) = self.next(Duration::from_mins(1))? {
                return Ok(problems);
            }
        }
    }

    /// From now on it tells of tables that go live, or not any more.
    pub fn tell_swaps(&self, tells: bool) -> Result<()> {
        self.ask(if tells { "tell" } else { "hush" })
    }

    /// When a table went live for which this backend was added, in nanoseconds of the monotonic
    /// clock.
    pub fn swapped_with(&self, backend: &str) -> Result<u64> {
        loop {
            match self.next(Duration::from_mins(1))? {
                Told::Swapped { at_ns, added } if added.iter().any(|it| it == backend) => {
                    return Ok(at_ns);
                }
                _ => {}
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
