//! The load under which the restart contract is tested, and what came of it.

use std::env;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use weir_tests::cluster::Node;
use weir_tests::traffic::{
    Load, LoadReport, Numbered, NumberedReport, Running, Stream, StreamReport,
};
use weir_tests::{Cluster, Losses, wait};

use crate::setting::{DATAGRAMS, ECHO, HTTP, SOON};

/// Of all kinds, over both families together, at full load.
const CONNECTIONS_PER_SECOND: u32 = 1_000;
const STREAMS: u32 = 500;
const DATAGRAMS_PER_SECOND: u32 = 5_000;
/// A stream asks this often.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest scenario.
const LENGTH: Duration = Duration::from_mins(5);

/// Percent of the full load, on a machine that runs other tests beside.
fn percent() -> u32 {
    let given = env::var("WEIR_LOAD_PERCENT").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(25)
}

/// One family's half of a number.
fn half(of_both: u32, percent: u32) -> u32 {
    (of_both * percent / 100).div_ceil(2)
}

/// New connections, long streams and datagrams from the client to both addresses of `web`.
pub struct UnderLoad<'a> {
    cluster: &'a Cluster,
    families: Vec<Family>,
    before: Losses,
}

/// What is sent to one address.
struct Family {
    connections: Running<Load>,
    streams: Running<Stream>,
    datagrams: Running<Numbered>,
}

impl<'a> UnderLoad<'a> {
    /// Starts all of it, and returns when some of it has gone by.
    pub fn start(cluster: &'a Cluster) -> Result<Self> {
        Self::start_at(cluster, percent())
    }

    /// Likewise with a fifth: a userspace device that was built for debugging, on a machine that runs
    /// other tests beside, has room for no more.
    pub fn start_gently(cluster: &'a Cluster) -> Result<Self> {
        Self::start_at(cluster, percent().div_ceil(5))
    }

    fn start_at(cluster: &'a Cluster, percent: u32) -> Result<Self> {
        let half = |of_both| half(of_both, percent);
        let client = cluster.client("client")?;
        let of_family = |vip: IpAddr| -> Result<Family> {
            let streams = client.stream(vip, ECHO).streams(half(STREAMS)).pause(PAUSE);
            let connections = client.load(vip, HTTP, half(CONNECTIONS_PER_SECOND));
            let datagrams = client.numbered(vip, DATAGRAMS, half(DATAGRAMS_PER_SECOND));
            Ok(Family {
                streams: streams.length(LENGTH).start()?,
                connections: connections.length(LENGTH).start()?,
                datagrams: datagrams.length(LENGTH).start()?,
            })
        };
        let families = cluster.vips(0).into_iter().map(of_family);
        let load = Self {
            cluster,
            families: families.collect::<Result<_>>()?,
            before: Losses::of(cluster)?,
        };
        a_moment()?;
        Ok(load)
    }

    /// Ends it.
    pub fn stop(self) -> Result<Outcome> {
        let mut outcome = Outcome {
            backends: self.cluster.web_pods().count(),
            ..Outcome::default()
        };
        for family in self.families {
            outcome.connections.push(family.connections.stop()?);
            outcome.datagrams.push(family.datagrams.stop()?);
            outcome.streams.extend(family.streams.stop()?);
        }
        outcome.losses = Losses::of(self.cluster)?.since(&self.before);
        for node in self.cluster.nodes() {
            let events = told_of(node)?;
            outcome.events.written += events.written;
            outcome.events.lost += events.lost;
        }
        Ok(outcome)
    }
}

/// Lets a load go on for a moment.
pub fn a_moment() -> Result<()> {
    let since = Instant::now();
    let moment = Duration::from_secs(1);
    wait::until_true("a moment under load", SOON, || since.elapsed() > moment)
}

/// Flow events of a node, since its maps were made.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowEvents {
    /// Those that the ring buffer had room for: an agent took them or will.
    pub written: u64,
    /// The others.
    pub lost: u64,
}

/// Waits until an agent has told of each event that was lost, whenever that was: none is lost silently.
fn told_of(node: &Node) -> Result<FlowEvents> {
    let agent = node.agent()?;
    let mut events = FlowEvents::default();
    wait::until("all lost flow events to be told of", SOON, || {
        let status = agent.status()?;
        events = FlowEvents {
            written: status.counter("events_sent"),
            lost: status.counter("events_lost"),
        };
        let told = agent.events_lost_told()?;
        ensure!(told == events.lost, "{told} of {}", events.lost);
        Ok(())
    })?;
    ensure!(events.written > 0, "{} has seen no flow", node.name());
    Ok(events)
}

/// What came of the load.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many there are.
    backends: usize,
    connections: Vec<LoadReport>,
    datagrams: Vec<NumberedReport>,
    streams: Vec<StreamReport>,
    /// What the kernel counted as lost.
    pub losses: Losses,
    /// Of all nodes together.
    pub events: FlowEvents,
}

impl Outcome {
    /// No connection failed, no stream broke, no datagram got lost or came from another backend than
    /// the one before. TCP may have had to send a segment again.
    pub fn assert_nothing_lost(&self) -> Result<()> {
        let connections: u64 = self.connections.iter().map(|it| it.connections).sum();
        let datagrams: u64 = self.datagrams.iter().map(|it| it.sent).sum();
        let again: u64 = self.connections.iter().map(|it| it.retransmitted).sum();
        let longest = self.streams.iter().map(|it| it.longest).max();
        println!(
            "{connections} connections ({again} sent a segment again), {} streams (longest answer \
             {longest:?}), {datagrams} datagrams; {:?}; {:?}",
            self.streams.len(),
            self.losses,
            self.events
        );
        for report in &self.connections {
            ensure!(report.connections > 0 && report.failed == 0, "{report:?}");
            ensure!(report.backends.len() == self.backends, "{report:?}");
        }
        for report in &self.datagrams {
            let bad = (report.lost, report.repeated, report.moved);
            ensure!(report.sent > 0 && bad == (0, 0, 0), "{report:?}");
        }
        for report in &self.streams {
            ensure!(report.error.is_none() && report.rounds > 0, "{report:?}");
        }
        Ok(())
    }
}
