//! The search over machines laid out in a temporary folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{
    Compiler, Flavor, Linker, Missing, Toolchain, parse_llvm_library, parse_llvm_version,
    parse_version,
};
use crate::places::Places;

const CORE: &str = "lib/rustlib/src/rust/library/core/Cargo.toml";
const NIGHTLY: &str = "rustup/toolchains/nightly-x86_64-unknown-linux-gnu";

/// A machine below a temporary folder.
struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { root }
    }

    fn file(self, path: &str, content: &str, mode: u32) -> Self {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn compiler(self, root: &str, version: &str) -> Self {
        self.file(
            &format!("{root}/bin/rustc"),
            &format!("#!/bin/sh\necho '{version}'\n"),
            0o755,
        )
        .file(&format!("{root}/bin/cargo"), "#!/bin/sh\n", 0o755)
    }

    fn sources(self, root: &str) -> Self {
        self.file(&format!("{root}/{CORE}"), "", 0o644)
    }

    fn linker(self) -> Self {
        self.file("cargo/bin/bpf-linker", "#!/bin/sh\n", 0o755)
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    fn find(&self) -> Result<Toolchain, super::MissingToolchain> {
        Toolchain::find_in(&Places {
            usr: self.path().join("usr"),
            package_database: self.path().join("dpkg-status"),
            path: vec![self.path().join("usr/bin")],
            cargo_home: Some(self.path().join("cargo")),
            rustup_home: Some(self.path().join("rustup")),
        })
    }
}

#[test]
fn bare_machine_lacks_compiler_and_linker() {
    let missing = Machine::new().find().unwrap_err();
    assert_eq!(
        missing.missing,
        [Missing::Compiler { rejected: vec![] }, Missing::Linker]
    );
    assert!(
        missing.to_string().contains("cargo xtask setup"),
        "{missing}"
    );
}

#[test]
fn distribution_compiler_with_sources_is_found() {
    let machine = Machine::new()
        .compiler("usr", "rustc 1.96.0 (ac68 2026-05-25)")
        .sources("usr")
        .linker();
    let found = machine.find().unwrap();
    assert_eq!(found.compiler.flavor, Flavor::Distribution);
    assert_eq!(found.compiler.rustc, machine.path().join("usr/bin/rustc"));
    assert_eq!(
        found.linker.path,
        machine.path().join("cargo/bin/bpf-linker")
    );
    assert_eq!(found.compiler.version, "rustc 1.96.0 (ac68 2026-05-25)");
}

#[test]
fn complete_nightly_goes_before_the_distribution() {
    let machine = Machine::new()
        .compiler("usr", "rustc 1.96.0")
        .sources("usr")
        .compiler(NIGHTLY, "rustc 1.97.0-nightly (aa 2026-05-01)")
        .sources(NIGHTLY)
        .linker();
    assert_eq!(
        machine.find().unwrap().compiler.flavor,
        Flavor::RustupNightly
    );
}

#[test]
fn nightly_without_sources_gives_way_to_the_distribution() {
    let machine = Machine::new()
        .compiler("usr", "rustc 1.96.0")
        .sources("usr")
        .compiler(NIGHTLY, "rustc 1.97.0-nightly")
        .linker();
    assert_eq!(
        machine.find().unwrap().compiler.flavor,
        Flavor::Distribution
    );
}

#[test]
fn newest_dated_nightly_is_taken_when_there_is_no_undated_one() {
    let dated = |date: &str| format!("rustup/toolchains/nightly-{date}-x86_64-unknown-linux-gnu");
    let (old, new) = (dated("2026-01-02"), dated("2026-03-04"));
    let machine = Machine::new()
        .compiler(&old, "rustc 1.95.0-nightly")
        .sources(&old)
        .compiler(&new, "rustc 1.96.0-nightly")
        .sources(&new)
        .linker();
    assert_eq!(
        machine.find().unwrap().compiler.rustc,
        machine.path().join(new).join("bin/rustc")
    );
}

#[test]
fn rejected_compilers_are_named_with_the_reason() {
    let machine = Machine::new()
        .compiler("usr", "rustc 1.63.0")
        .sources("usr")
        .compiler(NIGHTLY, "rustc 1.97.0-nightly")
        .linker();
    let missing = machine.find().unwrap_err();
    let text = missing.to_string();
    assert_eq!(missing.missing.len(), 1, "{text}");
    assert!(text.contains("nightly-x86_64-unknown-linux-gnu lacks the component rust-src"));
    assert!(text.contains("usr/bin/rustc is 1.63"), "{text}");
}

#[test]
fn only_existing_signs_of_change_are_watched() {
    let machine = Machine::new()
        .compiler(NIGHTLY, "rustc 1.97.0-nightly")
        .file("dpkg-status", "", 0o644)
        .file(&format!("{NIGHTLY}/lib/rustlib/components"), "", 0o644);
    let watch = machine.find().unwrap_err().watch;
    assert_eq!(
        watch,
        [
            machine.path().join("dpkg-status"),
            machine.path().join(NIGHTLY).join("lib/rustlib/components")
        ]
    );
}

#[test]
fn versions_parse() {
    for (text, expected) in [
        ("rustc 1.96.0 (ac68faa20 2026-05-25)", Some((1, 96))),
        ("rustc 1.97.0-nightly (aa 2026-05-01)", Some((1, 97))),
        ("rustc 2.0", Some((2, 0))),
        ("cargo 1.96.0", None),
        ("rustc one", None),
        ("", None),
    ] {
        assert_eq!(parse_version(text), expected, "{text:?}");
    }
}

#[test]
fn linker_reads_bitcode_of_its_own_llvm_and_older_ones() {
    let compiler = |llvm| Compiler {
        flavor: Flavor::RustupNightly,
        cargo: "cargo".into(),
        rustc: "rustc".into(),
        version: "rustc 1.99.0".into(),
        llvm,
    };
    let linker = |llvm| Linker {
        path: "bpf-linker".into(),
        llvm,
    };
    for (writes, reads, fits) in [
        (Some(22), Some(22), true),
        (Some(21), Some(22), true),
        (Some(23), Some(22), false),
        (None, Some(22), true),
        (Some(23), None, true),
    ] {
        assert_eq!(
            linker(reads).reads(&compiler(writes)),
            fits,
            "{writes:?} for {reads:?}"
        );
    }
}

#[test]
fn llvm_versions_parse() {
    assert_eq!(
        parse_llvm_version("rustc 1.96.0\nhost: x\nLLVM version: 22.1.8\n"),
        Some(22)
    );
    assert_eq!(parse_llvm_version("rustc 1.96.0\n"), None);
    let library = |name: &str| format!("\tlinux-vdso.so.1 (0x0)\n\t{name} => /lib/{name} (0x0)\n");
    assert_eq!(parse_llvm_library(&library("libLLVM.so.22.1")), Some(22));
    assert_eq!(parse_llvm_library(&library("libLLVM-16.so.1")), Some(16));
    assert_eq!(parse_llvm_library(&library("libc.so.6")), None);
}
