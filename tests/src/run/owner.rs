//! Who owns a run: a process id with the start time that tells it from a later namesake.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// A process, identified beyond the reuse of its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
}

impl Owner {
    /// The calling process.
    ///
    /// # Errors
    ///
    /// When `/proc` is not there.
    pub fn this_process() -> Result<Self> {
        let pid = std::process::id();
        let start_time = start_time(pid).with_context(|| format!("read /proc/{pid}/stat"))?;
        Ok(Self { pid, start_time })
    }

    /// Does the process still run?
    pub fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }
}

/// Start time of a process, if it is there and not a zombie.
fn start_time(pid: u32) -> Option<u64> {
    start_time_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of a `/proc/<pid>/stat` line. The name in field 2 may hold spaces and brackets.
fn start_time_in(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    if state == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_start_time_behind_any_name() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for (name, state, expected) in [
            ("weir", "S", Some(4711)),
            ("a) (b", "R", Some(4711)),
            ("weir", "Z", None),
        ] {
            assert_eq!(
                start_time_in(&format!("77 ({name}) {state} {rest}")),
                expected,
                "{name}"
            );
        }
        assert_eq!(start_time_in("77"), None);
    }

    #[test]
    fn this_process_is_alive_and_its_predecessor_is_not() {
        let mut owner = Owner::this_process().unwrap();
        assert!(owner.is_alive());
        owner.start_time -= 1;
        assert!(!owner.is_alive());
    }
}
