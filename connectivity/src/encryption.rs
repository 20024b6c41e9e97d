//! What agents counted as encrypted and as clear text, before and after: pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::report::Outcome;

/// What the agent of a node said at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// It does not encrypt.
    Off,
    /// What went to other nodes until now.
    Counted(Vec<Row>),
    /// It could not be asked.
    Failed(String),
}

/// What went to one node by one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    node: String,
    path: String,
    kind: String,
    packets: u64,
    bytes: u64,
    reason: String,
}

const ENCRYPTED: &str = "TRAFFIC_KIND_ENCRYPTED";
const CLEAR: &str = "TRAFFIC_KIND_CLEAR_PODS";

/// Whether `weir encrypt status -o json` says that the agent encrypts.
pub fn is_on(status: &str) -> Result<bool, String> {
    let status: Value = serde_json::from_str(status).map_err(|error| error.to_string())?;
    Ok(status["enabled"] == true)
}

impl Snapshot {
    /// Reads what `weir encrypt report -o json` printed.
    pub fn parse(report: &str) -> Self {
        let report: Value = match serde_json::from_str(report) {
            Ok(report) => report,
            Err(error) => return Self::Failed(error.to_string()),
        };
        let rows = report["rows"].as_array().into_iter().flatten();
        Self::Counted(rows.map(Row::read).collect())
    }
}

impl Row {
    fn read(row: &Value) -> Self {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        // 64-bit numbers are texts in the JSON of protobuf.
        let number = |key: &str| text(key).parse().unwrap_or(0);
        Self {
            node: text("node"),
            path: text("path"),
            kind: text("kind"),
            packets: number("packets"),
            bytes: number("bytes"),
            reason: text("reason"),
        }
    }
}

/// What is to be said of a node, which `crossed` if pods there talked to pods of other nodes.
pub fn judge(before: &Snapshot, after: &Snapshot, crossed: bool) -> Outcome {
    let skipped = |why: &str| Outcome::Skipped {
        why: why.to_owned(),
    };
    let (before, after) = match (before, after) {
        (Snapshot::Failed(why), _) | (_, Snapshot::Failed(why)) => {
            return Outcome::failed(why.clone());
        }
        (Snapshot::Off, _) | (_, Snapshot::Off) => {
            return skipped("its agent does not encrypt (encryption.enabled)");
        }
        (Snapshot::Counted(before), Snapshot::Counted(after)) => (before, after),
    };
    let grown = growth(before, after);
    let clear: Vec<_> = grown.iter().filter(|row| row.kind == CLEAR).collect();
    if !clear.is_empty() {
        let told = clear.iter().map(|row| {
            let Row {
                packets,
                path,
                reason,
                ..
            } = row;
            let node = if row.node.is_empty() {
                "no known node"
            } else {
                &row.node
            };
            format!("{packets} packets to {node} in clear text ({path}: {reason})")
        });
        return Outcome::failed(told.collect::<Vec<_>>().join("; "));
    }
    let encrypted = grown
        .iter()
        .filter(|row| row.kind == ENCRYPTED && !row.node.is_empty());
    let bytes: u64 = encrypted.map(|row| row.bytes).sum();
    match (bytes, crossed) {
        (0, true) => Outcome::failed(
            "pods talked to pods of other nodes, and the agent counted nothing as encrypted"
                .to_owned(),
        ),
        (0, false) => skipped("no pod here talked to a pod of another node"),
        (bytes, _) => Outcome::Passed {
            note: format!("{bytes} bytes encrypted, none in clear text"),
        },
    }
}

/// Rows that grew, with what was added. What was forgotten in between counts from zero.
fn growth(before: &[Row], after: &[Row]) -> Vec<Row> {
    let known: BTreeMap<_, _> = before
        .iter()
        .map(|row| ((&row.node, &row.path), row))
        .collect();
    let grown = after.iter().map(|row| {
        let mut row = row.clone();
        if let Some(old) = known.get(&(&row.node, &row.path))
            && old.packets <= row.packets
        {
            row.packets -= old.packets;
            row.bytes = row.bytes.saturating_sub(old.bytes);
        }
        row
    });
    grown.filter(|row| row.packets > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn snapshot(rows: &[(&str, &str, u64)]) -> Snapshot {
        let rows = rows.iter().map(|(node, kind, packets)| {
            json!({
                "node": node, "path": kind.to_lowercase(), "kind": format!("TRAFFIC_KIND_{kind}"),
                "packets": packets.to_string(), "bytes": (packets * 100).to_string(),
                "reason": "because",
            })
        });
        let rows: Vec<_> = rows.collect();
        Snapshot::parse(&json!({ "rows": rows }).to_string())
    }

    fn told(outcome: &Outcome) -> String {
        match outcome {
            Outcome::Passed { note } => format!("passed: {note}"),
            Outcome::Failed { why, .. } => format!("failed: {why}"),
            Outcome::Skipped { why } => format!("skipped: {why}"),
        }
    }

    #[test]
    fn only_what_was_added_counts() {
        let old = snapshot(&[("b", "ENCRYPTED", 5), ("b", "CLEAR_PODS", 7)]);
        let more = snapshot(&[
            ("b", "ENCRYPTED", 9),
            ("b", "CLEAR_PODS", 7),
            ("b", "CLEAR_NODE", 1),
        ]);
        let leak = snapshot(&[("b", "ENCRYPTED", 9), ("b", "CLEAR_PODS", 8)]);
        let cases = [
            (
                &old,
                &more,
                true,
                "passed: 400 bytes encrypted, none in clear text",
            ),
            (
                &old,
                &leak,
                true,
                "failed: 1 packets to b in clear text (clear_pods: because)",
            ),
            (
                &old,
                &old,
                false,
                "skipped: no pod here talked to a pod of another node",
            ),
        ];
        for (before, after, crossed, expected) in cases {
            assert_eq!(told(&judge(before, after, crossed)), expected);
        }
        assert!(told(&judge(&old, &old, true)).starts_with("failed: pods talked"));
        // Maps that were made anew in between count from zero.
        let anew = snapshot(&[("b", "ENCRYPTED", 2)]);
        let passed = "passed: 200 bytes encrypted, none in clear text";
        assert_eq!(told(&judge(&old, &anew, true)), passed);
    }

    #[test]
    fn off_is_no_failure_and_silence_is() {
        let some = snapshot(&[("b", "ENCRYPTED", 5)]);
        assert!(told(&judge(&Snapshot::Off, &some, true)).starts_with("skipped: "));
        let silent = Snapshot::Failed("no agent".into());
        assert_eq!(told(&judge(&some, &silent, true)), "failed: no agent");
        assert!(matches!(Snapshot::parse("?"), Snapshot::Failed(_)));
    }

    #[test]
    fn the_status_says_whether_it_is_on() {
        assert_eq!(is_on("{\"enabled\":true}"), Ok(true));
        assert_eq!(is_on("{\"enabled\":false}"), Ok(false));
        assert!(is_on("").is_err());
    }
}
