//! Measures what following a large cluster costs an agent and its API server.
//!
//! The source and the load balancer of the agent, as they are, follow an API server that holds
//! 1,000 nodes with 30 pods each. The agent's part is a process of its own, so that its memory and
//! processor time are told apart from the server's. The server is [`crate::api_server`]: to fill a
//! real one with as many objects takes longer than all of the measurement, and it does not count
//! bytes. The load balancer's maps are in memory; programs, flows and encryption do not run.
//!
//! - [`population`]: the objects.
//! - [`follower`]: the agent's part.
//! - [`churn`]: objects that change all the time.
//! - `report`: figures.

pub mod churn;
pub mod follower;
pub mod population;
mod report;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::api_server::{Ask, Server};
use crate::wait;
use churn::{Churn, Mix};
use follower::{Counts, Figures, Follower};
use population::{Family, Population, Size, node_name};
pub use report::{Costs, Largest, Listed, Load, Memory, Report};

/// Kinds, as they stand in paths.
pub const RESOURCES: [&str; 5] = ["namespaces", "nodes", "services", "endpointslices", "pods"];

/// How long anything may take.
const DEADLINE: Duration = Duration::from_mins(2);
/// Memory is asked for when nothing was done for so long.
const QUIET: Duration = Duration::from_secs(2);

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The cluster.
    pub size: Size,
    /// Changes of single slices.
    pub slice_changes: usize,
    /// A cluster whose pods are all of one Service, and changes of single slices of it.
    pub largest: (Size, usize),
    /// How long objects change all the time, in each mix.
    pub churn: Duration,
}

/// The cluster that the figures in the documentation are of.
const WHOLE: Plan = Plan {
    size: Size {
        nodes: 1_000,
        pods_per_node: 30,
        services: 2_000,
    },
    slice_changes: 25,
    largest: (
        Size {
            nodes: 2_000,
            pods_per_node: 50,
            services: 1,
        },
        3,
    ),
    churn: Duration::from_secs(10),
};

/// Measures all, prints it and writes it to `json` if wanted.
pub fn run(json: Option<&Path>) -> Result<()> {
    let program = std::env::current_exe().context("find this program")?;
    let report = measure(&program, WHOLE)?;
    print!("{report}");
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Measures with `program`, which is `weir-bench`.
pub fn measure(program: &Path, plan: Plan) -> Result<Report> {
    let runtime = Runtime::new().context("start a runtime")?;
    let server = runtime.block_on(Server::start())?;
    let population = Population::new(plan.size)?;
    fill(&server, &population);
    let without_pods = {
        let follower = Follower::start(program, &server.url, &node_name(0))?;
        follower.first_plan(DEADLINE)?;
        settled(&follower, expected(&population, 0))?
    };
    for pod in 0..plan.size.pods() {
        server.put("pods", population.pod(pod, 0));
    }
    server.compact();

    let before = Asked::so_far(&server);
    let follower = Follower::start(program, &server.url, &node_name(0))?;
    let [synced_seconds, planned_seconds] = follower.first_plan(DEADLINE)?;
    let with_pods = settled(&follower, expected(&population, plan.size.pods()))?;
    let costs = Asked::so_far(&server).costs_since(&before, &server);
    let memory = Memory::between(&without_pods, &with_pods, plan.size.pods());

    let mut churn = Churn::new(&server, &population, &follower);
    let idle = churn.run(Mix::Nothing, plan.churn)?;
    let slice_change = churn.single_slices(plan.slice_changes)?;
    let pods = churn.run(Mix::Pods, plan.churn)?;
    let pods_and_slices = churn.run(Mix::PodsAndSlices, plan.churn)?;
    let after = settled(&follower, expected(&population, plan.size.pods()))?;
    Ok(Report {
        counts: with_pods.counts,
        synced_seconds,
        planned_seconds,
        first_sync_cpu_seconds: with_pods.cpu_seconds,
        memory,
        heap_after_churn: after.heap,
        costs,
        slice_change_ms: slice_change,
        loads: vec![idle, pods, pods_and_slices],
        largest: measure_largest(&runtime, program, plan.largest)?,
    })
}

/// Measures one Service that has all pods of a cluster; the pods themselves are left out.
fn measure_largest(
    runtime: &Runtime,
    program: &Path,
    (size, slice_changes): (Size, usize),
) -> Result<Largest> {
    let server = runtime.block_on(Server::start())?;
    let population = Population::new(size)?;
    fill(&server, &population);
    let follower = Follower::start(program, &server.url, &node_name(0))?;
    let [synced_seconds, planned_seconds] = follower.first_plan(DEADLINE)?;
    let figures = settled(&follower, expected(&population, 0))?;
    let churn = Churn::new(&server, &population, &follower);
    Ok(Largest {
        endpoints: figures.counts.endpoints,
        synced_seconds,
        planned_seconds,
        cpu_seconds: figures.cpu_seconds,
        resident_peak: figures.resident_peak,
        slice_change_ms: churn.single_slices(slice_changes)?,
    })
}

/// Everything but pods.
fn fill(server: &Server, population: &Population) {
    let put_all = |resource: &str, objects: &mut dyn Iterator<Item = Value>| {
        objects.for_each(|object| {
            server.put(resource, object);
        });
    };
    put_all("namespaces", &mut population.namespaces());
    let nodes = 0..population.size.nodes;
    put_all("nodes", &mut nodes.map(|number| population.node(number, 0)));
    for service in 0..population.size.services {
        server.put("services", population.service(service));
        for slice in 0..population.slices(service) {
            for family in [Family::V4, Family::V6] {
                let object = population.slice(service, family, slice, 0);
                server.put("endpointslices", object);
            }
        }
    }
    server.compact();
}

/// What the tables of a follower must hold.
fn expected(population: &Population, pods: usize) -> Counts {
    let Size {
        nodes, services, ..
    } = population.size;
    let endpoints = population.size.pods() * 2;
    let has_pods = |service: &usize| !population.pods_of(*service).is_empty();
    Counts {
        namespaces: population.namespaces().count(),
        nodes,
        services,
        slices: (0..services).map(|it| population.slices(it) * 2).sum(),
        endpoints,
        pods,
        pods_by_ip: pods * 2,
        frontends: services * 2,
        backends: endpoints,
        filled_tables: (0..services).filter(has_pods).count() * 2,
    }
}

/// Figures when all is in the tables and nothing is done any more.
fn settled(follower: &Follower, expected: Counts) -> Result<Figures> {
    wait::until("all objects in the tables", DEADLINE, || {
        let figures = follower.figures()?;
        let counts = figures.counts;
        ensure!(counts == expected, "{counts:?}, not {expected:?}");
        Ok(())
    })?;
    std::thread::sleep(QUIET);
    follower.figures()
}

/// What a server was asked for, and what it sent, so far.
struct Asked {
    pages: [usize; 5],
    list_bytes: [[u64; 2]; 5],
    watches: usize,
    connections: usize,
}

impl Asked {
    fn so_far(server: &Server) -> Self {
        let watches = |resource: &str| server.requests(resource, Ask::Watch);
        Self {
            pages: RESOURCES.map(|it| server.requests(it, Ask::List)),
            list_bytes: RESOURCES.map(|it| server.bytes_sent(it, Ask::List)),
            watches: RESOURCES.into_iter().map(watches).sum(),
            connections: server.connections(),
        }
    }

    fn costs_since(&self, before: &Self, server: &Server) -> Costs {
        let listed = RESOURCES.into_iter().enumerate().map(|(at, resource)| {
            let (object_bytes, objects) = server.size(resource);
            Listed {
                resource,
                objects,
                object_bytes,
                pages: self.pages[at] - before.pages[at],
                bytes: self.list_bytes[at][0] - before.list_bytes[at][0],
                body_bytes: self.list_bytes[at][1] - before.list_bytes[at][1],
            }
        });
        Costs {
            lists: listed.collect(),
            watches: self.watches - before.watches,
            connections: self.connections - before.connections,
        }
    }
}
