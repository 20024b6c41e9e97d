//! Where on a machine the parts of a toolchain may lie.
//!
//! The search itself (`toolchain.rs`) sees the machine only through this struct, so that tests
//! can lay out a machine in a temporary folder.

use std::env;
use std::path::{Path, PathBuf};

/// The folders the search looks into.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Places {
    /// Prefix of the distribution's compiler: `/usr`.
    pub usr: PathBuf,
    /// The package database whose change means that a package came or went.
    pub package_database: PathBuf,
    /// The folders of `PATH`, in order.
    pub path: Vec<PathBuf>,
    /// Cargo's home, whose `bin` folder receives what `cargo install` builds.
    pub cargo_home: Option<PathBuf>,
    /// rustup's home, whose `toolchains` folder holds one folder per toolchain.
    pub rustup_home: Option<PathBuf>,
}

impl Places {
    /// The places of the machine and user this process runs as.
    pub fn of_this_machine() -> Self {
        let home = env::home_dir();
        let below_home = |name: &str| home.as_ref().map(|home| home.join(name));
        let or_below_home = |variable: &str, name: &str| {
            env::var_os(variable)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
                .or(below_home(name))
        };
        Self {
            usr: PathBuf::from("/usr"),
            package_database: PathBuf::from("/var/lib/dpkg/status"),
            path: env::var_os("PATH")
                .map(|p| env::split_paths(&p).collect())
                .unwrap_or_default(),
            cargo_home: or_below_home("CARGO_HOME", ".cargo"),
            rustup_home: or_below_home("RUSTUP_HOME", ".rustup"),
        }
    }

    /// Finds a program by name on `PATH`, then in cargo's `bin` folder: a shell that never read
    /// rustup's profile lines does not have the latter on its `PATH`.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let cargo_bin = self.cargo_home.iter().map(|home| home.join("bin"));
        self.path
            .iter()
            .cloned()
            .chain(cargo_bin)
            .map(|dir| dir.join(name))
            .find(|p| runs(p))
    }
}

/// Tells whether a path is a file that somebody may execute.
pub(crate) fn runs(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
