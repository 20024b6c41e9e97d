use super::*;
use crate::clock::monotonic_ns;
use crate::flows::enrich::InterfaceNames;
use crate::flows::record::Side;
use crate::flows::record::tests::event;
use crate::state::{Change, Object, ObjectName, Pod};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

/// What a test makes the ring buffer do next.
enum Step {
    Record(Vec<u8>),
    Lost(u64),
    Flood,
    Fail,
}

struct Script {
    steps: Receiver<Step>,
    next: Option<Step>,
    lost: u64,
    told: Arc<AtomicU64>,
}

impl EventSource for Script {
    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        if self.next.is_some() {
            return Ok(());
        }
        match self.steps.recv_timeout(timeout) {
            Ok(Step::Fail) => return Err(io::Error::other("gone")),
            Ok(step) => self.next = Some(step),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::park_timeout(timeout),
        }
        Ok(())
    }

    fn poll(&mut self, limit: usize, record: &mut dyn FnMut(&[u8])) -> usize {
        let mut records = 0;
        while records < limit {
            match self.next.take().or_else(|| self.steps.try_recv().ok()) {
                Some(Step::Record(bytes)) => {
                    record(&bytes);
                    records += 1;
                }
                Some(Step::Lost(lost)) => self.lost = lost,
                Some(Step::Flood) => {
                    while records < limit {
                        let event = event(("10.0.0.1", 1), ("10.0.0.2", 80));
                        record(bytemuck::bytes_of(&event));
                        records += 1;
                    }
                    // There is always more of it.
                    self.next = Some(Step::Flood);
                }
                Some(Step::Fail) | None => break,
            }
        }
        records
    }

    fn lost(&mut self) -> io::Result<u64> {
        Ok(self.lost)
    }

    fn told(&mut self) -> io::Result<u64> {
        Ok(self.told.load(Ordering::SeqCst))
    }

    fn tell(&mut self, lost: u64) -> io::Result<()> {
        self.told.store(lost, Ordering::SeqCst);
        Ok(())
    }
}

struct NoNames;

impl InterfaceNames for NoNames {
    fn name(&self, _index: u32) -> Option<String> {
        None
    }
}

struct Running {
    steps: Sender<Step>,
    state: SharedState,
    hub: Arc<FlowHub>,
    stop: CancellationToken,
    reader: FlowReader,
    told: Arc<AtomicU64>,
}

/// A reader whose source has lost so many events, of which an earlier reader has told.
fn start(lost: u64, told: u64) -> Running {
    let told = Arc::new(AtomicU64::new(told));
    let (steps, receiver) = channel();
    let source = Script {
        steps: receiver,
        next: None,
        lost,
        told: Arc::clone(&told),
    };
    let state = SharedState::new();
    let hub = Arc::new(FlowHub::new(NonZeroUsize::new(4096).unwrap()));
    let stop = CancellationToken::new();
    let reader = FlowReader::start(
        Box::new(source),
        Enricher::new("node-1", Arc::default(), Box::new(NoNames)),
        state.clone(),
        watch::channel(true).1,
        Arc::clone(&hub),
        stop.clone(),
    )
    .unwrap();
    Running {
        steps,
        state,
        hub,
        stop,
        reader,
        told,
    }
}

fn record(port: u16) -> Step {
    let event = event(("10.0.0.1", port), ("10.0.0.2", 80));
    Step::Record(bytemuck::bytes_of(&event).to_vec())
}

/// The next entries of the stream, as many as asked for.
async fn take(hub: &Arc<FlowHub>, count: usize) -> Vec<Arc<Entry>> {
    let mut cursor = hub.oldest();
    let mut entries = Vec::new();
    let all = async {
        while entries.len() < count {
            assert!(cursor.wait().await);
            cursor.read(count, u64::MAX, &mut entries);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all)
        .await
        .expect("entries within ten seconds");
    entries
}

#[tokio::test]
async fn records_become_entries_in_order_with_names_and_wall_clock() {
    let running = start(0, 0);
    running.state.update(|cluster| {
        cluster.apply(vec![Change::Upsert(Object::Pod(Pod {
            name: ObjectName::new("shop", "web-1"),
            ips: ["10.0.0.1".parse().unwrap()].into(),
            node_name: None,
            host_network: false,
            finished: false,
            labels: crate::state::Labels::default(),
            service_account: "".into(),
            workload: None,
        }))])
    });
    let before_ns = ClockOffset::now().unwrap().wall_ns();
    let mut now = event(("10.0.0.1", 1), ("10.0.0.2", 80));
    now.monotonic_ns = monotonic_ns().unwrap();
    running
        .steps
        .send(Step::Record(bytemuck::bytes_of(&now).to_vec()))
        .unwrap();
    // More than a batch.
    (2..=1500).for_each(|port| running.steps.send(record(port)).unwrap());
    let entries = take(&running.hub, 1500).await;
    for (entry, port) in entries.iter().zip(1..) {
        let Entry::Flow(record) = &**entry else {
            panic!("{entry:?}")
        };
        assert_eq!(record.port(Side::Source), Some(port));
        assert_eq!(record.source.pod_name, "web-1");
    }
    let second_ns = 1_000_000_000;
    assert!((before_ns..before_ns + 10 * second_ns).contains(&entries[0].time_ns()));
    running.stop.cancel();
    running.reader.join().await.unwrap();
}

#[tokio::test]
async fn losses_are_reported_in_the_stream() {
    let running = start(1000, 1000);
    running.steps.send(Step::Lost(1007)).unwrap();
    running.steps.send(Step::Record(vec![1, 2, 3])).unwrap();
    let lost = losses(&take(&running.hub, 2).await);
    assert_eq!(lost, [(LostSource::Kernel, 7), (LostSource::Decoder, 1)]);
    running.stop.cancel();
    running.reader.join().await.unwrap();
}

#[tokio::test]
async fn what_was_lost_while_no_agent_ran_is_told_once() {
    let running = start(1007, 1000);
    let lost = losses(&take(&running.hub, 1).await);
    assert_eq!(lost, [(LostSource::Kernel, 7)]);
    running.stop.cancel();
    running.reader.join().await.unwrap();
    assert_eq!(running.told.load(Ordering::SeqCst), 1007);
}

fn losses(entries: &[Arc<Entry>]) -> Vec<(LostSource, u64)> {
    let lost = entries.iter().map(|entry| match &**entry {
        Entry::Lost(lost) => (lost.source, lost.count),
        Entry::Flow(_) => panic!("{entry:?}"),
    });
    lost.collect()
}

#[tokio::test]
async fn a_flood_does_not_keep_the_thread_from_stopping() {
    let running = start(0, 0);
    running.steps.send(Step::Flood).unwrap();
    take(&running.hub, 100).await;
    running.stop.cancel();
    let joined = tokio::time::timeout(Duration::from_secs(10), running.reader.join()).await;
    joined.expect("the thread stops").unwrap();
}

#[tokio::test]
async fn a_failing_source_ends_the_thread_with_its_error() {
    let running = start(0, 0);
    running.steps.send(Step::Fail).unwrap();
    let joined = tokio::time::timeout(Duration::from_secs(10), running.reader.join()).await;
    let error = joined.expect("the thread ends").unwrap_err();
    assert_eq!(format!("{error:#}"), "waiting for flow events: gone");
}

#[test]
fn a_counter_that_starts_over_counts_from_zero() {
    let mut losses = Losses::new(100, 5);
    assert_eq!(losses.notices(100, 0, 6), []);
    let notice = |count, first_ns, last_ns| {
        vec![LostRecord {
            source: LostSource::Kernel,
            count,
            first_ns,
            last_ns,
        }]
    };
    assert_eq!(losses.notices(103, 0, 7), notice(3, 6, 7));
    assert_eq!(losses.notices(2, 0, 8), notice(2, 7, 8));
}
