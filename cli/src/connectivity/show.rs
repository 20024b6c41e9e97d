//! What came of the checks, for people: a table, then what failed with the flows of it.

use std::io::{self, Write};

use weir_connectivity::flows::Flow;
use weir_connectivity::{CaseResult, Group, Outcome, Report};
use weir_proto::observer::GetFlowsResponse;
use weir_proto::observer::get_flows_response::ResponseTypes;

use crate::json;
use crate::output::{Columns, Compact, Hue, Paint, Style};

pub(super) fn write(report: &Report, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let mut columns = Columns::new(&["CHECK", "FROM", "TO", "HOW", "TIME", "RESULT"]);
    for group in report.groups() {
        columns.row(row(&group, paint));
    }
    columns.write("", out)?;
    for failure in report.failures() {
        writeln!(out)?;
        write_failure(failure, paint, out)?;
    }
    let [passed, failed, skipped] = report.counts();
    let failed = match failed {
        0 => "0 failed".to_owned(),
        failed => paint.paint(Hue::Red, &format!("{failed} failed")),
    };
    writeln!(out, "\n{passed} passed, {failed}, {skipped} skipped")
}

fn row(group: &Group<'_>, paint: Paint) -> [String; 6] {
    let first = group.results[0];
    [
        first.check.name(),
        first.from.clone(),
        first.to.clone(),
        how(group),
        time(group.millis()),
        // The last column: colours do not count for its width.
        result(group, paint),
    ]
}

/// Protocols, then families, each once.
fn how(group: &Group<'_>) -> String {
    let mut words = Vec::new();
    for index in 0..2 {
        for result in &group.results {
            if let Some(word) = result.how.split(' ').nth(index)
                && !words.contains(&word)
            {
                words.push(word);
            }
        }
    }
    words.join(" ")
}

fn time(millis: f64) -> String {
    match millis {
        0.0 => "-".to_owned(),
        millis if millis < 1000.0 => format!("{millis:.0} ms"),
        millis => format!("{:.1} s", millis / 1000.0),
    }
}

fn result(group: &Group<'_>, paint: Paint) -> String {
    let all = group.results.len();
    match (group.failed(), &group.results[0].outcome) {
        (0, Outcome::Skipped { why }) => paint.paint(Hue::Yellow, &format!("skipped: {why}")),
        (0, Outcome::Passed { note }) if all == 1 => {
            format!("{} ({note})", paint.paint(Hue::Green, "ok"))
        }
        (0, _) => paint.paint(Hue::Green, "ok"),
        (_, _) if all == 1 => paint.paint(Hue::Red, "FAILED"),
        (failed, _) => paint.paint(Hue::Red, &format!("FAILED, {failed} of {all}")),
    }
}

fn write_failure(failure: &CaseResult, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let Outcome::Failed { why, flows, silent } = &failure.outcome else {
        return Ok(());
    };
    let CaseResult { from, to, how, .. } = failure;
    let name = paint.paint(Hue::Red, &failure.check.name());
    let how = if how == "-" {
        String::new()
    } else {
        format!(", {how}")
    };
    writeln!(out, "{name}: {from} to {to}{how}")?;
    writeln!(out, "  {why}")?;
    let style = Style {
        paint,
        numeric: false,
        node_name: true,
    };
    let compact = Compact::new(style);
    for flow in flows {
        write!(out, "  ")?;
        match answer(flow) {
            Ok(answer) => compact.write(&answer, out)?,
            // An agent of another version may say more than is known here.
            Err(_) => writeln!(out, "{}", flow.0)?,
        }
    }
    for one in silent {
        writeln!(out, "  no flows of {one}")?;
    }
    if flows.is_empty() && silent.is_empty() && failure.check.has_flows() {
        writeln!(out, "  no agent saw a flow of it")?;
    }
    Ok(())
}

fn answer(flow: &Flow) -> anyhow::Result<GetFlowsResponse> {
    let flow: weir_proto::flow::Flow = json::read("flow.Flow", &flow.0)?;
    Ok(GetFlowsResponse {
        response_types: Some(ResponseTypes::Flow(flow)),
        ..GetFlowsResponse::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use weir_connectivity::Check;

    fn result(check: Check, to: &str, how: &str, outcome: Outcome) -> CaseResult {
        CaseResult {
            check,
            from: "client-1".into(),
            to: to.into(),
            how: how.into(),
            millis: 1.25,
            outcome,
        }
    }

    fn passed(note: &str) -> Outcome {
        Outcome::Passed { note: note.into() }
    }

    fn shown(results: Vec<CaseResult>) -> String {
        let mut out = Vec::new();
        write(&Report { results }, Paint::new(false), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_row_per_pair_and_what_failed_with_its_flows() {
        let flow = json!({
            "time": "2026-01-31T12:00:00.5Z",
            "verdict": "DROPPED",
            "node_name": "node1",
            "IP": { "source": "10.0.0.9", "destination": "10.0.0.1", "ipVersion": "IPv4" },
            "l4": { "TCP": { "source_port": 4000, "destination_port": 8080 } },
            "source": { "namespace": "shop", "pod_name": "client-1" },
            "destination": { "namespace": "shop", "pod_name": "server-2" },
            "Summary": "TCP Flags: SYN",
        });
        let failed = Outcome::Failed {
            why: "no answer within 5s".into(),
            flows: vec![Flow(flow)],
            silent: vec!["node2: no agent".into()],
        };
        let text = shown(vec![
            result(
                Check::PodToPod,
                "server-1 (same node)",
                "TCP IPv4",
                passed("3 connections"),
            ),
            result(
                Check::PodToPod,
                "server-1 (same node)",
                "UDP IPv6",
                passed("3 connections"),
            ),
            result(Check::PodToPod, "server-2 (other node)", "TCP IPv4", failed),
            result(
                Check::Dns,
                "-",
                "-",
                Outcome::Skipped {
                    why: "no DNS".into(),
                },
            ),
            result(Check::Flows, "of pod-to-pod", "-", passed("6 connections")),
        ]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[..6],
            [
                "CHECK        FROM       TO                      HOW                 TIME   RESULT",
                "pod-to-pod   client-1   server-1 (same node)    TCP UDP IPv4 IPv6   2 ms   ok",
                "pod-to-pod   client-1   server-2 (other node)   TCP IPv4            1 ms   FAILED",
                "dns          client-1   -                       -                   1 ms   skipped: no DNS",
                "flows        client-1   of pod-to-pod           -                   1 ms   ok (6 connections)",
                "",
            ]
        );
        assert_eq!(
            lines[6],
            "pod-to-pod: client-1 to server-2 (other node), TCP IPv4"
        );
        assert_eq!(lines[7], "  no answer within 5s");
        assert!(
            lines[8].starts_with("  Jan 31 12:00:00.500 [node1]: shop/client-1:4000"),
            "{text}"
        );
        assert!(
            lines[8].contains("shop/server-2:8080") && lines[8].contains("DROPPED"),
            "{text}"
        );
        assert_eq!(lines[9], "  no flows of node2: no agent");
        assert_eq!(lines[11], "3 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn a_failure_without_flows_says_so_where_there_could_be_some() {
        let failed = || Outcome::Failed {
            why: "refused".into(),
            flows: Vec::new(),
            silent: Vec::new(),
        };
        let text = shown(vec![
            result(Check::PodToPod, "a", "TCP IPv4", failed()),
            result(Check::PodToPod, "a", "TCP IPv6", passed("3")),
        ]);
        assert!(text.contains("FAILED, 1 of 2"), "{text}");
        assert!(text.contains("no agent saw a flow of it"), "{text}");
        let text = shown(vec![result(
            Check::Encryption,
            "other nodes",
            "-",
            failed(),
        )]);
        assert!(!text.contains("no agent saw"), "{text}");
        assert!(
            text.contains("encryption: client-1 to other nodes\n"),
            "{text}"
        );
    }
}
