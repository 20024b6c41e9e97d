//! Where Debian's archives are, from what this machine itself is installed from.

use std::env;
use std::process::Command;

use anyhow::Context as _;

use crate::process;
use crate::vm::kernels::Archive;

/// Overrides the mirror of the main archive, on machines that are not Debian.
const MAIN: &str = "WEIR_DEBIAN_MIRROR";

/// Overrides the mirror of the security archive.
const SECURITY: &str = "WEIR_DEBIAN_SECURITY_MIRROR";

/// The address of an archive.
pub fn of(archive: Archive) -> anyhow::Result<String> {
    let variable = match archive {
        Archive::Main => MAIN,
        Archive::Security => SECURITY,
    };
    if let Ok(address) = env::var(variable) {
        return Ok(address);
    }
    let mut command = Command::new("apt-get");
    command.args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE)",
        "Created-By: Packages",
    ]);
    let targets = process::read(&mut command)?;
    choose(&targets, archive).with_context(|| {
        format!(
            "apt's sources on this machine name no Debian archive ({archive:?}); set {variable} \
             to the address of a mirror"
        )
    })
}

/// Picks the first fitting line of `ADDRESS RELEASE`.
///
/// An archive is told by the end of its address, because third parties use Debian's release names
/// for repositories of their own.
fn choose(targets: &str, archive: Archive) -> Option<String> {
    let folder = match archive {
        Archive::Main => "/debian",
        Archive::Security => "/debian-security",
    };
    targets
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(address, _)| address.trim_end_matches('/'))
        .find(|address| address.ends_with(folder))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::choose;
    use crate::vm::kernels::Archive::{Main, Security};

    const TARGETS: &str = "https://vendor.example/apt/ bookworm\n\
                           http://mirror.example/debian-security/ bookworm-security\n\
                           http://mirror.example/debian/ bookworm-updates\n\
                           http://mirror.example/debian/ bookworm\n";

    #[test]
    fn archives_are_found_among_foreign_repositories() {
        assert_eq!(
            choose(TARGETS, Main).as_deref(),
            Some("http://mirror.example/debian")
        );
        assert_eq!(
            choose(TARGETS, Security).as_deref(),
            Some("http://mirror.example/debian-security")
        );
    }

    #[test]
    fn machine_without_debian_has_none() {
        assert_eq!(choose("http://mirror.example/ubuntu/ noble\n", Main), None);
        assert_eq!(choose("", Security), None);
    }
}
