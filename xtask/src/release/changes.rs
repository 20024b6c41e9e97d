//! The section of the change log that a version has.

use std::fs;

use anyhow::Context as _;

use crate::workspace::Workspace;

/// What operators are told of a version.
#[derive(Debug, PartialEq, Eq)]
pub struct Changes {
    /// The section, without its heading's date and links.
    pub text: String,
    /// Why it may not be the right one.
    pub doubt: Option<String>,
}

/// Reads `CHANGELOG.md`.
pub fn read(workspace: &Workspace, version: &str) -> anyhow::Result<Changes> {
    let path = workspace.root.join("CHANGELOG.md");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    of(&text, version)
}

fn of(log: &str, version: &str) -> anyhow::Result<Changes> {
    if let Some(text) = section(log, version) {
        return Ok(Changes { text, doubt: None });
    }
    let text = section(log, "Unreleased");
    let text =
        text.with_context(|| format!("CHANGELOG.md tells of neither {version} nor Unreleased"))?;
    let doubt = format!("CHANGELOG.md has no section {version} yet; this is what is unreleased");
    Ok(Changes {
        text,
        doubt: Some(doubt),
    })
}

/// From a heading `## [NAME]` to the next one.
fn section(log: &str, name: &str) -> Option<String> {
    let heading = format!("## [{name}]");
    let mut lines = log.lines().skip_while(|line| !line.starts_with(&heading));
    lines.next()?;
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with("## ")).collect();
    Some(format!("# Weir {name}\n\n{}\n", lines.join("\n").trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "# Changes\n\n## [Unreleased]\n\n### Added\n\n- New.\n\n\
                       ## [1.2.0] - 2026-01-02\n\n### Fixed\n\n- Old.\n\n## [1.1.0]\n\n- Oldest.\n";

    #[test]
    fn the_section_of_the_version_is_taken() {
        let released = of(LOG, "1.2.0").unwrap();
        assert_eq!(released.text, "# Weir 1.2.0\n\n### Fixed\n\n- Old.\n");
        assert_eq!(released.doubt, None);
        let last = of(LOG, "1.1.0").unwrap();
        assert_eq!(last.text, "# Weir 1.1.0\n\n- Oldest.\n");
    }

    #[test]
    fn what_is_unreleased_is_taken_with_a_doubt() {
        let next = of(LOG, "1.3.0").unwrap();
        assert_eq!(next.text, "# Weir Unreleased\n\n### Added\n\n- New.\n");
        assert!(next.doubt.unwrap().contains("1.3.0"));
        of("# Changes\n", "1.3.0").unwrap_err();
    }
}
