//! What a nested cargo may inherit from the cargo that runs a build script.
//!
//! A build script sees dozens of variables that describe *its* build: the outer compiler, flags,
//! target directory and package. Any of them would bend the build of the kernel programs.

/// Cargo settings that describe the user's network or terminal, not a build.
const INHERITED_PREFIXES: [&str; 5] = [
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

/// What describes the outer build and has no telling prefix.
const DROPPED: [&str; 12] = [
    "CARGO",
    "DEBUG",
    "HOST",
    // The libraries of the outer toolchain; the nested cargo adds its own.
    "LD_LIBRARY_PATH",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "TARGET",
];

const DROPPED_PREFIXES: [&str; 4] = ["CARGO_", "CLIPPY_", "RUSTC_", "RUSTDOC"];

/// Tells whether the nested cargo keeps an environment variable of its parent.
pub(crate) fn is_inherited(name: &str) -> bool {
    let begins_with = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    // `CARGO_MAKEFLAGS` is the job server: it keeps both builds within one set of cores.
    matches!(name, "CARGO_HOME" | "CARGO_MAKEFLAGS")
        || begins_with(&INHERITED_PREFIXES)
        || !(DROPPED.contains(&name) || begins_with(&DROPPED_PREFIXES))
}

#[cfg(test)]
mod tests {
    use super::is_inherited;

    #[test]
    fn settings_of_the_outer_build_are_dropped() {
        for name in [
            "CARGO",
            "CARGO_BUILD_TARGET",
            "CARGO_CFG_TARGET_ARCH",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_MANIFEST_DIR",
            "CARGO_PROFILE_RELEASE_DEBUG",
            "CARGO_TARGET_DIR",
            "LD_LIBRARY_PATH",
            "OUT_DIR",
            "RUSTC",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "TARGET",
        ] {
            assert!(!is_inherited(name), "{name} leaks into the eBPF build");
        }
    }

    #[test]
    fn settings_of_the_user_are_kept() {
        for name in [
            "CARGO_HOME",
            "CARGO_HTTP_PROXY",
            "CARGO_MAKEFLAGS",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
            "CARGO_TERM_COLOR",
            "HOME",
            "HTTPS_PROXY",
            "PATH",
            "RUSTUP_HOME",
        ] {
            assert!(is_inherited(name), "{name} does not reach the eBPF build");
        }
    }
}
