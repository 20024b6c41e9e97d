//! Gets a Debian kernel: downloads and unpacks its packages, installs nothing.
//!
//! apt runs with state, lists and cache of its own, so the machine's set-up stays as it is. A
//! kernel is complete once the file `release` is there; that file is written last.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::process;
use crate::vm::kernels::KernelSpec;
use crate::vm::mirror;

/// What Debian signs its archives with, where a machine has the keys.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What `uname -r` will say.
    pub release: String,
    /// The bootable image.
    pub image: PathBuf,
    /// Folder of its modules.
    pub modules: PathBuf,
}

impl Kernel {
    /// The kernel as an earlier run left it.
    pub fn cached(target: &Path, spec: &KernelSpec) -> Option<Self> {
        let folder = folder(target, spec);
        let release = fs::read_to_string(folder.join("release")).ok()?;
        Self::unpacked(&folder, release.trim()).ok()
    }

    /// Downloads it.
    pub fn fetch(target: &Path, spec: &KernelSpec) -> anyhow::Result<Self> {
        println!(
            "setup: fetching kernel {} from suite {}",
            spec.name, spec.suite
        );
        let folder = folder(target, spec);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let apt = PrivateApt::new(&folder.join("apt"), spec)?;
        process::read(apt.command("apt-get").arg("update"))?;
        let packages = apt.kernel_packages(&spec.package)?;
        let release = release_of(&packages)
            .with_context(|| format!("{} leads to no kernel image", spec.package))?;
        anyhow::ensure!(
            release.starts_with(&format!("{}.", spec.name)),
            "suite {} now carries {release}; correct tests/vm/kernels.json",
            spec.suite
        );
        process::read(
            apt.command("apt-get")
                .arg("download")
                .args(&packages)
                .current_dir(&folder),
        )?;
        unpack(&folder)?;
        fs::remove_dir_all(folder.join("apt"))?;
        let kernel = Self::unpacked(&folder, &release)?;
        fs::write(folder.join("release"), &release)?;
        Ok(kernel)
    }

    fn unpacked(folder: &Path, release: &str) -> anyhow::Result<Self> {
        let existing = |candidates: [String; 2]| {
            let paths = candidates.map(|path| folder.join(path));
            let found = paths.iter().find(|path| path.exists()).cloned();
            found.with_context(|| {
                format!(
                    "neither {} is there",
                    paths.map(|p| p.display().to_string()).join(" nor ")
                )
            })
        };
        Ok(Self {
            release: release.to_owned(),
            image: existing([
                format!("boot/vmlinuz-{release}"),
                format!("usr/lib/modules/{release}/vmlinuz"),
            ])?,
            modules: existing([
                format!("lib/modules/{release}/kernel"),
                format!("usr/lib/modules/{release}/kernel"),
            ])?,
        })
    }
}

fn folder(target: &Path, spec: &KernelSpec) -> PathBuf {
    target.join("vm").join("kernels").join(&spec.name)
}

/// Unpacks every package in a folder into that folder, and removes the package.
pub fn unpack(folder: &Path) -> anyhow::Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            process::read(
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(&path)
                    .arg(folder),
            )?;
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// An apt that shares nothing with the machine's but the keys it trusts.
struct PrivateApt {
    folder: PathBuf,
}

impl PrivateApt {
    fn new(folder: &Path, spec: &KernelSpec) -> anyhow::Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let mirror = mirror::of(spec.archive)?;
        let signed = if Path::new(KEYRING).exists() {
            format!("[signed-by={KEYRING}] ")
        } else {
            String::new()
        };
        fs::write(
            folder.join("sources.list"),
            format!("deb {signed}{mirror} {} main\n", spec.suite),
        )?;
        Ok(Self {
            folder: folder.to_path_buf(),
        })
    }

    fn command(&self, program: &str) -> Command {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::SourceList={}", path("sources.list")),
            "Dir::Etc::SourceParts=-".to_owned(),
            "Dir::Etc::Preferences=-".to_owned(),
            "Dir::Etc::PreferencesParts=-".to_owned(),
            format!("Dir::State::Lists={}", path("lists")),
            "Dir::State::Status=/dev/null".to_owned(),
            format!("Dir::Cache={}", path("cache")),
            // Only root can become the download user, and that one cannot write here.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "APT::Architecture=amd64".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }

    /// Follows a meta-package down to the packages that hold image and modules.
    fn kernel_packages(&self, package: &str) -> anyhow::Result<Vec<String>> {
        let mut found: Vec<String> = Vec::new();
        let mut open = vec![package.to_owned()];
        while let Some(package) = open.pop() {
            let mut command = self.command("apt-cache");
            let shown = process::read(command.args(["show", "--no-all-versions", &package]))?;
            for dependency in kernel_dependencies(&shown) {
                if !found.contains(&dependency) {
                    found.push(dependency.clone());
                    open.push(dependency);
                }
            }
        }
        Ok(found)
    }
}

/// The packages of the kernel itself among the dependencies `apt-cache show` lists.
fn kernel_dependencies(shown: &str) -> Vec<String> {
    let depends = shown
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "));
    depends
        .unwrap_or_default()
        .split([',', '|'])
        .filter_map(|dependency| dependency.split_whitespace().next())
        .filter(|name| {
            ["linux-image-", "linux-binary-", "linux-modules-"]
                .iter()
                .any(|p| name.starts_with(p))
        })
        .map(str::to_owned)
        .collect()
}

/// The release the image package is named after.
fn release_of(packages: &[String]) -> Option<String> {
    packages.iter().find_map(|name| {
        let release = name.strip_prefix("linux-image-")?;
        release.contains('.').then(|| release.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::{kernel_dependencies, release_of};

    #[test]
    fn one_package_holds_an_older_kernel() {
        let shown = "Package: linux-image-cloud-amd64\n\
                     Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n";
        let packages = kernel_dependencies(shown);
        assert_eq!(packages, ["linux-image-6.1.0-56-cloud-amd64"]);
        assert_eq!(
            release_of(&packages).as_deref(),
            Some("6.1.0-56-cloud-amd64")
        );
    }

    #[test]
    fn newer_kernels_are_split() {
        let shown = "Depends: dracut | initramfs-tools (>= 0.120) | linux-initramfs-tool, \
                     linux-base-7.2.13+deb14-cloud-amd64 (= 7.2.13-1), \
                     linux-binary-7.2.13+deb14-cloud-amd64 (= 7.2.13-1), \
                     linux-modules-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)\n";
        assert_eq!(
            kernel_dependencies(shown),
            [
                "linux-binary-7.2.13+deb14-cloud-amd64",
                "linux-modules-7.2.13+deb14-cloud-amd64"
            ]
        );
    }

    #[test]
    fn package_without_dependencies_leads_nowhere() {
        assert!(kernel_dependencies("Package: x\n").is_empty());
        assert_eq!(release_of(&[]), None);
    }
}
