//! The licences of everything that is compiled in: their texts as the packages carry them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::graph::{Graph, Package};

/// Beginnings of the names of files that say what may be done with a package.
const NAMES: [&str; 4] = ["license", "licence", "copying", "notice"];

/// One text for all.
pub fn of(graph: &Graph) -> anyhow::Result<String> {
    let mut text = String::from(
        "Weir is made of its own packages and of those below. Each is under its own licence; where a\n\
         package brings no text, the name of its licence in the SPDX list is all there is.\n",
    );
    for package in graph.foreign() {
        let Package { name, version, .. } = package;
        let license = package.license.as_deref();
        let license = license.with_context(|| format!("{name} {version} names no licence"))?;
        let line = "=".repeat(80);
        write!(text, "\n{line}\n{name} {version}: {license}\n")?;
        for file in files(package)? {
            let lossy = String::from_utf8_lossy(&fs::read(&file)?).into_owned();
            let file = file.file_name().unwrap_or_default().display();
            write!(text, "\n--- {file}\n\n{}\n", lossy.trim_end())?;
        }
    }
    Ok(text)
}

fn files(package: &Package) -> anyhow::Result<Vec<PathBuf>> {
    let folder = package.manifest_path.parent().unwrap_or(Path::new("/"));
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if entry.file_type()?.is_file() && NAMES.iter().any(|it| name.starts_with(it)) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::graph::tests::small;

    #[test]
    fn texts_of_all_packages_of_others_are_there() {
        let folder = tempfile::tempdir().unwrap();
        for (package, file, text) in [
            ("a", "LICENSE-MIT", "Copyright of a"),
            ("a", "README.md", "not a licence"),
            ("b", "NOTICE", "Notice of b"),
        ] {
            fs::create_dir_all(folder.path().join(package)).unwrap();
            fs::write(folder.path().join(package).join(file), text).unwrap();
        }
        let text = of(&small(folder.path())).unwrap();
        for part in [
            "a 1.2.3: MIT OR Apache-2.0",
            "Copyright of a",
            "b 1.2.3",
            "Notice of b",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("agent") && !text.contains("not a licence"));
    }
}
