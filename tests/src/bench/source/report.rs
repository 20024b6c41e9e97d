//! Figures, for people and for programs.

use std::fmt;

use serde::Serialize;

use super::follower::{Counts, Figures};

/// All figures of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was loaded.
    pub counts: Counts,
    /// From the start of the process until all was listed.
    pub synced_seconds: f64,
    /// From there until the maps were written the first time is the difference.
    pub planned_seconds: f64,
    /// Processor time until then, and some seconds after.
    pub first_sync_cpu_seconds: f64,
    /// What pods take.
    pub memory: Memory,
    /// Bytes allocated when objects had changed all the time.
    pub heap_after_churn: u64,
    /// What the server was asked for.
    pub costs: Costs,
    /// From one change of one slice until its table is live: median and longest, in milliseconds.
    pub slice_change_ms: [f64; 2],
    /// What changes cost.
    pub loads: Vec<Load>,
    /// What one very large Service costs.
    pub largest: Largest,
}

/// What following one Service costs that has all endpoints of a cluster.
#[derive(Debug, Serialize)]
pub struct Largest {
    /// Endpoints of both families.
    pub endpoints: usize,
    /// From the start of the process until all was listed.
    pub synced_seconds: f64,
    /// From there until the maps were written the first time is the difference.
    pub planned_seconds: f64,
    /// Processor time until then, and some seconds after.
    pub cpu_seconds: f64,
    /// Most bytes that were resident.
    pub resident_peak: u64,
    /// From one change of one slice until its table is live: median and longest, in milliseconds.
    pub slice_change_ms: [f64; 2],
}

/// What pods take: without any, and with all.
#[derive(Debug, Serialize)]
pub struct Memory {
    /// Bytes allocated.
    pub heap: [u64; 2],
    /// Bytes resident.
    pub resident: [u64; 2],
    /// The most that were, with all.
    pub resident_peak: u64,
    /// Allocated for each pod.
    pub heap_per_pod: f64,
    /// Resident for each pod.
    pub resident_per_pod: f64,
}

impl Memory {
    pub(super) fn between(without: &Figures, with: &Figures, pods: usize) -> Self {
        let per_pod = |with: u64, without: u64| (with as f64 - without as f64) / pods as f64;
        Self {
            heap: [without.heap, with.heap],
            resident: [without.resident, with.resident],
            resident_peak: with.resident_peak,
            heap_per_pod: per_pod(with.heap, without.heap),
            resident_per_pod: per_pod(with.resident, without.resident),
        }
    }
}

/// What one agent costs the server until it is in step.
#[derive(Debug, Serialize)]
pub struct Costs {
    /// By kind.
    pub lists: Vec<Listed>,
    /// Watches that were begun.
    pub watches: usize,
    /// Connections that were made.
    pub connections: usize,
}

/// The list of one kind.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Plural name.
    pub resource: &'static str,
    /// Objects that there are.
    pub objects: usize,
    /// Their bytes.
    pub object_bytes: u64,
    /// Pages that were asked for.
    pub pages: usize,
    /// Bytes that were sent for them, compressed.
    pub bytes: u64,
    /// Bytes of their text.
    pub body_bytes: u64,
}

/// What changes cost.
#[derive(Debug, Serialize)]
pub struct Load {
    /// What changed.
    pub mix: &'static str,
    /// How often, slices and kubelets' reports apart.
    pub changes: u32,
    /// In this time.
    pub seconds: f64,
    /// Time on a processor, as a share of one.
    pub processor_share: f64,
    /// What the server sent.
    pub bytes_per_second: f64,
    /// Changes of the tables.
    pub revisions: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            nodes,
            pods,
            services,
            slices,
            endpoints,
            ..
        } = self.counts;
        writeln!(
            f,
            "{nodes} nodes, {pods} pods, {services} Services, {slices} slices with {endpoints} \
             endpoints, followed by one agent\n"
        )?;
        writeln!(
            f,
            "first sync      all listed after {:.2} s, maps written after {:.2} s, {:.2} s of a \
             processor",
            self.synced_seconds, self.planned_seconds, self.first_sync_cpu_seconds
        )?;
        self.memory.fmt(f)?;
        writeln!(
            f,
            "                {:.1} MB allocated after changes",
            mega(self.heap_after_churn)
        )?;
        self.costs.fmt(f)?;
        let [median, longest] = self.slice_change_ms;
        writeln!(
            f,
            "one slice       live after {median:.1} ms, longest {longest:.1} ms"
        )?;
        self.loads.iter().try_for_each(|load| load.fmt(f))?;
        self.largest.fmt(f)
    }
}

impl fmt::Display for Largest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, longest] = self.slice_change_ms;
        writeln!(
            f,
            "one Service     with {} endpoints: all listed after {:.2} s, maps written after {:.2} s, \
             {:.2} s of a processor, at most {:.1} MB resident; one slice live after {median:.0} \
             ms, longest {longest:.0} ms",
            self.endpoints,
            self.synced_seconds,
            self.planned_seconds,
            self.cpu_seconds,
            mega(self.resident_peak)
        )
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "memory          {:.1} MB allocated, {:.1} MB without pods: {:.0} bytes per pod",
            mega(self.heap[1]),
            mega(self.heap[0]),
            self.heap_per_pod
        )?;
        writeln!(
            f,
            "                {:.1} MB resident, {:.1} MB without pods: {:.0} bytes per pod; at most \
             {:.1} MB",
            mega(self.resident[1]),
            mega(self.resident[0]),
            self.resident_per_pod,
            mega(self.resident_peak)
        )
    }
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut pages, mut bytes) = (0, 0);
        for list in &self.lists {
            writeln!(
                f,
                "list            {:<15} {:>6} objects {:>4} pages {:>8.1} MB, {:.1} MB \
                 compressed",
                list.resource,
                list.objects,
                list.pages,
                mega(list.body_bytes),
                mega(list.bytes)
            )?;
            pages += list.pages;
            bytes += list.bytes;
        }
        writeln!(
            f,
            "the server      {} watches, {} connections, {pages} pages, {:.1} MB compressed for an \
             agent that starts",
            self.watches,
            self.connections,
            mega(bytes)
        )
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<33} {:>5.0} changes/s  {:>5.1} % of a processor  {:>6.1} kB/s  {:>5.0} revisions/s",
            self.mix,
            f64::from(self.changes) / self.seconds,
            self.processor_share * 100.0,
            self.bytes_per_second / 1e3,
            self.revisions as f64 / self.seconds
        )
    }
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
