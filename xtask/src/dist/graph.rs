//! The packages that are compiled into what is shipped, as cargo resolves them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Context as _;
use serde::Deserialize;

use crate::process;
use crate::workspace::Workspace;

/// A package.
#[derive(Clone, Debug, Deserialize)]
pub struct Package {
    id: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SPDX expression.
    pub license: Option<String>,
    /// Where it lies.
    pub manifest_path: PathBuf,
    /// What it is, in its own words.
    pub description: Option<String>,
    /// Empty for our own.
    pub source: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    kind: Option<String>,
}

/// Packages with what each one needs.
#[derive(Debug)]
pub struct Graph {
    packages: BTreeMap<String, Package>,
    needs: BTreeMap<String, BTreeSet<String>>,
    roots: Vec<String>,
}

impl Graph {
    /// All that the programs of `roots` are made of, on `target`. What only builds them (build
    /// scripts' needs, tests) is not part.
    pub fn of(workspace: &Workspace, roots: &[&str], target: &str) -> anyhow::Result<Self> {
        let mut command = workspace.cargo();
        command.args(["metadata", "--locked", "--format-version", "1"]);
        command.args(["--filter-platform", target]);
        Self::parse(&process::read(&mut command)?, roots)
    }

    fn parse(metadata: &str, roots: &[&str]) -> anyhow::Result<Self> {
        let metadata: Metadata = serde_json::from_str(metadata).context("cargo metadata")?;
        let all: BTreeMap<_, _> = metadata
            .packages
            .into_iter()
            .map(|package| (package.id.clone(), package))
            .collect();
        let ours = |package: &&Package| package.source.is_none();
        let roots = roots.iter().map(|root| {
            let mut candidates = all.values().filter(ours);
            let found = candidates.find(|package| package.name == *root);
            let found = found.with_context(|| format!("there is no package {root}"))?;
            Ok(found.id.clone())
        });
        let roots = roots.collect::<anyhow::Result<Vec<_>>>()?;
        let all_needs: BTreeMap<_, BTreeSet<_>> = metadata
            .resolve
            .nodes
            .into_iter()
            .map(|node| {
                let compiled_in = |it: &Dependency| it.dep_kinds.iter().any(|it| it.kind.is_none());
                let needs = node.deps.into_iter().filter(compiled_in);
                (node.id, needs.map(|need| need.pkg).collect())
            })
            .collect();
        let mut needs = BTreeMap::new();
        let mut pending = roots.clone();
        while let Some(id) = pending.pop() {
            let found = all_needs.get(&id).cloned().unwrap_or_default();
            let new = found.iter().filter(|need| !needs.contains_key(*need));
            pending.extend(new.cloned());
            needs.insert(id, found);
        }
        let packages = all.into_iter().filter(|(id, _)| needs.contains_key(id));
        Ok(Self {
            packages: packages.collect(),
            needs,
            roots,
        })
    }

    /// Version of what is shipped.
    pub fn version(&self) -> &str {
        &self.packages[&self.roots[0]].version
    }

    /// Packages of others, by name.
    pub fn foreign(&self) -> impl Iterator<Item = &Package> {
        self.packages.values().filter(|it| it.source.is_some())
    }

    /// All packages.
    pub fn packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.values()
    }

    /// What a package needs.
    pub fn needs<'a>(&'a self, package: &Package) -> impl Iterator<Item = &'a Package> {
        let needs = self.needs.get(&package.id).into_iter().flatten();
        needs.filter_map(|id| self.packages.get(id))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `agent` needs `a`, which needs `b`; `builder` and `tester` only build and test it.
    pub fn small(folder: &std::path::Path) -> Graph {
        let package = |name: &str, source: &str| {
            let manifest = folder.join(name).join("Cargo.toml");
            serde_json::json!({
                "id": name, "name": name, "version": "1.2.3", "license": "MIT OR Apache-2.0",
                "manifest_path": manifest, "description": null,
                "source": (!source.is_empty()).then_some(source),
            })
        };
        let node = |id: &str, needs: &[(&str, Option<&str>)]| {
            let needs = needs.iter().map(
                |(id, kind)| serde_json::json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] }),
            );
            serde_json::json!({ "id": id, "deps": needs.collect::<Vec<_>>() })
        };
        let registry = "registry+somewhere";
        let metadata = serde_json::json!({
            "packages": [
                package("agent", ""), package("a", registry), package("b", registry),
                package("builder", registry), package("tester", registry), package("other", ""),
            ],
            "resolve": { "nodes": [
                node("agent", &[("a", None), ("builder", Some("build")), ("tester", Some("dev"))]),
                node("a", &[("b", None)]), node("b", &[("a", Some("dev"))]),
                node("builder", &[]), node("tester", &[]), node("other", &[("tester", None)]),
            ] },
        });
        Graph::parse(&metadata.to_string(), &["agent"]).unwrap()
    }

    #[test]
    fn what_only_builds_or_tests_is_not_part() {
        let graph = small(std::path::Path::new("/nowhere"));
        let names = |packages: &mut dyn Iterator<Item = &Package>| -> Vec<String> {
            packages.map(|package| package.name.clone()).collect()
        };
        assert_eq!(names(&mut graph.packages()), ["a", "agent", "b"]);
        assert_eq!(names(&mut graph.foreign()), ["a", "b"]);
        assert_eq!(graph.version(), "1.2.3");
        let agent = graph.packages().find(|it| it.name == "agent").unwrap();
        assert_eq!(names(&mut graph.needs(agent)), ["a"]);
        assert!(Graph::parse("{}", &["agent"]).is_err());
    }
}
