//! One `GetFlows` call: where it starts, what it lets through, when it ends.
//!
//! Entries are delivered from oldest to newest. Notices of losses pass filters, time bounds and
//! the count untouched.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use prost_types::FieldMask;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use weir_proto::observer::{GetFlowsRequest, GetFlowsResponse};

use crate::clock::ClockOffset;
use crate::flows::convert::{lost_response, response, unix_ns};
use crate::flows::filter::FlowFilters;
use crate::flows::hub::Cursor;
use crate::flows::mask::Mask;
use crate::flows::{Entry, FlowHub, LostRecord, LostSource};

/// Entries looked at between two chances for other tasks to run.
const CHUNK: usize = 256;
/// Shortest time between two notices that this reader is too slow.
const NOTICE_INTERVAL: Duration = Duration::from_secs(1);

/// The state of one call.
pub(super) struct FlowStream {
    cursor: Cursor,
    filters: FlowFilters,
    mask: Mask,
    node_name: String,
    since_ns: u64,
    until_ns: u64,
    end: End,
    /// Flows that may still be delivered.
    remaining: u64,
    chunk: VecDeque<Arc<Entry>>,
    scratch: Vec<Arc<Entry>>,
    overtaken: Overtaken,
    stop: CancellationToken,
    finished: bool,
}

/// Where a stream ends by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Before this position: the end of the store when the call came.
    At(u64),
    /// Nowhere: it waits for more.
    Follow,
}

impl FlowStream {
    /// Checks a request and finds its start.
    pub(super) fn open(
        hub: &Arc<FlowHub>,
        node_name: &str,
        request: &GetFlowsRequest,
        stop: CancellationToken,
    ) -> Result<Self, Status> {
        if request.first && request.follow {
            return Err(Status::invalid_argument(
                "first cannot be combined with follow",
            ));
        }
        // Clients show messages of unknown errors without decoration.
        let unknown = |error: &dyn std::error::Error| Status::unknown(error.to_string());
        let filters = FlowFilters::compile(&request.whitelist, &request.blacklist)
            .map_err(|error| unknown(&error))?;
        let paths = request
            .field_mask
            .as_ref()
            .map_or(&[][..], |FieldMask { paths }| paths);
        let mask = Mask::compile(paths).map_err(|error| unknown(&error))?;

        let newest = hub.newest();
        let end = if request.follow {
            End::Follow
        } else {
            End::At(newest.position())
        };
        let cursor = match request {
            GetFlowsRequest { since: Some(_), .. } | GetFlowsRequest { first: true, .. } => {
                hub.oldest()
            }
            GetFlowsRequest {
                number: 0,
                follow: true,
                ..
            } => newest,
            GetFlowsRequest { number: 0, .. } => hub.oldest(),
            GetFlowsRequest { number, .. } => {
                hub.last(*number, newest.position(), |entry| match entry {
                    Entry::Flow(record) => filters.matches(record),
                    Entry::Lost(_) => false,
                })
            }
        };
        let limited = !request.follow && request.number > 0;
        Ok(Self {
            cursor,
            filters,
            mask,
            node_name: node_name.to_owned(),
            since_ns: request.since.as_ref().map_or(0, unix_ns),
            until_ns: request.until.as_ref().map_or(u64::MAX, unix_ns),
            end,
            remaining: if limited { request.number } else { u64::MAX },
            chunk: VecDeque::new(),
            scratch: Vec::new(),
            overtaken: Overtaken::default(),
            stop,
            finished: false,
        })
    }

    /// The answers, one by one, as the client takes them.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<GetFlowsResponse, Status>> {
        futures::stream::unfold(self, async |mut stream| {
            let answer = stream.next().await?;
            Some((answer, stream))
        })
    }

    async fn next(&mut self) -> Option<Result<GetFlowsResponse, Status>> {
        loop {
            if let Some(lost) = self.overtaken.notice(self.finished) {
                return Some(Ok(lost_response(&lost, &self.node_name)));
            }
            if let Some(answer) = self.next_of_chunk() {
                return Some(Ok(answer));
            }
            if self.finished {
                return None;
            }
            if !self.fill_chunk() {
                if self.end != End::Follow {
                    self.finished = true;
                } else if let Err(status) = self.wait().await {
                    self.finished = true;
                    return Some(Err(status));
                }
            }
            // A stream that filters everything out must not keep its thread to itself.
            tokio::task::yield_now().await;
        }
    }

    /// The next answer from what has been read already.
    fn next_of_chunk(&mut self) -> Option<GetFlowsResponse> {
        while !self.finished {
            let entry = self.chunk.pop_front()?;
            if let Entry::Flow(record) = &*entry {
                if record.time_ns > self.until_ns {
                    self.finished = true;
                    break;
                }
                if record.time_ns < self.since_ns || !self.filters.matches(record) {
                    continue;
                }
                self.remaining -= 1;
                self.finished = self.remaining == 0;
            }
            return Some(response(&entry, &self.node_name, &self.mask));
        }
        None
    }

    /// Reads on; false if there is nothing to read now.
    fn fill_chunk(&mut self) -> bool {
        let end = match self.end {
            End::At(end) => end,
            End::Follow => u64::MAX,
        };
        let overtaken = self.cursor.read(CHUNK, end, &mut self.scratch);
        self.overtaken.add(overtaken);
        self.chunk.extend(self.scratch.drain(..));
        !self.chunk.is_empty()
    }

    /// Waits for more entries, or until a notice is due.
    async fn wait(&mut self) -> Result<(), Status> {
        let due = self.overtaken.due();
        tokio::select! {
            () = self.stop.cancelled() => Err(Status::unavailable("the agent is shutting down")),
            open = self.cursor.wait() => {
                if open { Ok(()) } else { Err(Status::unavailable("the flow store is closed")) }
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                Ok(())
            }
        }
    }
}

/// Entries that this reader was too slow for and has not been told of.
#[derive(Default)]
struct Overtaken {
    count: u64,
    first_ns: u64,
    noticed: Option<Instant>,
}

impl Overtaken {
    fn add(&mut self, count: u64) {
        if count > 0 && self.count == 0 {
            self.first_ns = now_ns();
        }
        self.count += count;
    }

    /// When the next notice may be sent, if there is something to tell.
    fn due(&self) -> Option<Instant> {
        let next = self
            .noticed
            .map_or_else(Instant::now, |noticed| noticed + NOTICE_INTERVAL);
        (self.count > 0).then_some(next)
    }

    /// The notice that is due, or at the end of the stream any.
    fn notice(&mut self, last: bool) -> Option<LostRecord> {
        let due = self.due()?;
        if !last && due > Instant::now() {
            return None;
        }
        self.noticed = Some(Instant::now());
        Some(LostRecord {
            source: LostSource::Store,
            count: std::mem::take(&mut self.count),
            first_ns: self.first_ns,
            last_ns: now_ns(),
        })
    }
}

/// Nanoseconds since the Unix epoch; zero if there is no clock.
fn now_ns() -> u64 {
    ClockOffset::now().map_or(0, ClockOffset::wall_ns)
}

#[cfg(test)]
mod tests;
