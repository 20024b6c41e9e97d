//! Archives that come out the same from the same files.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::dist::{self, Dist};
use crate::process;
use crate::workspace::Workspace;

/// The programs with their papers and units, for nodes without Kubernetes.
pub fn programs(workspace: &Workspace, dist: &Dist, into: &Path) -> anyhow::Result<()> {
    let name = format!("weir-{}-{}", dist.version, dist.target);
    let staged = tempfile::tempdir()?;
    let root = staged.path().join(&name);
    fs::create_dir_all(root.join("systemd"))?;
    for from in [dist::PROGRAMS, dist::DOCUMENTS] {
        copy_files(&dist.folder.join(from), &root)?;
    }
    copy_files(
        &workspace.root.join("deploy/systemd"),
        &root.join("systemd"),
    )?;
    pack(staged.path(), &name, &into.join(format!("{name}.tar.gz")))
}

/// The manifests, the chart, the alert rules and the documentation, as they lie in the repository: what
/// is said of them, `kubectl apply -k deploy/daemonset` too, holds in the archive.
pub fn manifests(workspace: &Workspace, version: &str, into: &Path) -> anyhow::Result<()> {
    let name = format!("weir-{version}-kubernetes");
    let staged = tempfile::tempdir()?;
    let root = staged.path().join(&name);
    fs::create_dir_all(&root)?;
    for part in ["deploy", "docs", "LICENSE-APACHE", "LICENSE-MIT"] {
        let mut copy = Command::new("cp");
        copy.arg("--recursive").arg(workspace.root.join(part));
        process::read(copy.arg(&root))?;
    }
    pack(staged.path(), &name, &into.join(format!("{name}.tar.gz")))
}

fn copy_files(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Packs a folder, with its files in order and nothing of this machine or moment.
fn pack(folder: &Path, name: &str, archive: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("tar");
    command
        .arg("--create")
        .args(["--sort=name", "--mtime=@0", "--format=gnu"])
        .args(["--owner=0", "--group=0", "--numeric-owner", "--mode=go-w"])
        .args(["--use-compress-program", "gzip --no-name -9"])
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(folder)
        .arg(name);
    process::read(&mut command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Targets of the links of a Markdown file that lead to files.
    fn links(text: &str) -> impl Iterator<Item = &str> {
        let targets = text.split("](").skip(1);
        let targets = targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
        let files = targets.filter(|target| !target.contains("://"));
        let files = files.map(|target| target.split_once('#').map_or(target, |(file, _)| file));
        files.filter(|file| !file.is_empty())
    }

    #[test]
    fn what_the_manifests_readme_leads_to_is_in_their_archive() {
        let workspace = Workspace::locate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        manifests(&workspace, "0.0.0", folder.path()).unwrap();
        let archive = folder.path().join("weir-0.0.0-kubernetes.tar.gz");
        let mut unpack = Command::new("tar");
        let unpack = unpack.arg("--extract").arg("--file").arg(&archive);
        process::read(unpack.arg("--directory").arg(folder.path())).unwrap();
        let deploy = folder.path().join("weir-0.0.0-kubernetes/deploy");
        let text = fs::read_to_string(deploy.join("README.md")).unwrap();
        let missing: Vec<_> = links(&text)
            .filter(|link| !deploy.join(link).exists())
            .collect();
        assert_eq!(missing, [""; 0]);
        assert!(links(&text).count() > 10, "{text}");
    }

    #[test]
    fn the_same_files_give_the_same_archive() {
        let packed = [0, 1].map(|order| {
            let staged = tempfile::tempdir().unwrap();
            let root = staged.path().join("weir");
            fs::create_dir(&root).unwrap();
            let mut names = ["a", "b", "c"];
            names.rotate_left(order);
            for name in names {
                fs::write(root.join(name), name).unwrap();
            }
            let archive = staged.path().join("weir.tar.gz");
            pack(staged.path(), "weir", &archive).unwrap();
            let listed = process::read(Command::new("tar").arg("--list").arg("-f").arg(&archive));
            assert_eq!(listed.unwrap(), "weir/\nweir/a\nweir/b\nweir/c\n");
            fs::read(archive).unwrap()
        });
        assert!(packed[0] == packed[1]);
    }
}
