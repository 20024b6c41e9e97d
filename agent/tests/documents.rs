//! The documentation against what it is about: names, numbers, links.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ebpf_abi::{Counter, DropReason};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The first cells of all tables below the heading, without backticks and head rows.
fn first_cells(document: &str, heading: &str) -> Vec<String> {
    let (_, section) = document
        .split_once(&format!("## {heading}\n"))
        .expect("the heading");
    let section = section.split("\n## ").next().expect("the first part");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.map(|row| row.split('|').next().expect("a cell").trim());
    cells
        .filter(|cell| !cell.starts_with("---"))
        .skip(1)
        .map(|it| it.replace('`', ""))
        .collect()
}

#[test]
fn every_counter_is_described_and_no_other() {
    let document = read("docs/reference/counters-and-drop-reasons.md");
    let described: BTreeSet<_> = first_cells(&document, "Counters").into_iter().collect();
    let counted = Counter::ALL
        .iter()
        .map(|(_, name)| (*name).to_owned())
        .collect();
    assert_eq!(described, counted);
}

#[test]
fn every_drop_reason_is_described_and_no_other() {
    let document = read("docs/reference/counters-and-drop-reasons.md");
    let described: BTreeSet<_> = first_cells(&document, "Drop reasons").into_iter().collect();
    let used = DropReason::ALL
        .iter()
        .map(|reason| (*reason as u8).to_string())
        .collect();
    assert_eq!(described, used);
}

#[test]
fn every_map_is_described() {
    let document = read("docs/reference/maps.md");
    let source = read("ebpf-programs/src/maps.rs");
    let names: Vec<_> = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub static "))
        .filter_map(|line| line.split(':').next())
        .map(|name| name.trim_end_matches(['4', '6']))
        .collect();
    assert!(!names.is_empty());
    for name in names {
        let described =
            document.contains(&format!("`{name}`")) || document.contains(&format!("`{name}4/6`"));
        assert!(described, "{name} is not in docs/reference/maps.md");
    }
}

#[test]
fn the_kernel_object_has_one_licence_wherever_it_is_named() {
    let declared = "Dual MIT/GPL";
    for package in ["ebpf-programs/Cargo.toml", "ebpf-abi/Cargo.toml"] {
        let manifest = read(package);
        let licence = "\nlicense = \"MIT OR GPL-2.0-only\"\n";
        assert!(manifest.contains(licence), "{package}");
    }
    assert!(read("ebpf-programs/LICENSE.md").contains(&format!("`{declared}`")));
    // A build without the eBPF toolchain has no object to ask.
    if let Ok(object) = ebpf_object::datapath() {
        let section = format!("{declared}\0").into_bytes();
        assert!(object.windows(section.len()).any(|bytes| bytes == section));
    }
}

/// All Markdown files of the repository's own.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            pages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let mut found = Vec::new();
    pages(&root(), &mut found);
    assert!(found.len() > 10, "the documentation is there");
    let mut broken = Vec::new();
    for page in found {
        let text = fs::read_to_string(&page).unwrap();
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let target = link.split('#').next().expect("the first part");
            if !page.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
