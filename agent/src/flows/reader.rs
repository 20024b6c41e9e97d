//! The thread that empties the ring buffer.
//!
//! It has a thread of its own because a ring buffer that is not emptied in time loses events, and
//! because its wait is not the runtime's: it blocks in the kernel. Each pass waits, takes records
//! out, names them and publishes them in batches.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ebpf_abi::FlowEvent;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::decode::decode;
use super::enrich::Enricher;
use super::hub::FlowHub;
use super::record::{Entry, LostRecord, LostSource};
use crate::clock::ClockOffset;
use crate::state::SharedState;

/// The ring buffer, as the data path hands it over.
pub trait EventSource: Send {
    /// Blocks until there may be records, or the timeout passed.
    fn wait(&mut self, timeout: Duration) -> io::Result<()>;

    /// Takes up to `limit` records out and returns how many there were.
    ///
    /// A wait after it must not sleep while there are records left, whenever they were written.
    fn poll(&mut self, limit: usize, record: &mut dyn FnMut(&[u8])) -> usize;

    /// Events that the programs found no room for, since the maps were made.
    fn lost(&mut self) -> io::Result<u64>;

    /// How many of them this agent or an earlier one has told of.
    fn told(&mut self) -> io::Result<u64>;

    /// Notes that so many of them have been told of.
    fn tell(&mut self, lost: u64) -> io::Result<()>;
}

/// Longest sleep in the kernel, and so the delay of a stop.
const WAIT: Duration = Duration::from_millis(250);
/// Longest wait for the names of the cluster's objects before the first event is read. Events of the time
/// without an agent lie there already, and more of them come.
const NAMES: Duration = Duration::from_secs(1);
/// How often it is looked whether they are there.
const NAMES_INTERVAL: Duration = Duration::from_millis(10);
/// How often losses are looked up and reported.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);
/// Events named under one lock of the state, so that a flood does not keep a change out.
const BATCH: usize = 512;
/// Events taken in one pass, so that a flood keeps neither a stop nor a report of losses waiting.
const PASS: usize = 16 * BATCH;

/// The running thread.
#[derive(Debug)]
pub struct FlowReader {
    thread: JoinHandle<()>,
    ended: oneshot::Receiver<anyhow::Result<()>>,
}

impl FlowReader {
    /// Starts the thread. It ends when `stop` is cancelled, or with an error of its source. `synced` says
    /// whether the state is complete.
    pub fn start(
        source: Box<dyn EventSource>,
        enricher: Enricher,
        state: SharedState,
        synced: watch::Receiver<bool>,
        hub: Arc<FlowHub>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let (sender, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("flows".into())
            .spawn(move || {
                wait_for_names(&synced, &stop);
                let result =
                    Pass::new(source, enricher, state, hub).and_then(|pass| pass.run(&stop));
                if let Err(error) = &result {
                    error!("flows are no longer read: {error:#}");
                }
                // Nobody waits for the result of an agent that is going down.
                let _ = sender.send(result);
            })?;
        Ok(Self { thread, ended })
    }

    /// Waits for the thread's end.
    pub async fn join(self) -> anyhow::Result<()> {
        let result = self.ended.await;
        if self.thread.join().is_err() {
            anyhow::bail!("the thread that reads flows panicked");
        }
        result.context("the thread that reads flows ended without a result")?
    }
}

fn wait_for_names(synced: &watch::Receiver<bool>, stop: &CancellationToken) {
    let begun = Instant::now();
    while !*synced.borrow() && !stop.is_cancelled() && begun.elapsed() < NAMES {
        std::thread::sleep(NAMES_INTERVAL);
    }
}

/// What one pass works with; buffers are kept between passes.
struct Pass {
    source: Box<dyn EventSource>,
    pipeline: Pipeline,
    losses: Losses,
}

impl Pass {
    fn new(
        mut source: Box<dyn EventSource>,
        enricher: Enricher,
        state: SharedState,
        hub: Arc<FlowHub>,
    ) -> anyhow::Result<Self> {
        // What was lost while no agent ran is news.
        let told = source
            .told()
            .context("reading how many lost events were told of")?;
        let pipeline = Pipeline::new(enricher, state, hub)?;
        let losses = Losses::new(told, pipeline.clock.wall_ns());
        Ok(Self {
            source,
            pipeline,
            losses,
        })
    }

    fn run(mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut reported = Instant::now();
        while !stop.is_cancelled() {
            self.source.wait(WAIT).context("waiting for flow events")?;
            let pipeline = &mut self.pipeline;
            self.source.poll(PASS, &mut |bytes| pipeline.take(bytes));
            pipeline.flush();
            if reported.elapsed() >= LOSS_INTERVAL {
                reported = Instant::now();
                self.report_losses()?;
            }
        }
        self.report_losses()
    }

    fn report_losses(&mut self) -> anyhow::Result<()> {
        let kernel = self
            .source
            .lost()
            .context("reading the counter of lost events")?;
        self.pipeline.clock = ClockOffset::now().context("reading the clocks")?;
        let now_ns = self.pipeline.clock.wall_ns();
        let undecodable = std::mem::take(&mut self.pipeline.undecodable);
        let is_news = self.losses.kernel != kernel;
        let mut entries = Vec::new();
        for lost in self.losses.notices(kernel, undecodable, now_ns) {
            entries.push(Arc::new(Entry::Lost(lost)));
        }
        self.pipeline.hub.publish(&mut entries);
        if is_news {
            // Last: told twice is better than never.
            self.source
                .tell(kernel)
                .context("noting how many lost events were told of")?;
        }
        Ok(())
    }
}

/// Bytes in, published entries out.
struct Pipeline {
    enricher: Enricher,
    state: SharedState,
    revision: watch::Receiver<u64>,
    hub: Arc<FlowHub>,
    clock: ClockOffset,
    events: Vec<FlowEvent>,
    entries: Vec<Arc<Entry>>,
    undecodable: u64,
}

impl Pipeline {
    fn new(enricher: Enricher, state: SharedState, hub: Arc<FlowHub>) -> anyhow::Result<Self> {
        let mut revision = state.subscribe();
        revision.mark_changed();
        Ok(Self {
            enricher,
            revision,
            state,
            hub,
            clock: ClockOffset::now().context("reading the clocks")?,
            events: Vec::with_capacity(BATCH),
            entries: Vec::with_capacity(BATCH),
            undecodable: 0,
        })
    }

    fn take(&mut self, bytes: &[u8]) {
        match decode(bytes) {
            Ok(event) => self.events.push(event),
            Err(reason) => {
                debug!("flow event not understood: {reason}");
                self.undecodable += 1;
            }
        }
        if self.events.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.events.is_empty() {
            return;
        }
        // A clock that could be read a moment ago can be read now; if not, the old offset serves.
        self.clock = ClockOffset::now().unwrap_or(self.clock);
        let cluster = self.state.read();
        if self.revision.has_changed().unwrap_or(false) {
            self.revision.mark_unchanged();
            self.enricher.refresh(&cluster);
        }
        for event in self.events.drain(..) {
            let time_ns = self.clock.to_wall_ns(event.monotonic_ns);
            let record = self.enricher.enrich(event, time_ns, &cluster);
            self.entries.push(Arc::new(Entry::Flow(record)));
        }
        drop(cluster);
        self.hub.publish(&mut self.entries);
    }
}

/// Turns counters into notices.
struct Losses {
    /// Those of the kernel that were told of.
    kernel: u64,
    since_ns: u64,
}

impl Losses {
    fn new(kernel: u64, now_ns: u64) -> Self {
        Self {
            kernel,
            since_ns: now_ns,
        }
    }

    /// Notices of what was lost since the last call.
    fn notices(&mut self, kernel: u64, undecodable: u64, now_ns: u64) -> Vec<LostRecord> {
        // A counter below the last one belongs to maps that were made anew.
        let lost = if kernel >= self.kernel {
            kernel - self.kernel
        } else {
            kernel
        };
        let (first_ns, last_ns) = (self.since_ns, now_ns);
        (self.kernel, self.since_ns) = (kernel, now_ns);
        [
            (LostSource::Kernel, lost),
            (LostSource::Decoder, undecodable),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(source, count)| LostRecord {
            source,
            count,
            first_ns,
            last_ns,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests;
