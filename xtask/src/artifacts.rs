//! Builds packages and learns from cargo's messages where the executables went.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use serde::Deserialize;

use crate::workspace::Workspace;

/// Which optimisation a build uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Profile {
    /// Fast to build; tests and the demo.
    Dev,
    /// Fast to run; measurements.
    Release,
}

/// What an executable was built from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A program.
    Program,
    /// The unit tests of a library or program.
    UnitTest,
    /// A file under `tests/` of its package.
    IntegrationTest,
}

/// One executable that cargo made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Executable {
    /// Folder of the package's manifest.
    pub package: PathBuf,
    /// Name of the cargo target: `weir-agent`, `packets`.
    pub target: String,
    /// What it was built from.
    pub kind: Kind,
    /// The file.
    pub path: PathBuf,
}

impl Executable {
    /// How reports call it: package folder and target.
    pub fn title(&self) -> String {
        let package = self
            .package
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        match self.kind {
            Kind::IntegrationTest => format!("{package}/{}", self.target),
            Kind::Program | Kind::UnitTest => package.into_owned(),
        }
    }
}

/// An agent that differs from the usual one.
#[derive(Clone, Debug)]
pub struct Other {
    /// The variable through which tests find it.
    variable: &'static str,
    path: PathBuf,
}

/// How an agent that differs is built and called.
struct OtherSpec {
    /// The variable through which tests find it.
    variable: &'static str,
    /// File name.
    program: &'static str,
    /// Feature of `weir-agent`.
    feature: &'static str,
}

const OTHERS: [OtherSpec; 2] = [
    OtherSpec {
        variable: "WEIR_OTHER_AGENT_BIN",
        program: "weir-agent-other-layout",
        feature: "wider-layout",
    },
    OtherSpec {
        variable: "WEIR_OTHER_PROGRAMS_BIN",
        program: "weir-agent-other-programs",
        feature: "program-log",
    },
];

/// Some test: with one among the targets, cargo chooses the features of dependencies as it does for all
/// tests. Without, a quarter of the crates would be compiled once more.
const WITH_TESTS: &str = "--test=flow_allocations";

/// The agent and the command line, as the tests expect to find them.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// `weir-agent`.
    pub agent: PathBuf,
    /// The same with other maps or other programs, for tests that go from one to the other.
    pub others: Vec<Other>,
    /// `weir`.
    pub cli: PathBuf,
}

impl Binaries {
    /// Builds both and, in the same go, what more `targets` select. Returns all executables as well.
    ///
    /// Packages are not selected: for each selection of packages cargo chooses the features of
    /// dependencies anew, and compiles again those that differ.
    pub fn build(
        workspace: &Workspace,
        profile: Profile,
        targets: &[&str],
    ) -> anyhow::Result<(Self, Vec<Executable>)> {
        let both = ["build", "--bin=weir-agent", "--bin=weir"];
        let made = build(workspace, profile, &[&both, targets].concat())?;
        let binaries = Self {
            agent: program(&made, "weir-agent")?,
            others: Vec::new(),
            cli: program(&made, "weir")?,
        };
        Ok((binaries, made))
    }

    /// Builds both as the tests have them.
    pub fn build_with_tests(workspace: &Workspace, profile: Profile) -> anyhow::Result<Self> {
        Ok(Self::build(workspace, profile, &[WITH_TESTS])?.0)
    }

    /// The same, and the agents that differ.
    pub fn build_for_tests(workspace: &Workspace, profile: Profile) -> anyhow::Result<Self> {
        // First: cargo puts all agents into the same place, where the usual one belongs.
        let mut others = Vec::new();
        for other in OTHERS {
            let features = format!("--features=weir-agent/{}", other.feature);
            let arguments = ["build", "--bin=weir-agent", WITH_TESTS, &features];
            let made = build(workspace, profile, &arguments)?;
            let agent = program(&made, "weir-agent")?;
            let path = agent.with_file_name(other.program);
            fs::copy(&agent, &path).with_context(|| format!("cannot write {}", path.display()))?;
            others.push(Other {
                variable: other.variable,
                path,
            });
        }
        let binaries = Self::build_with_tests(workspace, profile)?;
        Ok(Self { others, ..binaries })
    }

    /// The variables through which tests and demo find them.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let others = self.others.iter();
        [
            ("WEIR_AGENT_BIN", &*self.agent),
            ("WEIR_CLI_BIN", &self.cli),
        ]
        .into_iter()
        .chain(others.map(|other| (other.variable, &*other.path)))
    }
}

/// Runs a cargo verb that builds; the user sees progress and errors as cargo words them.
pub fn build(
    workspace: &Workspace,
    profile: Profile,
    arguments: &[&str],
) -> anyhow::Result<Vec<Executable>> {
    let mut arguments = arguments.to_vec();
    if profile == Profile::Release {
        arguments.push("--release");
    }
    build_with(workspace, &arguments, &[])
}

/// The same with a profile among the arguments, and with more variables.
pub fn build_with(
    workspace: &Workspace,
    arguments: &[&str],
    variables: &[(String, &str)],
) -> anyhow::Result<Vec<Executable>> {
    let mut command = workspace.cargo();
    command
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .envs(variables.iter().map(|(name, value)| (name, value)));
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo to build")?;
    anyhow::ensure!(
        output.status.success(),
        "cargo {} failed",
        arguments.join(" ")
    );
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(parse)
        .collect())
}

/// Finds a program by name among what was built.
pub fn program(made: &[Executable], name: &str) -> anyhow::Result<PathBuf> {
    made.iter()
        .find(|made| made.kind == Kind::Program && made.target == name)
        .map(|made| made.path.clone())
        .with_context(|| format!("cargo built no program {name}"))
}

#[derive(Deserialize)]
struct Message {
    manifest_path: PathBuf,
    target: Target,
    profile: MessageProfile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

#[derive(Deserialize)]
struct MessageProfile {
    test: bool,
}

/// Reads one line of cargo's messages; none for anything but an executable.
fn parse(line: &str) -> Option<Executable> {
    let message: Message = serde_json::from_str(line).ok()?;
    let kind = match (message.profile.test, message.target.kind.first()?.as_str()) {
        (true, "test") => Kind::IntegrationTest,
        (true, _) => Kind::UnitTest,
        (false, _) => Kind::Program,
    };
    Some(Executable {
        package: message.manifest_path.parent()?.to_path_buf(),
        target: message.target.name,
        kind,
        path: message.executable?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Kind, parse};

    fn message(kind: &str, test: bool, executable: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","package_id":"x","manifest_path":"/w/tests/Cargo.toml",
            "target":{{"kind":["{kind}"],"name":"packets","src_path":"/w"}},
            "profile":{{"test":{test},"opt_level":"0"}},"executable":{executable},"fresh":true}}"#
        )
    }

    #[test]
    fn executables_are_told_apart_by_kind() {
        for (kind, test, expected, title) in [
            ("test", true, Kind::IntegrationTest, "tests/packets"),
            ("lib", true, Kind::UnitTest, "tests"),
            ("bin", true, Kind::UnitTest, "tests"),
            ("bin", false, Kind::Program, "tests"),
        ] {
            let made = parse(&message(kind, test, "\"/t/packets-1\"")).unwrap();
            assert_eq!(made.kind, expected, "{kind} {test}");
            assert_eq!(made.title(), title);
            assert_eq!(made.path.to_str(), Some("/t/packets-1"));
        }
    }

    #[test]
    fn other_messages_are_passed_over() {
        assert_eq!(parse(&message("lib", false, "null")), None);
        assert_eq!(parse(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(parse("running 3 tests"), None);
    }
}
