//! Asks agents for flows until all connections are shown.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::made::Made;
use super::{OVERHEAD, Suite, told};
use crate::check::Check;
use crate::flows::{self, Connection, Failure, Seen};
use crate::inventory::Node;
use crate::place::{Place, Spot};
use crate::report::{CaseResult, Outcome};

/// How long flows may take from the kernel to whoever asks, on a busy node.
const FLOWS_DEADLINE: Duration = Duration::from_secs(10);
/// How long flows of what failed are waited for: there may be none.
const FAILURE_DEADLINE: Duration = Duration::from_secs(2);
/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(200);

impl<P: Place> Suite<'_, P> {
    /// Asks the agents what they saw since `start`: of what was made, for the check of flows, and of
    /// what failed, for whoever looks into it.
    pub(super) async fn watch(
        &self,
        check: Check,
        start: Instant,
        made: &mut Made,
        results: &mut [CaseResult],
    ) {
        let asked = Instant::now();
        // Flows are found by address: names that cannot be looked up have none.
        let agents = self.agents().filter(|_| !made.addresses.is_empty());
        for node in agents.collect::<Vec<_>>() {
            let mut wanted = made.seen.remove(&node.name).unwrap_or_default();
            if !self.settings.selection.has(Check::Flows) {
                wanted.clear();
            }
            if wanted.is_empty() && made.failures.is_empty() {
                continue;
            }
            let seen = self.await_flows(node, start, &wanted, made).await;
            attach(results, &made.failures, node, &seen);
            if !wanted.is_empty() {
                made.shown.push(CaseResult {
                    check: Check::Flows,
                    from: node.name.clone(),
                    to: format!("of {}", check.name()),
                    how: "-".to_owned(),
                    millis: asked.elapsed().as_secs_f64() * 1e3,
                    outcome: judge(&wanted, &seen),
                });
            }
        }
    }

    async fn await_flows(
        &self,
        node: &Node,
        start: Instant,
        wanted: &[Connection],
        made: &Made,
    ) -> Result<Seen, String> {
        let asked = Instant::now();
        loop {
            let words = flows::arguments(start.elapsed(), &made.addresses);
            let ran = self
                .place
                .run(Spot::Agent(node), &words, &[], OVERHEAD)
                .await;
            let ran = ran.map_err(|error| told(&error))?;
            let seen = Seen::parse(&ran.stdout);
            let seen = seen.map_err(|error| format!("{}: its flows: {error}", node.name))?;
            let mut failures = made.failures.values();
            let has_all = missing(wanted, &seen).is_empty();
            let tells_all = failures.all(|failure| !failure.flows(&seen).is_empty());
            let passed = asked.elapsed();
            let enough = has_all && (tells_all || passed > FAILURE_DEADLINE);
            if enough || passed > FLOWS_DEADLINE {
                return Ok(seen);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn missing<'a>(wanted: &'a [Connection], seen: &Seen) -> Vec<&'a Connection> {
    let by_end = seen.by_end();
    let is_shown = |one: &&Connection| {
        let mut flows = by_end.get(&one.client).into_iter().flatten();
        flows.any(|flow| one.is_shown_by(flow))
    };
    wanted.iter().filter(|one| !is_shown(one)).collect()
}

/// Gives results that failed the flows that tell of them.
fn attach(
    results: &mut [CaseResult],
    failures: &BTreeMap<usize, Failure>,
    node: &Node,
    seen: &Result<Seen, String>,
) {
    for (index, failure) in failures {
        let Some(Outcome::Failed { flows, silent, .. }) =
            results.get_mut(*index).map(|result| &mut result.outcome)
        else {
            continue;
        };
        match seen {
            Ok(seen) => flows.extend(failure.flows(seen).into_iter().cloned()),
            Err(why) => silent.push(format!("{}: {why}", node.name)),
        }
    }
}

fn judge(wanted: &[Connection], seen: &Result<Seen, String>) -> Outcome {
    let seen = match seen {
        Ok(seen) => seen,
        Err(why) => return Outcome::failed(why.clone()),
    };
    let missing = missing(wanted, seen);
    let all = wanted.len();
    let Some(first) = missing.first() else {
        return Outcome::Passed {
            note: format!("{all} connections"),
        };
    };
    let pod = |pod: &Option<String>| pod.clone().unwrap_or_else(|| "whatever it is".to_owned());
    let (client, server) = (pod(&first.client_pod), pod(&first.server_pod));
    let lost = match seen.lost {
        0 => String::new(),
        lost => format!("; the agent says that {lost} events were lost"),
    };
    Outcome::failed(format!(
        "{} of {all} connections are not shown as FORWARDED with their pods, such as that of {} \
         ({client}) to {server}{lost}",
        missing.len(),
        first.client,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::Flow;
    use serde_json::json;

    fn seen(lost: u64) -> Seen {
        let flow = json!({
            "verdict": "FORWARDED",
            "IP": { "source": "10.0.0.9", "destination": "10.0.0.1" },
            "l4": { "UDP": { "source_port": 4000, "destination_port": 8080 } },
            "source": { "namespace": "shop", "pod_name": "a" },
            "destination": { "namespace": "shop", "pod_name": "b" },
        });
        Seen {
            flows: vec![Flow(flow)],
            lost,
        }
    }

    fn connection(client: &str) -> Connection {
        Connection {
            client: client.parse().unwrap(),
            client_pod: Some("shop/a".into()),
            server_pod: Some("shop/b".into()),
        }
    }

    #[test]
    fn what_is_not_shown_is_named_with_what_was_lost() {
        let one = connection("10.0.0.9:4000");
        let passed = judge(std::slice::from_ref(&one), &Ok(seen(7)));
        assert_eq!(
            passed,
            Outcome::Passed {
                note: "1 connections".into()
            }
        );
        let other = connection("10.0.0.9:4001");
        let Outcome::Failed { why, .. } = judge(&[one, other], &Ok(seen(7))) else {
            panic!("it passed")
        };
        assert!(why.starts_with("1 of 2 connections are not shown"), "{why}");
        assert!(
            why.contains("10.0.0.9:4001 (shop/a) to shop/b; the agent says that 7"),
            "{why}"
        );
    }

    #[test]
    fn an_agent_that_cannot_be_asked_is_a_failure() {
        let result = judge(&[connection("[::1]:1")], &Err("no agent".into()));
        assert_eq!(result, Outcome::failed("no agent".into()));
    }
}
