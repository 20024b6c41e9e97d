//! `weir uninstall`: hands over to `weir-agent uninstall`, which knows what is attached where.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, anyhow};

use crate::failure::Failure;

const AGENT: &str = "weir-agent";

/// Replaces this process. Returns only if that failed.
pub(crate) fn run(arguments: &[OsString]) -> Result<(), Failure> {
    let own = env::current_exe().context("finding this program")?;
    let agent = find_agent(&own, env::var_os("PATH").as_deref()).ok_or_else(|| {
        anyhow!(
            "there is no {AGENT} beside {} nor in PATH; run `{AGENT} uninstall` where it is",
            own.display()
        )
    })?;
    let error = Command::new(&agent).arg("uninstall").args(arguments).exec();
    Err(anyhow!("{}: {error}", agent.display()).into())
}

/// The agent beside this program, else the first in the search path.
fn find_agent(own: &Path, search_path: Option<&OsStr>) -> Option<PathBuf> {
    let beside = own.parent().map(Path::to_owned);
    let searched: Vec<_> = search_path.into_iter().flat_map(env::split_paths).collect();
    let mut candidates = beside
        .into_iter()
        .chain(searched)
        .map(|folder| folder.join(AGENT));
    candidates.find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_agent_beside_this_program_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        for folder in [&one, &two] {
            fs::create_dir(folder).unwrap();
        }
        let own = one.join("weir");
        let path = || Some(two.as_os_str());
        assert_eq!(find_agent(&own, path()), None);
        fs::write(two.join(AGENT), "").unwrap();
        assert_eq!(find_agent(&own, path()), Some(two.join(AGENT)));
        assert_eq!(find_agent(&own, None), None);
        fs::write(one.join(AGENT), "").unwrap();
        assert_eq!(find_agent(&own, path()), Some(one.join(AGENT)));
    }
}
