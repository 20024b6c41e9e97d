//! Which module files a machine needs, and in which order they must be loaded.
//!
//! The packages carry no `modules.dep` (it is made when a kernel is installed), so the order comes
//! from what each module says about itself: the entry `depends=a,b` in its section `.modinfo`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// A module file, unpacked.
#[derive(Clone, Debug)]
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// The ELF file.
    pub bytes: Vec<u8>,
}

/// Reads the wanted modules and what they depend on, in loading order.
///
/// What the kernel has built in, or lacks, is not there as a file and is passed over.
pub fn collect(folder: &Path, wanted: &[String]) -> anyhow::Result<Vec<Module>> {
    let files = index(folder)?;
    let mut bytes = BTreeMap::new();
    let order = order(wanted, |name| {
        let Some(path) = files.get(name) else {
            return Ok(None);
        };
        let content = read(path)?;
        let depends = depends(&content);
        bytes.insert(name.to_owned(), content);
        Ok(Some(depends))
    })?;
    let take = |name: String| bytes.remove(&name).map(|bytes| Module { name, bytes });
    Ok(order.into_iter().filter_map(take).collect())
}

/// Reads the list of wanted modules: one per line, `#` begins a comment.
pub fn parse_list(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    lines
        .filter(|line| !line.is_empty())
        .map(canonical)
        .collect()
}

/// Puts dependencies before dependents. `look` returns the dependencies of a module, or none if
/// there is no such file; it is asked once per module.
fn order(
    wanted: &[String],
    mut look: impl FnMut(&str) -> anyhow::Result<Option<Vec<String>>>,
) -> anyhow::Result<Vec<String>> {
    /// Modules still to be done; a module comes up a second time after its dependencies.
    enum Visit {
        Enter(String),
        Leave(String),
    }
    let mut seen = BTreeSet::new();
    let mut ordered = Vec::new();
    let mut open: Vec<Visit> = wanted.iter().rev().cloned().map(Visit::Enter).collect();
    while let Some(visit) = open.pop() {
        match visit {
            Visit::Leave(name) => ordered.push(name),
            Visit::Enter(name) => {
                if seen.insert(name.clone())
                    && let Some(depends) = look(&name)?
                {
                    open.push(Visit::Leave(name));
                    open.extend(depends.into_iter().rev().map(Visit::Enter));
                }
            }
        }
    }
    Ok(ordered)
}

/// The dependencies a module file states.
fn depends(module: &[u8]) -> Vec<String> {
    const ENTRY: &[u8] = b"depends=";
    let entry = module
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(ENTRY));
    let names = String::from_utf8_lossy(entry.unwrap_or_default()).into_owned();
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(canonical)
        .collect()
}

/// Kernel and build system disagree about dashes; underscores are what the kernel shows.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// Every module file below a folder, by name.
fn index(folder: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        let entries = folder
            .read_dir()
            .with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else if let Some((name, "ko" | "ko.xz")) = name.split_once('.') {
                files.insert(canonical(name), entry.path());
            }
        }
    }
    Ok(files)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let output = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(path)
        .output()?;
    anyhow::ensure!(output.status.success(), "cannot unpack {}", path.display());
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{depends, order, parse_list};

    fn load_order(wanted: &[&str], graph: &[(&str, &[&str])]) -> Vec<String> {
        let graph: BTreeMap<&str, Vec<String>> = graph
            .iter()
            .map(|(name, depends)| (*name, depends.iter().map(ToString::to_string).collect()))
            .collect();
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        order(&wanted, |name| Ok(graph.get(name).cloned())).unwrap()
    }

    #[test]
    fn dependencies_go_first_and_once() {
        let graph: &[(&str, &[&str])] = &[
            ("bridge", &["stp", "llc"]),
            ("stp", &["llc"]),
            ("llc", &[]),
            ("veth", &[]),
        ];
        assert_eq!(
            load_order(&["veth", "bridge", "veth"], graph),
            ["veth", "llc", "stp", "bridge"]
        );
    }

    #[test]
    fn built_in_modules_are_passed_over() {
        assert_eq!(load_order(&["ipv6", "tun"], &[("tun", &["ipv6"])]), ["tun"]);
    }

    #[test]
    fn circles_end() {
        assert_eq!(
            load_order(&["a"], &[("a", &["b"]), ("b", &["a"])]),
            ["b", "a"]
        );
    }

    #[test]
    fn dependencies_are_read_from_a_module() {
        let module = b"\x7fELF\0license=GPL\0depends=udp_tunnel,libcurve25519-generic\0name=wg\0";
        assert_eq!(depends(module), ["udp_tunnel", "libcurve25519_generic"]);
        assert!(depends(b"\x7fELF\0depends=\0").is_empty());
        assert!(depends(b"\x7fELF").is_empty());
    }

    #[test]
    fn list_has_comments_and_blank_lines() {
        assert_eq!(
            parse_list("# all\nveth\n\nact-bpf # tc\n"),
            ["veth", "act_bpf"]
        );
    }
}
