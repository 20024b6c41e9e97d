//! Real traffic from any member: requests, streams and load, each with a report.
//!
//! Every job runs as a process of its own (`weir-traffic KIND JSON`) in the namespaces and the
//! cgroup of its member, so that the socket hooks of an agent see it like any pod's process. The
//! job arrives as JSON on the command line, the report leaves as JSON on standard output, and a
//! job that runs until told otherwise ends when its standard input does. All work is bounded in
//! count and time.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::binary::Binary;
use crate::{Place, wait};

pub mod http;
pub mod load;
pub mod numbered;
pub mod server;
pub mod stream;
pub mod tcp_info;
pub mod udp;

pub use http::{Http, HttpReport};
pub use load::{Load, LoadReport};
pub use numbered::{Numbered, NumberedReport};
pub use server::Server;
pub use stream::{Stream, StreamReport};
pub use udp::{Udp, UdpReport};

/// How much longer than its own bound a job may take before it is killed.
const GRACE: Duration = Duration::from_secs(15);

/// Most different texts that a report counts failures under.
const MOST_TEXTS: usize = 20;

/// Something that `weir-traffic` can do.
pub trait Job: Serialize + DeserializeOwned {
    /// What comes out.
    type Report: Serialize + DeserializeOwned + Debug;

    /// First argument on the command line.
    const KIND: &'static str;

    /// The longest that the job takes by its own bounds.
    fn longest(&self) -> Duration;

    /// Does it, until done or told to stop.
    ///
    /// # Errors
    ///
    /// When the job could not begin. Failed requests are counted in the report instead.
    fn perform(&self, stop: &Stop) -> Result<Self::Report>;
}

/// Tells a job to end early.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Tells it.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Was it told?
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// What a server says of a connection or datagram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Name of the server.
    pub name: String,
    /// Address it was reached at, as it sees it.
    pub local: SocketAddr,
    /// Address of the other end, as it sees it.
    pub peer: SocketAddr,
}

/// Failures by text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures(pub BTreeMap<String, u64>);

impl Failures {
    /// Counts one failure.
    pub fn add(&mut self, error: &anyhow::Error) {
        let mut text = format!("{error:#}");
        if !self.0.contains_key(&text) && self.0.len() >= MOST_TEXTS {
            "other".clone_into(&mut text);
        }
        *self.0.entry(text).or_default() += 1;
    }

    /// All failures counted.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: Self) {
        for (text, count) in other.0 {
            *self.0.entry(text).or_default() += count;
        }
    }
}

/// The address as a program that knows IPv4 writes it, also when a dual-stack socket saw it.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A job at a member, to be adjusted and then run or started.
#[derive(Clone, Debug)]
pub struct Traffic<'a, J> {
    place: &'a Place,
    /// The job as it will run.
    pub job: J,
}

impl Place {
    /// HTTP requests from here: 100, one after the other, until adjusted.
    pub fn http(&self, address: IpAddr, port: u16) -> Traffic<'_, Http> {
        Traffic {
            place: self,
            job: Http::new(SocketAddr::new(address, port)),
        }
    }

    /// UDP requests from here: 100, each from a socket of its own, until adjusted.
    pub fn udp(&self, address: IpAddr, port: u16) -> Traffic<'_, Udp> {
        Traffic {
            place: self,
            job: Udp::new(SocketAddr::new(address, port)),
        }
    }

    /// One long-lived TCP stream from here, until adjusted.
    pub fn stream(&self, address: IpAddr, port: u16) -> Traffic<'_, Stream> {
        Traffic {
            place: self,
            job: Stream::new(SocketAddr::new(address, port)),
        }
    }

    /// New connections at a steady rate from here.
    pub fn load(&self, address: IpAddr, port: u16, per_second: u32) -> Traffic<'_, Load> {
        Traffic {
            place: self,
            job: Load::new(SocketAddr::new(address, port), per_second),
        }
    }

    /// Numbered datagrams at a steady rate from here, from 16 sockets.
    pub fn numbered(&self, address: IpAddr, port: u16, per_second: u32) -> Traffic<'_, Numbered> {
        Traffic {
            place: self,
            job: Numbered::new(SocketAddr::new(address, port), per_second),
        }
    }
}

impl<J: Job> Traffic<'_, J> {
    /// Runs the job to its end.
    ///
    /// # Errors
    ///
    /// When it could not run, or took much longer than its own bounds.
    pub fn run(self) -> Result<J::Report> {
        self.start()?.finish()
    }

    /// Starts the job beside the caller.
    ///
    /// # Errors
    ///
    /// When it could not be started.
    pub fn start(self) -> Result<Running<J>> {
        let child = spawn(self.place, &self.job)?;
        Ok(Running {
            child,
            job: self.job,
            place: self.place.name().to_owned(),
        })
    }
}

/// Starts the process of `job` at `place`, with pipes to its standard input and output.
pub(crate) fn spawn<J: Job>(place: &Place, job: &J) -> Result<Child> {
    let mut command = place.command(Binary::Traffic.path()?)?;
    command
        .arg(J::KIND)
        .arg(serde_json::to_string(job).context("encode the job")?);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
        .spawn()
        .with_context(|| format!("{}: start {} traffic", place.name(), J::KIND))
}

/// A job on its way. Dropping it kills it.
#[derive(Debug)]
pub struct Running<J: Job> {
    child: Child,
    job: J,
    place: String,
}

impl<J: Job> Running<J> {
    /// Waits for the end of the job.
    ///
    /// # Errors
    ///
    /// When it failed to begin or did not end in time.
    pub fn finish(mut self) -> Result<J::Report> {
        let what = format!("{} traffic of {} to end", J::KIND, self.place);
        let mut stdout = self.child.stdout.take().context("its output was taken")?;
        // Beside the wait: a long report does not fit into the pipe.
        let report = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let status = wait::until(&what, self.job.longest() + GRACE, || {
            self.child
                .try_wait()
                .context("wait for it")?
                .ok_or_else(|| anyhow!("it still runs"))
        })?;
        let text = report.join().map_err(|_| anyhow!("the reader panicked"))?;
        let text = text.context("read its report")?;
        if !status.success() {
            bail!("{} traffic of {} failed: {status}", J::KIND, self.place);
        }
        serde_json::from_str(&text).with_context(|| format!("decode its report {text:?}"))
    }

    /// Tells the job to end and waits for that.
    ///
    /// # Errors
    ///
    /// Those of [`Running::finish`].
    pub fn stop(mut self) -> Result<J::Report> {
        drop(self.child.stdin.take());
        self.finish()
    }
}

impl<J: Job> Drop for Running<J> {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_text_within_bounds() {
        let mut failures = Failures::default();
        for number in 0..100 {
            failures.add(&anyhow!("text {number}"));
            failures.add(&anyhow!("text 0"));
        }
        assert_eq!((failures.total(), failures.0.len()), (200, MOST_TEXTS + 1));
        assert_eq!((failures.0["text 0"], failures.0["other"]), (101, 80));
    }

    #[test]
    fn mapped_addresses_become_plain() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        assert_eq!(canonical(mapped).to_string(), "10.0.0.1:80");
    }
}
