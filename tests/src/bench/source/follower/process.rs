//! Inside of the process.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ebpf_abi::{BackendId, ServiceId};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_agent::config;
use weir_agent::lb::apply::LbMaps;
use weir_agent::lb::desired::ThisNode;
use weir_agent::lb::fit::Capacity;
use weir_agent::lb::reconcile::{self, Balanced, Reconciler};
use weir_agent::lb::{BackendAddress, FrontendAddress, FrontendEntry};
use weir_agent::lifecycle::Readiness;
use weir_agent::source::kubernetes::{self, Record, Timing};
use weir_agent::state::{OwnAnnotations, SharedState};

use super::{Counts, Figures, Told};

/// Slots for each backend, as configured by default.
const LOAD_FACTOR: usize = 100;

/// Whom to follow, as whom.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// URL of the API server
    url: String,
    /// Name of the node
    node: String,
}

/// Follows until the input ends.
pub fn follow(options: &Options) -> Result<()> {
    let begun = Instant::now();
    let folder = tempfile::tempdir().context("make a folder")?;
    let state = SharedState::new();
    let (synced_sender, synced) = watch::channel(false);
    let (_annotations, annotations) = watch::channel(OwnAnnotations::new());
    let readiness = Readiness::new();
    let stop = CancellationToken::new();
    let source = kubernetes::Inputs {
        settings: settings(options, folder.path())?,
        node_name: options.node.clone(),
        state_folder: folder.path().to_owned(),
        state: state.clone(),
        synced: synced_sender,
        record: Record {
            readiness: readiness.clone(),
            annotations,
        },
        timing: Timing::default(),
    };
    let balanced = Arc::default();
    let (_addresses, addresses) = watch::channel(BTreeSet::new());
    let balancer = reconcile::Inputs {
        state: state.clone(),
        addresses,
        node: ThisNode {
            name: options.node.clone(),
            ..ThisNode::default()
        },
        balanced: Arc::clone(&balanced),
    };
    let tells = Arc::new(AtomicBool::new(false));
    let maps = Maps {
        tells: Arc::clone(&tells),
        added: Vec::new(),
    };
    let Ok(reconciler) = Reconciler::new(maps, LOAD_FACTOR);
    let first_pass = readiness.guard("the first pass");
    let runtime = Runtime::new().context("start a runtime")?;
    runtime.spawn(kubernetes::run(source, stop.clone()));
    runtime.spawn(reconcile::run(
        reconciler,
        balancer,
        synced.clone(),
        first_pass,
        stop.clone(),
    ));
    runtime.block_on(async {
        let mut synced = synced;
        synced.wait_for(|synced| *synced).await?;
        let listed = begun.elapsed().as_secs_f64();
        readiness.wait().await;
        tell(&Told::Planned([listed, begun.elapsed().as_secs_f64()]));
        anyhow::Ok(())
    })?;
    for question in std::io::stdin().lock().lines() {
        match &*question? {
            "figures" => tell(&Told::Figures(figures(&state, &balanced.load())?)),
            "problems" => {
                let cluster = state.read();
                let problems = cluster.problems().map(ToString::to_string);
                tell(&Told::Problems(problems.collect()));
            }
            "tell" => tells.store(true, Ordering::Relaxed),
            _ => tells.store(false, Ordering::Relaxed),
        }
    }
    stop.cancel();
    Ok(())
}

fn settings(options: &Options, folder: &std::path::Path) -> Result<config::Kubernetes> {
    let kubeconfig = json!({
        "clusters": [{ "name": "c", "cluster": { "server": options.url } }],
        "users": [{ "name": "u", "user": {} }],
        "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u" } }],
        "current-context": "x",
    });
    let path = folder.join("kubeconfig");
    fs::write(&path, kubeconfig.to_string()).context("write a kubeconfig")?;
    let mut settings = config::Kubernetes {
        kubeconfig: Some(path),
        ..config::Kubernetes::default()
    };
    // The server takes writes and forgets them.
    settings.node.publish = false;
    settings.node.taint = None;
    settings.events.enabled = false;
    Ok(settings)
}

fn tell(told: &Told) {
    // Whoever does not read any more has ended, and so will this.
    if let Ok(text) = serde_json::to_string(told) {
        println!("{text}");
    }
}

fn figures(state: &SharedState, balanced: &Balanced) -> Result<Figures> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("ask for the time used")?;
    let used = usage.user_time() + usage.system_time();
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    Ok(Figures {
        counts: counts(state, balanced),
        heap: heap_at_rest(),
        resident: bytes(&status, "VmRSS:")?,
        resident_peak: bytes(&status, "VmHWM:")?,
        cpu_seconds: used.num_microseconds() as f64 / 1e6,
        revision: *state.subscribe().borrow(),
    })
}

fn counts(state: &SharedState, balanced: &Balanced) -> Counts {
    let cluster = state.read();
    let actual = &balanced.actual;
    let ips = cluster.pods().flat_map(|pod| pod.ips.iter());
    let found = |ip: &&std::net::IpAddr| cluster.pod_by_ip(**ip).is_some();
    let has_slots = |table: &&weir_agent::lb::plan::Table| table.slots > 0;
    Counts {
        namespaces: cluster.namespaces().count(),
        nodes: cluster.nodes().count(),
        services: cluster.services().count(),
        slices: cluster.endpoint_slices().count(),
        endpoints: cluster.endpoint_slices().map(|it| it.endpoints.len()).sum(),
        pods: cluster.pods().count(),
        pods_by_ip: ips.filter(found).count(),
        frontends: actual.frontends.len(),
        backends: actual.backends.len(),
        filled_tables: actual.tables.values().flatten().filter(has_slots).count(),
    }
}

/// The least of what is in use at several moments: buffers of a request come and go.
fn heap_at_rest() -> u64 {
    const LOOKS: u32 = 5;
    const BETWEEN: Duration = Duration::from_millis(20);
    let later = (1..LOOKS).map(|_| {
        thread::sleep(BETWEEN);
        heap()
    });
    later.fold(heap(), u64::min)
}

/// Bytes in use, of all arenas of the C library.
fn heap() -> u64 {
    // SAFETY: it reads counters under the allocator's own locks.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

/// A value of a process's status, which is in kibibytes.
fn bytes(status: &str, key: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    let kibibytes: u64 = number.context("the line is there")?.parse()?;
    Ok(kibibytes << 10)
}

/// Maps that are written and never read; tells of tables that go live.
struct Maps {
    tells: Arc<AtomicBool>,
    /// Backends that were added since the last table.
    added: Vec<String>,
}

impl LbMaps for Maps {
    type Error = Infallible;

    /// That of the maps in the kernel.
    fn capacity(&self) -> Capacity {
        Capacity {
            frontends: 65_536,
            backends: 131_072,
            services: 65_536,
        }
    }

    fn frontends(&self) -> Result<Vec<(FrontendAddress, FrontendEntry)>, Infallible> {
        Ok(Vec::new())
    }

    fn backends(&self) -> Result<Vec<(BackendId, BackendAddress)>, Infallible> {
        Ok(Vec::new())
    }

    fn tables(&self) -> Result<Vec<ServiceId>, Infallible> {
        Ok(Vec::new())
    }

    fn table(&self, _: ServiceId) -> Result<Option<Vec<BackendId>>, Infallible> {
        Ok(None)
    }

    fn insert_frontend(&mut self, _: &FrontendAddress, _: FrontendEntry) -> Result<(), Infallible> {
        Ok(())
    }

    fn remove_frontend(&mut self, _: &FrontendAddress) -> Result<(), Infallible> {
        Ok(())
    }

    fn insert_backend(&mut self, _: BackendId, backend: &BackendAddress) -> Result<(), Infallible> {
        if self.tells.load(Ordering::Relaxed) {
            self.added.push(backend.ip.to_string());
        }
        Ok(())
    }

    fn remove_backend(&mut self, _: BackendId, _: &BackendAddress) -> Result<(), Infallible> {
        Ok(())
    }

    fn swap_table(&mut self, _: ServiceId, _: &[BackendId]) -> Result<(), Infallible> {
        if self.tells.load(Ordering::Relaxed) {
            let added = std::mem::take(&mut self.added);
            tell(&Told::Swapped {
                at_ns: monotonic_ns(),
                added,
            });
        }
        Ok(())
    }

    fn remove_table(&mut self, _: ServiceId) -> Result<(), Infallible> {
        Ok(())
    }

    fn raise_generation(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Of the clock that all processes of the machine share.
pub(in crate::bench::source) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the clock is there");
    now.num_nanoseconds().cast_unsigned()
}
