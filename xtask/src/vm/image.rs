//! Packs a machine: busybox, network tools, the binaries under test with their libraries, kernel
//! modules, and the first process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use ebpf_build::Places;

use crate::artifacts::Binaries;
use crate::suites;
use crate::vm::cpio::Archive;
use crate::vm::fetch::Kernel;
use crate::vm::kernels::SuiteSpec;
use crate::vm::modules;

/// What goes into a machine beside its kernel.
#[derive(Debug)]
pub struct Contents {
    /// Folder of the workspace on this machine.
    pub workspace: PathBuf,
    /// The suites and their executables.
    pub suites: Vec<(SuiteSpec, PathBuf)>,
    /// The programs under test.
    pub binaries: Binaries,
    /// Programs that suites start by the path they were built at.
    pub programs: Vec<PathBuf>,
    /// Run only tests whose name contains this.
    pub filter: Option<String>,
}

/// How many times longer than elsewhere the suites wait for something to happen: emulation is slow,
/// and not the same on every machine.
const PATIENCE: u32 = 5;
/// Of the load under which the restart contract is tested: what an emulated processor bears.
const LOAD_PERCENT: u32 = 3;

/// Tools the suites call; a machine without one skips what needs it.
const TOOLS: [&str; 5] = ["ip", "tc", "bpftool", "wg", "setpriv"];

/// Collects what all machines have in common.
pub fn common(contents: &Contents) -> anyhow::Result<Image> {
    let mut image = Image::default();
    add_userland(&mut image, &contents.workspace)?;
    add_binaries(&mut image, contents)?;
    Ok(image)
}

/// Writes the initramfs of a machine: what all have in common, and the modules of its kernel.
pub fn write(common: &Image, kernel: &Kernel, workspace: &Path, path: &Path) -> anyhow::Result<()> {
    let modules = modules(kernel, workspace)?;
    write_archive(&[common, &modules], path)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn add_userland(image: &mut Image, workspace: &Path) -> anyhow::Result<()> {
    let mut places = Places::of_this_machine();
    places.path.extend(["/usr/sbin", "/sbin"].map(Into::into));
    let busybox = places.program("busybox").context("no busybox")?;
    image.program("/bin/busybox", &busybox)?;
    // The shell of busybox prefers its own, smaller `ip` to the one on PATH.
    image.program("/bin/sh", Path::new("/bin/sh"))?;
    for tool in TOOLS {
        if let Some(found) = places.program(tool) {
            image.program(&format!("/usr/sbin/{tool}"), &found)?;
        }
    }
    image.file("/init", 0o755, read(&workspace.join("tests/vm/init"))?);
    image.file(
        "/etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\n".to_vec(),
    );
    image.file("/etc/group", 0o644, b"root:x:0:\n".to_vec());
    image.file(
        "/etc/hosts",
        0o644,
        b"127.0.0.1 localhost\n::1 localhost\n".to_vec(),
    );
    // Suites read manifests where they were built.
    ["deploy/examples", "deploy/daemonset"]
        .into_iter()
        .try_for_each(|folder| image.tree(&workspace.join(folder)))
}

fn add_binaries(image: &mut Image, contents: &Contents) -> anyhow::Result<()> {
    let mut environment = Vec::new();
    writeln!(environment, "export WEIR_PATIENCE={PATIENCE}")?;
    writeln!(environment, "export WEIR_LOAD_PERCENT={LOAD_PERCENT}")?;
    writeln!(environment, "export WEIR_TEST_WIREGUARD=kernel")?;
    for (name, path) in contents.binaries.environment() {
        let inside = format!("/weir/{}", path.file_name().unwrap_or_default().display());
        image.stripped(&inside, path)?;
        writeln!(environment, "export {name}={inside}")?;
    }
    for program in &contents.programs {
        image.stripped(&program.display().to_string(), program)?;
    }
    let mut list = String::new();
    for (suite, path) in &contents.suites {
        image.stripped(&format!("/weir/suites/{}", suite.target), path)?;
        list.push_str(&suite_line(suite, contents.filter.as_deref()));
    }
    image.file("/weir/environment", 0o644, environment);
    image.file("/weir/suites/list", 0o644, list.into_bytes());
    Ok(())
}

/// A line of the list the machine works off: the suite and its arguments.
fn suite_line(suite: &SuiteSpec, filter: Option<&str>) -> String {
    let only = suite.only.iter().map(String::as_str);
    let filters: Vec<&str> = match filter {
        Some(filter) => vec![filter],
        None => only.collect(),
    };
    let output = if suite.measures {
        suites::NO_CAPTURE
    } else {
        suites::SHOW_OUTPUT
    };
    let fixed = [suite.target.as_str(), output, suites::ROOT_SUITE_THREADS];
    [&fixed[..], &filters].concat().join(" ") + "\n"
}

fn modules(kernel: &Kernel, workspace: &Path) -> anyhow::Result<Image> {
    let mut image = Image::default();
    let list = read(&workspace.join("tests/vm/modules"))?;
    let wanted = modules::parse_list(&String::from_utf8_lossy(&list));
    let mut order = Vec::new();
    for module in modules::collect(&kernel.modules, &wanted)? {
        writeln!(order, "{}", module.name)?;
        image.file(
            &format!("/weir/modules/{}.ko", module.name),
            0o644,
            module.bytes,
        );
    }
    image.file("/weir/modules/order", 0o644, order);
    Ok(image)
}

/// Files by their path inside the machine.
#[derive(Debug, Default)]
pub struct Image {
    files: BTreeMap<String, (u32, Vec<u8>)>,
}

impl Image {
    fn file(&mut self, path: &str, permissions: u32, content: Vec<u8>) {
        self.files.insert(path.to_owned(), (permissions, content));
    }

    /// A program with the shared libraries it loads, which keep their paths.
    fn program(&mut self, path: &str, source: &Path) -> anyhow::Result<()> {
        self.libraries(source)?;
        self.file(path, 0o755, read(source)?);
        Ok(())
    }

    /// A program without its debug information, which is most of a test binary; with it, where
    /// there is no `strip`.
    fn stripped(&mut self, path: &str, source: &Path) -> anyhow::Result<()> {
        self.libraries(source)?;
        let folder = tempfile::tempdir()?;
        let copy = folder.path().join("stripped");
        let status = Command::new("strip")
            .args(["--strip-debug", "-o"])
            .arg(&copy)
            .arg(source)
            .status();
        let done = status.is_ok_and(|status| status.success());
        self.file(path, 0o755, read(if done { &copy } else { source })?);
        Ok(())
    }

    fn libraries(&mut self, source: &Path) -> anyhow::Result<()> {
        let output = Command::new("ldd")
            .arg(source)
            .output()
            .context("cannot start ldd")?;
        for library in parse_libraries(&String::from_utf8_lossy(&output.stdout)) {
            let library = library.with_context(|| format!("{} cannot run", source.display()))?;
            if !self.files.contains_key(&library) {
                let content = read(Path::new(&library))?;
                self.file(&library, 0o755, content);
            }
        }
        Ok(())
    }

    /// Everything below a folder, at the same path; nothing if there is no such folder.
    fn tree(&mut self, folder: &Path) -> anyhow::Result<()> {
        let Ok(entries) = folder.read_dir() else {
            return Ok(());
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                self.tree(&path)?;
            } else {
                self.file(&path.display().to_string(), 0o644, read(&path)?);
            }
        }
        Ok(())
    }
}

fn write_archive(images: &[&Image], path: &Path) -> anyhow::Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(path)?));
    let files = || images.iter().flat_map(|image| &image.files);
    for folder in folders(files().map(|(path, _)| path)) {
        archive.folder(&folder)?;
    }
    archive.folder("/dev")?;
    archive.device("/dev/console", (5, 1))?;
    for (path, (permissions, content)) in files() {
        archive.file(path, *permissions, content)?;
    }
    archive.finish()?;
    Ok(())
}

/// All folders above the given files, parents first.
fn folders<'a>(files: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    let above = files.flat_map(|file| Path::new(file).ancestors().skip(1));
    above
        .map(|folder| folder.display().to_string())
        .filter(|folder| folder != "/")
        .collect()
}

/// Reads what `ldd` prints: the path of each library, or an error for one that is not found.
fn parse_libraries(text: &str) -> Vec<anyhow::Result<String>> {
    let mut libraries = Vec::new();
    for line in text.lines().map(str::trim) {
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        if place == "not found" {
            libraries.push(Err(anyhow::anyhow!("library {name} is not found")));
        } else if let Some(path) = place
            .split(" (")
            .next()
            .filter(|path| path.starts_with('/'))
        {
            libraries.push(Ok(path.to_owned()));
        }
    }
    libraries
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{folders, parse_libraries, suite_line};
    use crate::vm::kernels::SuiteSpec;

    #[test]
    fn libraries_are_read_from_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007ffc)\n\
                    \tlibelf.so.1 => /lib/x86_64-linux-gnu/libelf.so.1 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let libraries: Vec<String> = parse_libraries(text)
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            libraries,
            [
                "/lib/x86_64-linux-gnu/libelf.so.1",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
    }

    #[test]
    fn static_programs_have_no_libraries() {
        assert!(parse_libraries("\tnot a dynamic executable\n").is_empty());
        assert!(parse_libraries("\tstatically linked\n").is_empty());
    }

    #[test]
    fn lacking_library_is_an_error_that_names_it() {
        let error = parse_libraries("\tlibelf.so.1 => not found\n")
            .remove(0)
            .unwrap_err();
        assert!(error.to_string().contains("libelf.so.1"));
    }

    #[test]
    fn parents_come_before_children() {
        let files = ["/weir/suites/list".to_owned(), "/init".to_owned()];
        let folders: Vec<String> = folders(files.iter()).into_iter().collect();
        assert_eq!(folders, ["/weir", "/weir/suites"]);
    }

    #[test]
    fn filter_of_the_user_replaces_the_list() {
        let suite = SuiteSpec {
            target: "cluster".into(),
            package: "tests".into(),
            only: vec!["core".into(), "v6".into()],
            machines_only: false,
            measures: false,
        };
        let fixed = "cluster --show-output --test-threads=2";
        assert_eq!(suite_line(&suite, None), format!("{fixed} core v6\n"));
        assert_eq!(suite_line(&suite, Some("kill")), format!("{fixed} kill\n"));
        let measures = SuiteSpec {
            only: vec![],
            measures: true,
            ..suite
        };
        assert_eq!(
            suite_line(&measures, None),
            "cluster --nocapture --test-threads=2\n",
            "figures are shown as they come"
        );
    }
}
