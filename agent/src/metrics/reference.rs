//! The reference page.

use super::table::{self, Kind, Metric};

const HEAD: &str = "\
# Metrics

Served at `http://127.0.0.1:9965/metrics` (`metrics.listen`), read at most once a second, in the text
form of OpenMetrics. This page comes from the agent itself: `weir-agent metrics`.";

/// The page, in Markdown.
pub fn page() -> String {
    let mut lines = vec![HEAD.to_owned()];
    let mut last = "";
    for (part, metric) in table::all() {
        if part != last {
            let head = "| metric | kind | labels | tells |\n| --- | --- | --- | --- |";
            lines.push(format!("\n## {part}\n\n{head}"));
            last = part;
        }
        lines.push(row(metric));
    }
    lines.join("\n") + "\n"
}

fn row(metric: &Metric) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    let labels: Vec<_> = metric
        .labels
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    format!(
        "| `{}` | {kind} | {} | {} |",
        metric.full_name(),
        labels.join(", "),
        metric.help
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_repository_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metrics.md");
        let present = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            present == page(),
            "cargo run -p weir-agent -- metrics > docs/reference/metrics.md"
        );
    }
}
