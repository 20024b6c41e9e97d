//! Writes a configuration as a commented YAML file and as the reference page.

use super::catalogue::{flag, variable};
use super::value::Value;
use super::{Config, Section, Visitor};

/// Widest comment line.
const COMMENT_WIDTH: usize = 96;

/// The documentation as one paragraph.
fn paragraph(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first sentence of the documentation, without its full stop.
pub(super) fn first_sentence(doc: &str) -> String {
    let text = paragraph(doc);
    let end = text
        .find(". ")
        .unwrap_or_else(|| text.trim_end_matches('.').len());
    text[..end].to_owned()
}

/// The configuration as YAML, every key with its comment.
pub fn yaml(config: &Config) -> String {
    let mut file = YamlFile { lines: Vec::new() };
    file.comment(
        0,
        "Configuration of weir-agent. Every key is optional; these are the values used.",
    );
    config.clone().visit("", &mut file);
    file.lines.join("\n") + "\n"
}

struct YamlFile {
    lines: Vec<String>,
}

impl YamlFile {
    fn comment(&mut self, depth: usize, doc: &str) {
        let indent = "  ".repeat(depth);
        let mut line = format!("{indent}#");
        for word in doc.split_whitespace() {
            if line.len() + 1 + word.len() > COMMENT_WIDTH {
                self.lines.push(line);
                line = format!("{indent}#");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.lines.push(line);
    }
}

/// Depth and last part of a dotted key.
fn place(path: &str) -> (usize, &str) {
    (
        path.matches('.').count(),
        path.rsplit('.').next().unwrap_or(path),
    )
}

impl Visitor for YamlFile {
    fn section(&mut self, path: &str, doc: &'static str) {
        let (depth, key) = place(path);
        if depth == 0 {
            self.lines.push(String::new());
        }
        self.comment(depth, doc);
        self.lines.push(format!("{}{key}:", "  ".repeat(depth)));
    }

    fn setting(&mut self, path: &str, doc: &'static str, value: &mut dyn Value) {
        let (depth, key) = place(path);
        self.comment(depth, doc);
        self.lines
            .push(format!("{}{key}: {}", "  ".repeat(depth), value.yaml()));
    }
}

/// Head of the reference page.
const REFERENCE_HEAD: &str = "\
# Configuration of the agent

<!-- Written by `weir-agent config --print-reference`; a test compares. Change the doc comments in
     agent/src/config/ instead. -->

The agent takes each setting from the last of these places that has it:

1. the default below,
2. the YAML file given with `--config` or `WEIR_CONFIG`, else `/etc/weir/config.yaml` if it exists,
3. the environment variable,
4. the flag.

`weir-agent config --print-default` prints a commented file to start from, `weir-agent config`
what would be used here and now, and `weir-agent config --check FILE` every mistake in a file. A
key that does not exist is a mistake. Changes take effect when the agent restarts, which disturbs
no connection.
";

/// The reference page, in Markdown.
pub fn reference() -> String {
    let mut page = ReferencePage {
        parts: vec![REFERENCE_HEAD.to_owned()],
    };
    Config::default().visit("", &mut page);
    page.parts.concat()
}

struct ReferencePage {
    parts: Vec<String>,
}

impl Visitor for ReferencePage {
    fn section(&mut self, path: &str, doc: &'static str) {
        self.parts
            .push(format!("\n## `{path}`\n\n{}\n", paragraph(doc)));
    }

    fn setting(&mut self, path: &str, doc: &'static str, value: &mut dyn Value) {
        if self.parts.len() == 1 {
            self.parts.push("\n## At the top\n".into());
        }
        self.parts
            .push(format!("\n### `{path}`\n\n{}\n\n", paragraph(doc)));
        let rows = [
            ("default", format!("`{}`", value.yaml())),
            ("form", value.form()),
            ("variable", format!("`{}`", variable(path))),
            ("flag", format!("`--{}`", flag(path))),
        ];
        self.parts
            .extend(rows.map(|(name, text)| format!("- {name}: {text}\n")));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Loader;
    use crate::config::catalogue::Catalogue;
    use crate::config::environment::tests::Fixed;

    #[test]
    fn the_default_file_has_every_key_and_reads_back_as_the_defaults() {
        let text = yaml(&Config::default());
        let loaded = Loader::new()
            .file_text(Path::new("default.yaml"), &text)
            .finish(&Fixed::default())
            .unwrap();
        // An empty node name becomes the host's.
        let expected = Config {
            node_name: "node-a".into(),
            ..Config::default()
        };
        assert_eq!(loaded.config, expected);
        let written: Vec<_> = loaded.origins.keys().cloned().collect();
        let mut known = Catalogue::of(&mut Config::default()).settings;
        known.sort();
        assert_eq!(written, known, "every key is in the file");
    }

    #[test]
    fn every_key_in_the_default_file_has_a_comment() {
        let text = yaml(&Config::default());
        let lines: Vec<_> = text.lines().collect();
        for pair in lines.windows(2) {
            let is_key = |line: &str| !line.trim_start().starts_with('#') && !line.is_empty();
            assert!(
                !(is_key(pair[0]) && is_key(pair[1])),
                "{} has no comment",
                pair[1]
            );
        }
        assert!(lines.iter().all(|line| line.len() <= 100));
    }

    #[test]
    fn the_reference_page_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/config.md");
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(
            written == reference(),
            "docs/reference/config.md is stale; write it anew with \
             `cargo run -p weir-agent -- config --print-reference > docs/reference/config.md`"
        );
    }

    #[test]
    fn names_of_variables_and_flags_follow_the_key() {
        let cases = [
            ("nodeName", "WEIR_NODE_NAME", "node-name"),
            (
                "flows.reportInterval",
                "WEIR_FLOWS_REPORT_INTERVAL",
                "flows-report-interval",
            ),
            (
                "loadBalancer.connectionsV4",
                "WEIR_LOAD_BALANCER_CONNECTIONS_V4",
                "load-balancer-connections-v4",
            ),
            (
                "loadBalancer.externalClusterIP",
                "WEIR_LOAD_BALANCER_EXTERNAL_CLUSTER_IP",
                "load-balancer-external-cluster-ip",
            ),
        ];
        for (key, variable, flag) in cases {
            assert_eq!(super::variable(key), variable);
            assert_eq!(super::flag(key), flag);
        }
    }
}
