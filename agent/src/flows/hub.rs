//! The store as writers and readers share it.
//!
//! One writer publishes batches; any number of readers follow with a [`Cursor`] each. Nothing is
//! queued per reader: the store is the queue, and its capacity the bound. A reader that is too slow
//! is overtaken, and its cursor says by how many entries. A reader never holds up the writer for
//! longer than copying a chunk of pointers takes.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::rate::RateMeter;
use super::record::{Entry, LostSource, Side};
use super::store::Ring;

/// How long a namespace counts as seen after its last flow.
const NAMESPACE_MEMORY: Duration = Duration::from_hours(1);

/// The flow store and its figures.
#[derive(Debug)]
pub struct FlowHub {
    ring: RwLock<Ring<Entry>>,
    /// Position of the next entry, for readers that wait.
    written: watch::Sender<u64>,
    figures: Mutex<Figures>,
    started: Instant,
}

#[derive(Debug)]
struct Figures {
    seen: u64,
    lost: Lost,
    rate: RateMeter,
    /// Second since the start when a namespace was seen last.
    namespaces: HashMap<Arc<str>, u64>,
}

/// Events lost since the start, by the place that lost them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// The ring buffer was full.
    pub kernel: u64,
    /// Records that could not be decoded.
    pub decoder: u64,
    /// Entries that readers were too slow for, over all readers.
    pub store: u64,
}

impl Lost {
    /// The names of the places that status and metrics show, and what each lost.
    pub fn by_place(&self) -> [(&'static str, u64); 3] {
        [
            ("kernel_ring_buffer", self.kernel),
            ("decoder", self.decoder),
            ("slow_readers", self.store),
        ]
    }
}

/// Figures of the store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HubStats {
    /// Flows published since the start.
    pub seen: u64,
    /// Entries held.
    pub stored: u64,
    /// Entries it can hold.
    pub capacity: u64,
    /// Flows per second over the last minute.
    pub rate: f64,
    /// Events lost.
    pub lost: Lost,
    /// Time since the start.
    pub uptime: Duration,
}

impl FlowHub {
    /// An empty store for this many entries.
    pub fn new(capacity: NonZeroUsize) -> Self {
        let figures = Figures {
            seen: 0,
            lost: Lost::default(),
            rate: RateMeter::new(0),
            namespaces: HashMap::new(),
        };
        Self {
            ring: RwLock::new(Ring::new(capacity)),
            written: watch::Sender::new(0),
            figures: Mutex::new(figures),
            started: Instant::now(),
        }
    }

    /// Appends entries and wakes the readers that wait for them. Leaves the vector empty.
    pub fn publish(&self, entries: &mut Vec<Arc<Entry>>) {
        if entries.is_empty() {
            return;
        }
        self.figures().count(entries, self.uptime_s());
        let next = {
            let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
            for entry in entries.drain(..) {
                ring.push(entry);
            }
            ring.positions().end
        };
        self.written.send_replace(next);
    }

    /// Figures at this moment.
    pub fn stats(&self) -> HubStats {
        let (stored, capacity) = {
            let ring = self.ring();
            let held = ring.positions();
            (held.end - held.start, ring.capacity() as u64)
        };
        let uptime_s = self.uptime_s();
        let mut figures = self.figures();
        HubStats {
            seen: figures.seen,
            stored,
            capacity,
            rate: figures.rate.per_second(uptime_s),
            lost: figures.lost,
            uptime: self.started.elapsed(),
        }
    }

    /// Namespaces that a flow had as source or destination within the last hour, sorted.
    pub fn namespaces(&self) -> Vec<Arc<str>> {
        let oldest_s = self.uptime_s().saturating_sub(NAMESPACE_MEMORY.as_secs());
        let mut figures = self.figures();
        figures.namespaces.retain(|_, seen_s| *seen_s >= oldest_s);
        let mut names: Vec<_> = figures.namespaces.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// A reader that starts at the oldest entry.
    pub fn oldest(self: &Arc<Self>) -> Cursor {
        let position = self.ring().positions().start;
        self.cursor(position)
    }

    /// A reader that starts with the next entry to come.
    pub fn newest(self: &Arc<Self>) -> Cursor {
        let position = self.ring().positions().end;
        self.cursor(position)
    }

    /// A reader that starts at the `number`th newest entry before `end` for which `counts` is true,
    /// or at the oldest if there are fewer.
    pub fn last(
        self: &Arc<Self>,
        number: u64,
        end: u64,
        counts: impl Fn(&Entry) -> bool,
    ) -> Cursor {
        const CHUNK: u64 = 512;
        let mut position = self.ring().positions().end.min(end);
        let mut missing = number;
        let mut chunk = Vec::new();
        while missing > 0 {
            chunk.clear();
            let wanted = position.saturating_sub(CHUNK)..position;
            let first = self.ring().read_range(wanted, &mut chunk);
            if chunk.is_empty() {
                break;
            }
            for (offset, entry) in chunk.iter().enumerate().rev() {
                position = first + offset as u64;
                missing -= u64::from(counts(entry));
                if missing == 0 {
                    break;
                }
            }
        }
        self.cursor(position)
    }

    fn cursor(self: &Arc<Self>, position: u64) -> Cursor {
        Cursor {
            hub: Arc::clone(self),
            written: self.written.subscribe(),
            position,
        }
    }

    fn ring(&self) -> RwLockReadGuard<'_, Ring<Entry>> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

impl Figures {
    fn count(&mut self, entries: &[Arc<Entry>], now_s: u64) {
        let mut flows = 0;
        for entry in entries {
            match &**entry {
                Entry::Lost(lost) => self.lost.add(lost.source, lost.count),
                Entry::Flow(record) => {
                    flows += 1;
                    for side in [Side::Source, Side::Destination] {
                        self.see(&record.endpoint(side).namespace, now_s);
                    }
                }
            }
        }
        self.seen += flows;
        self.rate.add(now_s, flows);
    }

    fn see(&mut self, namespace: &Arc<str>, now_s: u64) {
        if namespace.is_empty() {
            return;
        }
        match self.namespaces.get_mut(namespace) {
            Some(seen_s) => *seen_s = now_s,
            None => drop(self.namespaces.insert(Arc::clone(namespace), now_s)),
        }
    }
}

impl Lost {
    fn add(&mut self, source: LostSource, count: u64) {
        match source {
            LostSource::Kernel => self.kernel += count,
            LostSource::Decoder => self.decoder += count,
            LostSource::Store => self.store += count,
        }
    }
}

/// A reader's place in the stream.
#[derive(Debug)]
pub struct Cursor {
    hub: Arc<FlowHub>,
    written: watch::Receiver<u64>,
    position: u64,
}

impl Cursor {
    /// Position of the next entry to read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Appends up to `limit` entries, none of them at `end` or behind it, to `out`. Returns how many
    /// were overwritten before this reader came to read them.
    pub fn read(&mut self, limit: usize, end: u64, out: &mut Vec<Arc<Entry>>) -> u64 {
        let read = self.hub.ring().read(self.position, limit, end, out);
        self.position = read.next;
        if read.overtaken > 0 {
            self.hub
                .figures()
                .lost
                .add(LostSource::Store, read.overtaken);
        }
        read.overtaken
    }

    /// Waits until there is an entry to read. False if the store is gone.
    pub async fn wait(&mut self) -> bool {
        let position = self.position;
        self.written.wait_for(|next| *next > position).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::record::tests::{event, record};
    use crate::flows::record::{EndpointInfo, LostRecord};

    fn hub(capacity: usize) -> Arc<FlowHub> {
        Arc::new(FlowHub::new(NonZeroUsize::new(capacity).unwrap()))
    }

    /// Publishes one flow whose source port is `port`.
    fn publish(hub: &FlowHub, port: u16) {
        let record = record(event(("10.0.0.1", port), ("10.0.0.2", 80)));
        hub.publish(&mut vec![Arc::new(Entry::Flow(record))]);
    }

    fn ports(cursor: &mut Cursor) -> (Vec<u16>, u64) {
        let mut out = Vec::new();
        let overtaken = cursor.read(10_000, u64::MAX, &mut out);
        let port = |entry: &Arc<Entry>| match &**entry {
            Entry::Flow(record) => record.port(Side::Source).unwrap(),
            Entry::Lost(_) => 0,
        };
        (out.iter().map(port).collect(), overtaken)
    }

    #[test]
    fn cursors_start_where_they_were_asked_to() {
        let hub = hub(2000);
        (1..=1500).for_each(|port| publish(&hub, port));
        let even = |entry: &Entry| match entry {
            Entry::Flow(record) => record.port(Side::Source).unwrap() % 2 == 0,
            Entry::Lost(_) => false,
        };
        assert_eq!(ports(&mut hub.oldest()).0.len(), 1500);
        assert!(ports(&mut hub.newest()).0.is_empty());
        assert_eq!(ports(&mut hub.last(2, u64::MAX, |_| true)).0, [1499, 1500]);
        assert_eq!(
            ports(&mut hub.last(2, u64::MAX, even)).0,
            [1498, 1499, 1500]
        );
        assert_eq!(ports(&mut hub.last(1, 1400, even)).0.first(), Some(&1400));
        assert_eq!(ports(&mut hub.last(700, u64::MAX, even)).0.len(), 1399);
        assert_eq!(ports(&mut hub.last(u64::MAX, u64::MAX, even)).0.len(), 1500);
        assert!(ports(&mut hub.last(0, u64::MAX, even)).0.is_empty());
    }

    #[test]
    fn a_slow_reader_is_overtaken_and_told() {
        let hub = hub(3);
        publish(&hub, 1);
        let mut cursor = hub.oldest();
        (2..=10).for_each(|port| publish(&hub, port));
        assert_eq!(ports(&mut cursor), (vec![8, 9, 10], 7));
        assert_eq!(ports(&mut cursor), (vec![], 0));
        assert_eq!(
            hub.stats().lost,
            Lost {
                store: 7,
                ..Lost::default()
            }
        );
    }

    #[tokio::test]
    async fn a_waiting_reader_wakes_for_the_next_entry() {
        let hub = hub(3);
        let mut cursor = hub.newest();
        let writer = Arc::clone(&hub);
        let task = tokio::spawn(async move {
            assert!(cursor.wait().await);
            ports(&mut cursor).0
        });
        tokio::task::yield_now().await;
        publish(&writer, 5);
        assert_eq!(task.await.unwrap(), [5]);
    }

    #[test]
    fn figures_count_flows_losses_and_namespaces() {
        let hub = hub(2);
        let mut flow = record(event(("10.0.0.1", 1), ("10.0.0.2", 2)));
        let shop = EndpointInfo {
            namespace: "shop".into(),
            ..EndpointInfo::default()
        };
        flow.destination = Arc::new(shop);
        let lost = |source, count| {
            Arc::new(Entry::Lost(LostRecord {
                source,
                count,
                first_ns: 0,
                last_ns: 0,
            }))
        };
        hub.publish(&mut vec![
            Arc::new(Entry::Flow(flow)),
            lost(LostSource::Kernel, 4),
            lost(LostSource::Decoder, 2),
        ]);
        let stats = hub.stats();
        assert_eq!((stats.seen, stats.stored, stats.capacity), (1, 2, 2));
        assert_eq!(
            stats.lost,
            Lost {
                kernel: 4,
                decoder: 2,
                store: 0
            }
        );
        assert_eq!(hub.namespaces(), [Arc::from("shop")]);
    }
}
