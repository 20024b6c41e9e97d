//! Compiles the kernel programs, or takes prebuilt ones, and leaves them where `src/lib.rs`
//! embeds them from.
//!
//! A missing toolchain is a warning: the userspace crates then build without an object, and say
//! so at run time. Programs that do not compile fail the build.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

use ebpf_build::{BINARIES, MissingToolchain, Request, Toolchain};

/// Folder of prebuilt objects, for builds that must not or cannot compile them.
const PREBUILT: &str = "WEIR_EBPF_OBJECT_DIR";
/// `1` for programs that log, for debugging.
const LOG: &str = "WEIR_EBPF_LOG";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(ebpf_object)");
    println!("cargo::rerun-if-env-changed={PREBUILT}");
    println!("cargo::rerun-if-env-changed={LOG}");
    let out = path_variable("OUT_DIR");
    let result = match env::var_os(PREBUILT).filter(|dir| !dir.is_empty()) {
        Some(dir) => embed(&PathBuf::from(dir), &out),
        None => compile(&out),
    };
    if let Err(message) = result {
        eprintln!("{message}");
        process::exit(1);
    }
}

fn compile(out: &Path) -> Result<(), String> {
    let manifest = path_variable("CARGO_MANIFEST_DIR");
    let workspace = manifest.parent().expect("this package lies in a workspace");
    for source in [
        "Cargo.toml",
        "Cargo.lock",
        "ebpf-programs/Cargo.toml",
        "ebpf-programs/src",
        "ebpf-abi/Cargo.toml",
        "ebpf-abi/src",
    ] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(source).display()
        );
    }
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(missing) => return do_without(&missing, out),
    };
    for path in toolchain.watch() {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it for build scripts");
    let target_dir = out.join("ebpf-target");
    let mut features = Vec::new();
    if cfg!(feature = "log") || log_wanted()? {
        features.push("log");
    }
    if cfg!(feature = "wider-layout") {
        features.push("wider-layout");
    }
    let request = Request {
        workspace,
        target_dir: &target_dir,
        arch: &arch,
        features: &features,
    };
    let compiled = ebpf_build::compile(&toolchain, request).map_err(|error| error.to_string())?;
    for line in compiled.warnings.lines() {
        println!("cargo::warning={line}");
    }
    embed(&compiled.objects, out)
}

fn log_wanted() -> Result<bool, String> {
    match env::var(LOG).as_deref() {
        Ok("1") => Ok(true),
        Ok("" | "0") | Err(env::VarError::NotPresent) => Ok(false),
        _ => Err(format!("{LOG} is neither 1 nor 0")),
    }
}

/// Copies the objects next to the generated code and turns them on.
fn embed(from: &Path, out: &Path) -> Result<(), String> {
    for name in BINARIES {
        let (source, target) = (from.join(name), out.join(format!("{name}.o")));
        if env::var_os(PREBUILT).is_some() {
            println!("cargo::rerun-if-changed={}", source.display());
        }
        fs::copy(&source, &target).map_err(|error| {
            format!("cannot take the eBPF object {}: {error}", source.display())
        })?;
    }
    println!("cargo::rustc-cfg=ebpf_object");
    Ok(())
}

fn do_without(missing: &MissingToolchain, out: &Path) -> Result<(), String> {
    println!("cargo::warning={missing}");
    println!("cargo::warning=building without eBPF objects: the agent will not start");
    for path in &missing.watch {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let reason = out.join("missing.txt");
    fs::write(&reason, missing.to_string())
        .map_err(|error| format!("cannot write {}: {error}", reason.display()))
}

fn path_variable(name: &str) -> PathBuf {
    PathBuf::from(env::var_os(name).expect("cargo sets it for build scripts"))
}
