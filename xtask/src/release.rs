//! `cargo xtask release`: everything that is published of a version, in one folder.

mod archive;
mod changes;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::dist::{self, Dist};
use crate::engine::Engine;
use crate::setup::manifest_tools::ManifestTools;
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{image, process};

/// Version of the workspace, which its packages share.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Makes all of it, and says what could not be made.
pub fn run(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    setup::ensure(workspace, &[Need::EbpfToolchain, Need::ManifestTools])?;
    let folder = workspace.target.join(format!("release-{VERSION}"));
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut left_out = Vec::new();
    let changes = changes::read(workspace, VERSION)?;
    left_out.extend(changes.doubt);
    fs::write(folder.join("CHANGES.md"), changes.text)?;
    if let Some(doubt) = uncommitted(workspace)? {
        left_out.push(doubt);
    }

    let dist = dist::build(workspace, false, None)?;
    let papers = dist.folder.join(dist::DOCUMENTS);
    let list = format!("weir-{VERSION}-{}.cdx.json", dist.target);
    fs::copy(papers.join(dist::SBOM), folder.join(list))?;
    archive::programs(workspace, &dist, &folder)?;
    archive::manifests(workspace, VERSION, &folder)?;
    package_chart(workspace, &folder)?;
    match Engine::find() {
        Ok(engine) => save_image(workspace, &engine, &folder)?,
        Err(reason) => left_out.push(format!("the image is not part of it: {reason}")),
    }
    let files = write_sums(&folder)?;
    conclude(&folder, &files, &dist, &left_out)?;
    Ok(ExitCode::SUCCESS)
}

fn conclude(
    folder: &Path,
    files: &[PathBuf],
    dist: &Dist,
    left_out: &[String],
) -> anyhow::Result<()> {
    println!(
        "\nweir {} for {} in {}:",
        dist.version,
        dist.target,
        folder.display()
    );
    for file in files {
        let kib = file.metadata()?.len().div_ceil(1024);
        println!(
            "{kib:>8} KiB  {}",
            file.file_name().unwrap_or_default().display()
        );
    }
    for line in left_out {
        println!("NOTE: {line}");
    }
    Ok(())
}

/// What is in no commit cannot be built again.
fn uncommitted(workspace: &Workspace) -> anyhow::Result<Option<String>> {
    let mut command = Command::new("git");
    command
        .args(["status", "--porcelain"])
        .current_dir(&workspace.root);
    let changed = process::read(&mut command).context("git tells what is committed")?;
    let count = changed.lines().count();
    Ok((count > 0).then(|| format!("{count} files differ from the last commit")))
}

fn package_chart(workspace: &Workspace, folder: &Path) -> anyhow::Result<()> {
    let tools = ManifestTools::find(&workspace.target, &setup::places());
    let tools = tools.map_err(anyhow::Error::msg)?;
    let mut command = Command::new(&tools.helm);
    let chart = workspace.root.join("deploy/helm/weir");
    command
        .arg("package")
        .arg(chart)
        .arg("--destination")
        .arg(folder);
    process::read(&mut command)?;
    // Others than the programs and manifests are told apart by name.
    let made = folder.join(format!("weir-{VERSION}.tgz"));
    fs::rename(made, folder.join(format!("weir-chart-{VERSION}.tgz")))?;
    Ok(())
}

fn save_image(workspace: &Workspace, engine: &Engine, folder: &Path) -> anyhow::Result<()> {
    let reference = format!("weir:{VERSION}");
    image::build(workspace, engine, &reference, None)?;
    image::save(
        engine,
        &reference,
        &folder.join(format!("weir-image-{VERSION}.tar")),
    )
}

/// Writes the checksums of all files, in the form that `sha256sum --check` reads.
fn write_sums(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    let mut sums = String::new();
    for file in &files {
        let digest = Sha256::digest(fs::read(file)?);
        let name = file.file_name().unwrap_or_default().display();
        for byte in digest {
            write!(sums, "{byte:02x}")?;
        }
        writeln!(sums, "  {name}")?;
    }
    let path = folder.join("SHA256SUMS");
    fs::write(&path, sums)?;
    files.push(path);
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_that_the_tool_checks() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("b", "second"), ("a", "")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let files = write_sums(folder.path()).unwrap();
        assert_eq!(files.len(), 3);
        let check = || {
            let mut command = Command::new("sha256sum");
            command.args(["--check", "--strict", "SHA256SUMS"]);
            process::read(command.current_dir(folder.path()))
        };
        assert_eq!(check().unwrap(), "a: OK\nb: OK\n");
        fs::write(folder.path().join("a"), "changed").unwrap();
        check().unwrap_err();
    }
}
