//! One nested cargo call that turns the package `ebpf-programs` into eBPF objects.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::environment::is_inherited;
use crate::places::runs;
use crate::toolchain::{Flavor, Toolchain};

/// The binaries of package `ebpf-programs`; each becomes one object of the same name.
pub const BINARIES: [&str; 2] = ["weir-datapath", "weir-bench"];

const TARGET: &str = "bpfel-unknown-none";

/// What to compile, and where to.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Folder of the workspace's `Cargo.toml`.
    pub workspace: &'a Path,
    /// Folder that receives everything cargo writes.
    pub target_dir: &'a Path,
    /// Architecture of the kernel the programs run under, in Rust's words: `x86_64`. It decides
    /// how the programs read `struct pt_regs`.
    pub arch: &'a str,
    /// Features of the package: none for programs as they are released.
    pub features: &'a [&'a str],
}

/// The outcome of a successful build.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Compiled {
    /// Folder that holds one file per name in [`BINARIES`].
    pub objects: PathBuf,
    /// The compiler's warnings as it rendered them; empty for a clean build.
    pub warnings: String,
}

/// The kernel programs did not compile.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Cargo could not be started.
    #[error("cannot start {}", cargo.display())]
    Start {
        /// The cargo of the eBPF toolchain.
        cargo: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Cargo ran and failed.
    #[error("the kernel programs do not compile ({status}, {version}):\n\n{diagnostics}")]
    Rejected {
        /// How cargo ended.
        status: std::process::ExitStatus,
        /// The compiler that was used.
        version: String,
        /// Everything cargo, the compiler and the linker said.
        diagnostics: String,
    },
}

/// Compiles all kernel programs in release profile; blocks until cargo ends.
///
/// Safe to call from a build script: nothing of the outer build reaches the inner one.
pub fn compile(toolchain: &Toolchain, request: Request<'_>) -> Result<Compiled, CompileError> {
    let mut command = Command::new(&toolchain.compiler.cargo);
    command.arg("build");
    configure(&mut command, toolchain, request);
    let output = command.output().map_err(|source| CompileError::Start {
        cargo: toolchain.compiler.cargo.clone(),
        source,
    })?;
    let diagnostics = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(CompileError::Rejected {
            status: output.status,
            version: toolchain.compiler.version.clone(),
            diagnostics,
        });
    }
    Ok(Compiled {
        objects: request.target_dir.join(TARGET).join("release"),
        warnings: warnings_in(&diagnostics),
    })
}

/// The call that runs clippy over the kernel programs, or none where the toolchain has no clippy.
///
/// Warnings fail it. The caller decides where its output goes.
pub fn clippy(toolchain: &Toolchain, request: Request<'_>) -> Option<Command> {
    // Called by path: `cargo clippy` would look on PATH, and find the one of another toolchain.
    let program = toolchain.compiler.cargo.with_file_name("cargo-clippy");
    if !runs(&program) || !runs(&program.with_file_name("clippy-driver")) {
        return None;
    }
    let mut command = Command::new(program);
    command
        .arg("clippy")
        .env("CARGO", &toolchain.compiler.cargo);
    configure(&mut command, toolchain, request);
    command.args(["--", "--deny=warnings"]);
    Some(command)
}

/// Adds the arguments and variables that any verb of cargo needs to handle the programs.
fn configure(command: &mut Command, toolchain: &Toolchain, request: Request<'_>) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| !is_inherited(name)) && name != "CARGO" {
            command.env_remove(name);
        }
    }
    command
        .current_dir(request.workspace)
        .env("RUSTC", &toolchain.compiler.rustc)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            flags(toolchain, request.arch).join("\u{1f}"),
        )
        // The outer cargo has just written or checked the lock file both builds share.
        .args(["--locked", "--release", "--package", "ebpf-programs"])
        .args(BINARIES.iter().flat_map(|name| ["--bin", name]))
        .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(request.target_dir)
        .arg(format!("--features={}", request.features.join(",")))
        .stdin(Stdio::null());
    match toolchain.compiler.flavor {
        Flavor::Distribution => {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        Flavor::RustupNightly => {
            // A bpf-linker without an LLVM of its own borrows the one of the first `rustc` on
            // PATH, and that must be the one that wrote the bitcode.
            let bin = toolchain.compiler.rustc.parent().map(Path::to_path_buf);
            let path = env::var_os("PATH").unwrap_or_default();
            if let Ok(path) = env::join_paths(bin.into_iter().chain(env::split_paths(&path))) {
                command.env("PATH", path);
            }
        }
    }
}

fn flags(toolchain: &Toolchain, arch: &str) -> Vec<String> {
    vec![
        format!("-Clinker={}", toolchain.linker.path.display()),
        "-Clink-arg=--btf".to_owned(),
        // BTF is made from the debug information of every crate, `core` included.
        "-Cdebuginfo=2".to_owned(),
        // 32-bit jumps and arithmetic: kernel 5.1 and later.
        "-Ctarget-cpu=v3".to_owned(),
        format!("--cfg=bpf_target_arch=\"{arch}\""),
    ]
}

/// Cuts the progress lines of cargo off, so that what remains is worth a reader's time.
fn warnings_in(diagnostics: &str) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in diagnostics.lines() {
        if line.starts_with("warning") {
            inside = true;
        } else if line.trim_start().starts_with("Compiling ") || line.contains("Finished `") {
            inside = false;
        }
        if inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::warnings_in;

    #[test]
    fn progress_is_not_a_warning() {
        let clean = "   Compiling core v0.0.0\n    Finished `release` profile in 3s\n";
        assert_eq!(warnings_in(clean), "");
    }

    #[test]
    fn warnings_survive_between_progress_lines() {
        let text = "   Compiling ebpf-programs v0.1.0\n\
                    warning: unused variable: `x`\n --> src/main.rs:3:9\n\n\
                    \x20   Finished `release` profile in 3s\n";
        assert_eq!(
            warnings_in(text),
            "warning: unused variable: `x`\n --> src/main.rs:3:9\n\n"
        );
    }
}
