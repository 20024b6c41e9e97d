//! `weir encrypt report`: did anything leave in clear text?

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::SignedDuration;
use weir_proto::admin::admin_client::AdminClient;
use weir_proto::admin::{
    EncryptionReportRequest, EncryptionReportResponse, TrafficKind, TrafficRow,
};

use super::size;
use crate::args::{Form, OutputArgs};
use crate::connect::Server;
use crate::failure::Failure;
use crate::json;
use crate::output::{Columns, Hue, Paint};

/// What to report, and when to fail.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// End with exit code 6 if anything left in clear text: of pods, or with `=any` also of the
    /// nodes themselves
    #[arg(
        long,
        value_name = "WHAT",
        num_args = 0..=1,
        default_missing_value = "pods",
        require_equals = true
    )]
    fail_on_clear: Option<Clear>,

    /// Report only what goes out in the time that follows: `10s`, `5m`
    #[arg(long, value_name = "TIME", value_parser = span)]
    during: Option<Duration>,

    #[command(flatten)]
    output: OutputArgs,
}

/// What must not be in clear text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Clear {
    /// What was, or may have been, a pod's
    Pods,
    /// That, and what nodes say to each other
    Any,
}

fn span(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok();
    parsed
        .and_then(|span| Duration::try_from(span).ok())
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "use a time such as 10s or 5m".to_owned())
}

pub(super) async fn run(
    server: &Server,
    args: &ReportArgs,
    paint: Paint,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let mut client = server.admin().await?;
    let mut report = ask(&mut client).await?;
    if let Some(span) = args.during {
        tokio::time::sleep(span).await;
        report = growth(&report, ask(&mut client).await?);
    }
    match args.output.output {
        Form::Json => {
            json::write_line("weir.admin.v1.EncryptionReportResponse", &report, true, out)?;
        }
        Form::Text => show(&report, paint, out)?,
    }
    verdict(&report, args.fail_on_clear)
}

async fn ask(
    client: &mut AdminClient<tonic::transport::Channel>,
) -> Result<EncryptionReportResponse, Failure> {
    let answer = client.encryption_report(EncryptionReportRequest {}).await?;
    Ok(answer.into_inner())
}

/// What was counted between two reports. What a node had counted that was forgotten since counts
/// from zero.
fn growth(
    before: &EncryptionReportResponse,
    mut after: EncryptionReportResponse,
) -> EncryptionReportResponse {
    let known: BTreeMap<_, _> = before
        .rows
        .iter()
        .map(|row| ((&row.node, &row.path), row))
        .collect();
    for row in &mut after.rows {
        if let Some(known) = known.get(&(&row.node, &row.path))
            && known.packets <= row.packets
        {
            row.packets -= known.packets;
            row.bytes = row.bytes.saturating_sub(known.bytes);
        }
    }
    after.rows.retain(|row| row.packets > 0);
    after.unaccounted_packets = after
        .unaccounted_packets
        .saturating_sub(before.unaccounted_packets);
    after
}

fn verdict(report: &EncryptionReportResponse, fail_on: Option<Clear>) -> Result<(), Failure> {
    let mut clear = Sum::of(report, TrafficKind::ClearPods);
    match fail_on {
        None => return Ok(()),
        Some(Clear::Pods) => {}
        Some(Clear::Any) => clear.add(&Sum::of(report, TrafficKind::ClearNode)),
    }
    let mut reasons = Vec::new();
    if clear.packets > 0 {
        reasons.push(format!("{} left in clear text", clear.text()));
    }
    if report.unaccounted_packets > 0 {
        reasons.push(unaccounted(report));
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(Failure::ClearText(reasons.join("; ")))
}

/// What has no row.
fn unaccounted(report: &EncryptionReportResponse) -> String {
    format!(
        "{} packets that left in clear text could not be accounted for",
        report.unaccounted_packets
    )
}

/// Packets and bytes, and the nodes they went to.
#[derive(Default)]
struct Sum {
    packets: u64,
    bytes: u64,
    nodes: BTreeSet<String>,
}

impl Sum {
    fn of(report: &EncryptionReportResponse, kind: TrafficKind) -> Self {
        let mut sum = Self::default();
        for row in report.rows.iter().filter(|row| row.kind() == kind) {
            sum.packets += row.packets;
            sum.bytes += row.bytes;
            // The device itself asks for routers and groups by multicast, which is no node's.
            let nobodys = kind == TrafficKind::Encrypted && row.node.is_empty();
            if row.packets > 0 && !nobodys {
                sum.nodes.insert(node_name(row).to_owned());
            }
        }
        sum
    }

    fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.nodes.extend(other.nodes.iter().cloned());
    }

    fn text(&self) -> String {
        format!("{} packets ({})", self.packets, size(self.bytes))
    }
}

/// The first line: what a person wants to know.
fn sentence(report: &EncryptionReportResponse, paint: Paint) -> String {
    let sum = |kind| Sum::of(report, kind);
    let (encrypted, dropped) = (sum(TrafficKind::Encrypted), sum(TrafficKind::Dropped));
    let (pods, own) = (sum(TrafficKind::ClearPods), sum(TrafficKind::ClearNode));
    let mut sentences = Vec::new();
    if pods.packets > 0 {
        let nodes: Vec<_> = pods.nodes.iter().map(String::as_str).collect();
        let (what, nodes) = (pods.text(), nodes.join(", "));
        let text = format!("IN CLEAR TEXT: {what} of pods went to {nodes}.");
        sentences.push(paint.paint(Hue::Red, &text));
    } else if report.unaccounted_packets > 0 {
        // Said below; nothing good can be said.
    } else if own.packets > 0 {
        sentences.push(paint.paint(Hue::Green, "Nothing of pods left in clear text."));
        sentences.push(format!("Of the nodes themselves, {} did.", own.text()));
    } else if encrypted.packets + dropped.packets == 0 {
        return "Nothing has gone to other nodes.".to_owned();
    } else {
        sentences.push(paint.paint(Hue::Green, "Nothing left in clear text."));
    }
    if encrypted.packets > 0 {
        let (what, nodes) = (encrypted.text(), encrypted.nodes.len());
        sentences.push(format!("{what} left encrypted, to {nodes} nodes."));
    }
    if dropped.packets > 0 {
        let what = dropped.text();
        sentences.push(format!(
            "{what} that would have left in clear text were dropped."
        ));
    }
    if report.unaccounted_packets > 0 {
        sentences.push(paint.paint(Hue::Red, &format!("{}.", unaccounted(report))));
    }
    sentences.join(" ")
}

fn show(report: &EncryptionReportResponse, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", sentence(report, paint))?;
    if report.rows.is_empty() {
        return Ok(());
    }
    let mut columns = Columns::new(&["NODE", "PATH", "PACKETS", "BYTES", "WHY NOT ENCRYPTED"]);
    for row in &report.rows {
        let reason = match row.reason.as_str() {
            "" => "-",
            reason => reason,
        };
        columns.row([
            node_name(row).to_owned(),
            row.path.clone(),
            row.packets.to_string(),
            size(row.bytes),
            reason.to_owned(),
        ]);
    }
    columns.write("", out)
}

/// Addresses that no Node object has: in a range that strict mode was told of.
fn node_name(row: &TrafficRow) -> &str {
    match row.node.as_str() {
        "" => "(no known node)",
        node => node,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(node: &str, path: &str, kind: TrafficKind, packets: u64, reason: &str) -> TrafficRow {
        TrafficRow {
            node: node.into(),
            path: path.into(),
            kind: kind.into(),
            packets,
            bytes: packets * 100,
            reason: reason.into(),
        }
    }

    fn report(rows: &[TrafficRow]) -> EncryptionReportResponse {
        EncryptionReportResponse {
            rows: rows.to_vec(),
            ..EncryptionReportResponse::default()
        }
    }

    fn encrypted() -> TrafficRow {
        row("node-2", "encrypted", TrafficKind::Encrypted, 50, "")
    }

    fn clear() -> TrafficRow {
        let reason = "strict mode is off";
        row(
            "node-3",
            "clear_not_strict",
            TrafficKind::ClearPods,
            3,
            reason,
        )
    }

    fn own() -> TrafficRow {
        row("node-2", "clear_node", TrafficKind::ClearNode, 7, "own")
    }

    fn dropped() -> TrafficRow {
        row("", "dropped", TrafficKind::Dropped, 2, "would")
    }

    #[test]
    fn the_first_line_says_it_in_words() {
        let said = |rows: &[TrafficRow]| sentence(&report(rows), Paint::new(false));
        assert_eq!(said(&[]), "Nothing has gone to other nodes.");
        assert_eq!(
            said(&[encrypted()]),
            "Nothing left in clear text. 50 packets (4.9 KiB) left encrypted, to 1 nodes."
        );
        assert_eq!(
            said(&[own(), dropped()]),
            "Nothing of pods left in clear text. Of the nodes themselves, 7 packets (700 B) did. \
             2 packets (200 B) that would have left in clear text were dropped."
        );
        assert_eq!(
            said(&[clear(), own()]),
            "IN CLEAR TEXT: 3 packets (300 B) of pods went to node-3."
        );
    }

    #[test]
    fn a_row_per_node_and_path() {
        let mut out = Vec::new();
        show(
            &report(&[encrypted(), dropped()]),
            Paint::new(false),
            &mut out,
        )
        .unwrap();
        let text = String::from_utf8(out).unwrap();
        let rows: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            rows,
            [
                "NODE              PATH        PACKETS   BYTES     WHY NOT ENCRYPTED",
                "node-2            encrypted   50        4.9 KiB   -",
                "(no known node)   dropped     2         200 B     would",
            ]
        );
    }

    #[test]
    fn scripts_fail_on_what_they_ask_for() {
        let code = |rows: &[TrafficRow], what| {
            verdict(&report(rows), what).map_or_else(|failure| failure.exit_code(), |()| 0)
        };
        assert_eq!(code(&[clear()], None), 0);
        assert_eq!(code(&[encrypted(), own(), dropped()], Some(Clear::Pods)), 0);
        assert_eq!(code(&[own()], Some(Clear::Any)), 6);
        assert_eq!(code(&[clear()], Some(Clear::Pods)), 6);
    }

    #[test]
    fn what_has_no_row_left_in_clear_text_too() {
        let mut full = report(&[encrypted()]);
        full.unaccounted_packets = 5;
        assert!(sentence(&full, Paint::new(false)).contains("5 packets that left in clear text"));
        assert!(!sentence(&full, Paint::new(false)).contains("Nothing"));
        let code = |what| verdict(&full, what).map_or_else(|failure| failure.exit_code(), |()| 0);
        assert_eq!(code(Some(Clear::Pods)), 6);
        assert_eq!(code(None), 0);
        assert_eq!(growth(&full, full.clone()).unaccounted_packets, 0);
    }

    #[test]
    fn only_what_was_counted_meanwhile_is_growth() {
        let mut more = encrypted();
        (more.packets, more.bytes) = (60, 9_000);
        let mut restarted = own();
        (restarted.packets, restarted.bytes) = (1, 40);
        let after = report(&[more, restarted, clear(), dropped()]);
        let grown = growth(&report(&[encrypted(), own(), dropped()]), after);
        let rows: Vec<_> = grown
            .rows
            .iter()
            .map(|row| (row.path.as_str(), row.packets, row.bytes))
            .collect();
        assert_eq!(
            rows,
            [
                ("encrypted", 10, 4_000),
                ("clear_node", 1, 40),
                ("clear_not_strict", 3, 300),
            ]
        );
    }

    #[test]
    fn times_are_positive() {
        assert_eq!(span("5m"), Ok(Duration::from_mins(5)));
        for bad in ["", "0s", "-3s", "soon"] {
            span(bad).unwrap_err();
        }
    }
}
