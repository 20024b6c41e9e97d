//! Runs the cases of an inventory in a place, and looks at what the agents saw of them.
//!
//! Check by check, so that no agent must remember more than the flows of one: connections are made
//! one after the other, then the agents are asked until they have shown all of them, or time is up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::check::{Check, Selection};
use crate::encryption::{self, Snapshot};
use crate::expect::judge;
use crate::inventory::{Inventory, Node};
use crate::place::{Place, Spot, Unreachable};
use crate::plan::{Case, plan};
use crate::probe;
use crate::report::{CaseResult, Outcome, Report};

mod made;
mod watch;

use made::Made;

/// What a command may take beyond what it does: entering pods, starting.
const OVERHEAD: Duration = Duration::from_secs(20);
/// Exit code of `weir encrypt status` when something is amiss: the answer is there all the same.
const DEGRADED: i32 = 5;

/// How to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which checks.
    pub selection: Selection,
    /// Limit of each connection.
    pub timeout: Duration,
}

/// A run to be.
pub struct Suite<'a, P> {
    place: &'a P,
    inventory: &'a Inventory,
    settings: &'a Settings,
    progress: &'a dyn Fn(&str),
}

impl<'a, P: Place> Suite<'a, P> {
    /// A run in this place; `progress` is told what is being done.
    pub fn new(
        place: &'a P,
        inventory: &'a Inventory,
        settings: &'a Settings,
        progress: &'a dyn Fn(&str),
    ) -> Self {
        Self {
            place,
            inventory,
            settings,
            progress,
        }
    }

    /// Makes sure that `weir` can be run wherever it is needed, but for the agents: theirs is a
    /// result.
    pub async fn preflight(&self) -> Result<(), Unreachable> {
        (self.progress)("looking whether weir can be run everywhere");
        let clients = self.inventory.clients.iter().map(Spot::Client);
        let servers = self.inventory.servers.iter();
        let servers = servers
            .filter(|server| server.command.is_some())
            .map(Spot::Server);
        let version = ["--version".to_owned()];
        for spot in clients.chain(servers) {
            self.place.run(spot, &version, &[], OVERHEAD).await?;
        }
        Ok(())
    }

    /// Waits until services answer their clients, or `limit` has passed: for services that were
    /// made a moment ago. What does not answer by then is for the checks to tell.
    pub async fn settle(&self, limit: Duration) {
        (self.progress)("waiting until the services answer");
        let start = Instant::now();
        for check in [Check::PodToService, Check::NodeToService] {
            for mut case in plan(self.inventory, check, 500).cases {
                if let probe::Probe::Tcp(dial) | probe::Probe::Udp(dial) = &mut case.probe {
                    dial.times = 1;
                }
                while start.elapsed() < limit && self.perform(&case).await.1.is_failure() {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// Runs all checks that were chosen.
    pub async fn run(&self) -> Report {
        let mut report = Report::default();
        let selection = &self.settings.selection;
        let before = self.snapshots().await;
        let mut crossed = BTreeSet::new();
        let mut shown = Vec::new();
        for check in selection.active() {
            (self.progress)(&check.name());
            let (results, made) = self.check(check).await;
            report.results.extend(results);
            crossed.extend(made.crossed);
            shown.extend(made.shown);
        }
        if selection.has(Check::Encryption) {
            (self.progress)(&Check::Encryption.name());
            report
                .results
                .extend(self.encryption(&before, &crossed).await);
        }
        if selection.has(Check::Flows) {
            if shown.is_empty() {
                shown.push(skipped(
                    Check::Flows,
                    "-",
                    "no agent was to see a connection",
                ));
            }
            report.results.extend(shown);
        }
        report
    }

    /// Runs the cases of one check.
    async fn check(&self, check: Check) -> (Vec<CaseResult>, Made) {
        let timeout_ms = self.settings.timeout.as_millis();
        let planned = plan(
            self.inventory,
            check,
            u64::try_from(timeout_ms).unwrap_or(u64::MAX),
        );
        let (start, mut results) = (Instant::now(), Vec::new());
        let mut made = Made::default();
        for case in &planned.cases {
            let (report, result) = self.perform(case).await;
            made.add(self.inventory, case, &report, results.len(), &result);
            results.push(result);
        }
        self.watch(check, start, &mut made, &mut results).await;
        let skips = planned.skipped.iter();
        results.extend(skips.map(|(from, why)| skipped(check, from, why)));
        (results, made)
    }

    /// Runs one case.
    async fn perform(&self, case: &Case<'_>) -> (probe::Report, CaseResult) {
        let limit = case.probe.longest() + OVERHEAD;
        let ran = self
            .place
            .run(case.asker, &case.probe.arguments(), &[], limit)
            .await;
        let report = ran.map_err(|error| told(&error)).and_then(|ran| {
            let unclear = |error| format!("{}: the probe's words: {error}", case.asker.name());
            serde_json::from_str::<probe::Report>(&ran.stdout).map_err(unclear)
        });
        let (report, judged) = match report {
            Ok(report) => {
                let judged = judge(&case.expect, &report);
                (report, judged)
            }
            Err(why) => (probe::Report::default(), Err(why)),
        };
        let result = CaseResult {
            check: case.check,
            from: case.asker.name().to_owned(),
            to: case.to.clone(),
            how: case.how.to_owned(),
            millis: report.attempts.iter().map(|attempt| attempt.millis).sum(),
            outcome: match judged {
                Ok(note) => Outcome::Passed { note },
                Err(why) => Outcome::failed(why),
            },
        };
        (report, result)
    }

    /// What all agents have counted until now, if that is wanted.
    async fn snapshots(&self) -> BTreeMap<&'a str, Snapshot> {
        let mut snapshots = BTreeMap::new();
        if self.settings.selection.has(Check::Encryption) {
            for node in self.agents() {
                let snapshot = self.snapshot(node).await;
                snapshots.insert(&*node.name, snapshot.unwrap_or_else(Snapshot::Failed));
            }
        }
        snapshots
    }

    async fn snapshot(&self, node: &Node) -> Result<Snapshot, String> {
        let ask = async |what: &str, accepted: &[i32]| {
            let words = ["encrypt", what, "--output", "json"].map(str::to_owned);
            let ran = self
                .place
                .run(Spot::Agent(node), &words, accepted, OVERHEAD)
                .await;
            ran.map(|ran| ran.stdout).map_err(|error| told(&error))
        };
        if !encryption::is_on(&ask("status", &[DEGRADED]).await?)? {
            return Ok(Snapshot::Off);
        }
        Ok(Snapshot::parse(&ask("report", &[]).await?))
    }

    async fn encryption(
        &self,
        before: &BTreeMap<&'a str, Snapshot>,
        crossed: &BTreeSet<String>,
    ) -> Vec<CaseResult> {
        let after = self.snapshots().await;
        let pairs = before.iter().filter_map(|(node, before)| {
            let after = after.get(node)?;
            Some(CaseResult {
                check: Check::Encryption,
                from: (*node).to_owned(),
                to: "other nodes".to_owned(),
                how: "-".to_owned(),
                millis: 0.0,
                outcome: encryption::judge(before, after, crossed.contains(*node)),
            })
        });
        let mut results: Vec<_> = pairs.collect();
        if results.is_empty() {
            results.push(skipped(
                Check::Encryption,
                "-",
                "the inventory has no agents to ask",
            ));
        }
        results
    }

    fn agents(&self) -> impl Iterator<Item = &'a Node> {
        self.inventory
            .nodes
            .iter()
            .filter(|node| node.agent.is_some())
    }
}

/// An error with its causes.
fn told(error: &Unreachable) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn skipped(check: Check, from: &str, why: &str) -> CaseResult {
    CaseResult {
        check,
        from: from.to_owned(),
        to: "-".to_owned(),
        how: "-".to_owned(),
        millis: 0.0,
        outcome: Outcome::Skipped {
            why: why.to_owned(),
        },
    }
}
