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

/// The manifests, the alert rules and how to install them.
pub fn manifests(workspace: &Workspace, version: &str, into: &Path) -> anyhow::Result<()> {
    let name = format!("weir-{version}-kubernetes");
    let staged = tempfile::tempdir()?;
    let root = staged.path().join(&name);
    fs::create_dir_all(&root)?;
    let deploy = workspace.root.join("deploy");
    for part in ["README.md", "daemonset", "prometheus"] {
        let mut copy = Command::new("cp");
        copy.arg("--recursive").arg(deploy.join(part)).arg(&root);
        process::read(&mut copy)?;
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
