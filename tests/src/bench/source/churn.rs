//! A cluster whose objects change all the time, and what that costs who follows it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::follower::{Follower, monotonic_ns};
use super::population::{Family, Population, namespace};
use super::report::Load;
use super::{DEADLINE, RESOURCES};
use crate::api_server::{Ask, Server};
use crate::wait;

/// A hundred changes a second.
const BETWEEN: Duration = Duration::from_millis(10);
/// Of so many changes one is the report of a kubelet, as from a thousand nodes each five minutes.
const BEAT: usize = 30;
/// Pods after which a pod has its first address again.
const GENERATIONS: usize = 7;

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Nothing at all.
    Nothing,
    /// Pods are replaced, and nobody's endpoints are; kubelets report.
    Pods,
    /// Pods are replaced, and the slices follow them.
    PodsAndSlices,
}

/// The steps in which a pod is replaced.
#[derive(Clone, Copy, Debug)]
enum Step {
    Unready,
    Gone,
    Pending,
    Scheduled,
    Addressed,
    Ready,
}

const STEPS: [Step; 6] = [
    Step::Unready,
    Step::Gone,
    Step::Pending,
    Step::Scheduled,
    Step::Addressed,
    Step::Ready,
];

/// Changes the objects of a server that a process follows.
pub struct Churn<'a> {
    server: &'a Server,
    population: &'a Population,
    follower: &'a Follower,
    changes: usize,
    /// Whose first pod is replaced, and which one of those it is.
    service: usize,
    generation: usize,
}

impl<'a> Churn<'a> {
    /// With nothing changed yet.
    pub fn new(server: &'a Server, population: &'a Population, follower: &'a Follower) -> Self {
        Self {
            server,
            population,
            follower,
            changes: 0,
            service: 0,
            generation: 1,
        }
    }

    /// Changes one slice after the other, each when the last change is done: milliseconds until the
    /// table went live, median and longest.
    pub fn single_slices(&self, times: usize) -> Result<[f64; 2]> {
        self.follower.tell_swaps(true)?;
        let mut taken = Vec::new();
        let population = self.population;
        let services = 0..population.size.services;
        let have_pods = services.filter(|it| !population.pods_of(*it).is_empty());
        let have_pods: Vec<_> = have_pods.collect();
        ensure!(!have_pods.is_empty(), "no Service has a slice to change");
        for change in 0..times {
            let service = have_pods[change % have_pods.len()];
            let generation = 1 + change / have_pods.len();
            let pod = population.pods_of(service).start;
            let (address, _) = population.addresses(pod, generation);
            let begun = monotonic_ns();
            let slice = population.slice(service, Family::V4, 0, generation);
            self.server.put("endpointslices", slice);
            let live = self.follower.swapped_with(&address.to_string())?;
            taken.push(live.saturating_sub(begun) as f64 / 1e6);
            thread::sleep(Duration::from_millis(50));
        }
        self.follower.tell_swaps(false)?;
        ensure!(!taken.is_empty(), "no slice was to be changed");
        taken.sort_unstable_by(f64::total_cmp);
        Ok([taken[taken.len() / 2], taken[taken.len() - 1]])
    }

    /// Changes objects for so long.
    pub fn run(&mut self, mix: Mix, length: Duration) -> Result<Load> {
        let (server, follower) = (self.server, self.follower);
        let bytes = || {
            let sent = |resource: &str| server.bytes_sent(resource, Ask::Watch)[0];
            RESOURCES.into_iter().map(sent).sum::<u64>()
        };
        let (before, bytes_before) = (follower.figures()?, bytes());
        let begun = Instant::now();
        let mut made = 0;
        while mix != Mix::Nothing && begun.elapsed() < length {
            self.change(mix)?;
            made += 1;
            let turn = begun + BETWEEN * made;
            thread::sleep(turn.saturating_duration_since(Instant::now()));
        }
        thread::sleep(length.saturating_sub(begun.elapsed()));
        self.finish(mix)?;
        let seconds = begun.elapsed().as_secs_f64();
        let pods = self.population.size.pods();
        wait::until("all pods to be there again", DEADLINE, || {
            let counts = self.follower.figures()?.counts;
            ensure!(counts.pods == pods && counts.pods_by_ip == pods * 2);
            Ok(())
        })?;
        let after = self.follower.figures()?;
        let bytes = bytes();
        Ok(Load {
            mix: mix.title(),
            changes: made,
            seconds,
            processor_share: (after.cpu_seconds - before.cpu_seconds) / seconds,
            bytes_per_second: (bytes - bytes_before) as f64 / seconds,
            revisions: after.revision - before.revision,
        })
    }

    /// Completes the pod that is being replaced.
    fn finish(&mut self, mix: Mix) -> Result<()> {
        while !self.changes.is_multiple_of(STEPS.len()) {
            self.change(mix)?;
        }
        Ok(())
    }

    fn change(&mut self, mix: Mix) -> Result<()> {
        let step = STEPS[self.changes % STEPS.len()];
        self.changes += 1;
        if self.changes.is_multiple_of(BEAT) {
            let number = self.changes / BEAT % self.population.size.nodes;
            let node = self.population.node(number, self.changes);
            self.server.put("nodes", node);
        }
        let number = self.population.pods_of(self.service).start;
        self.replace(number, step)?;
        if mix == Mix::PodsAndSlices && matches!(step, Step::Unready | Step::Ready) {
            self.update_slices(step);
        }
        if matches!(step, Step::Ready) {
            self.next_pod();
        }
        Ok(())
    }

    fn next_pod(&mut self) {
        loop {
            self.service += 1;
            if self.service == self.population.size.services {
                self.service = 0;
                self.generation = (self.generation + 1) % GENERATIONS;
            }
            if !self.population.pods_of(self.service).is_empty() {
                return;
            }
        }
    }

    fn replace(&self, number: usize, step: Step) -> Result<()> {
        let before = (self.generation + GENERATIONS - 1) % GENERATIONS;
        let old = self.population.pod(number, before);
        let mut new = self.population.pod(number, self.generation);
        match step {
            Step::Unready => {
                self.server.put("pods", unready(old));
                return Ok(());
            }
            Step::Gone => {
                let name = old["metadata"]["name"].as_str().context("it has a name")?;
                let namespace = namespace(self.service);
                let deleted = self.server.delete_in("pods", &namespace, name);
                ensure!(deleted, "{namespace}/{name} is not there");
                return Ok(());
            }
            Step::Pending => {
                new["spec"]["nodeName"] = Value::Null;
                new["status"] = json!({ "phase": "Pending" });
            }
            Step::Scheduled => new["status"] = json!({ "phase": "Pending" }),
            Step::Addressed => new = unready(new),
            Step::Ready => {}
        }
        self.server.put("pods", new);
        Ok(())
    }

    fn update_slices(&self, step: Step) {
        for family in [Family::V4, Family::V6] {
            let mut slice = self
                .population
                .slice(self.service, family, 0, self.generation);
            if matches!(step, Step::Unready) {
                slice["endpoints"][0]["conditions"] =
                    json!({ "ready": false, "serving": false, "terminating": true });
            }
            self.server.put("endpointslices", slice);
        }
    }
}

impl Mix {
    fn title(self) -> &'static str {
        match self {
            Self::Nothing => "nothing changes",
            Self::Pods => "pods are replaced",
            Self::PodsAndSlices => "pods are replaced, slices follow",
        }
    }
}

fn unready(mut pod: Value) -> Value {
    pod["status"]["conditions"][2]["status"] = json!("False");
    pod
}
