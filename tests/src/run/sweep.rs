//! Removing what crashed runs left.

use anyhow::Result;

use super::{Record, all};

/// Removes every run whose owner is dead and that nobody asked to keep.
///
/// Returns the ids removed, and what stood in the way of the others.
pub fn sweep() -> (Vec<String>, Vec<anyhow::Error>) {
    let dead = all()
        .into_iter()
        .filter(|run| !run.kept && !run.owner.is_alive());
    let removed = dead
        .map(|run| run.remove().map(|()| run.id))
        .collect::<Vec<Result<_>>>();
    let mut ids = Vec::new();
    let mut problems = Vec::new();
    for result in removed {
        match result {
            Ok(id) => ids.push(id),
            // Another process may be sweeping the same run; what it removed is no problem.
            Err(_)
                if !all()
                    .iter()
                    .any(|run: &Record| !run.kept && !run.owner.is_alive()) => {}
            Err(error) => problems.push(error),
        }
    }
    (ids, problems)
}
