//! The agent's long-running tasks, and how they end together.
//!
//! Tasks run until the token is cancelled. One that ends before, well or badly, means the agent no
//! longer does its work, so everything else is stopped too and the process ends: whoever started
//! the agent starts it again, and the data plane works on meanwhile.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::Signal;

/// Named tasks that live as long as the agent.
#[derive(Debug, Default)]
pub struct TaskSet {
    tasks: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, &'static str>,
    token: CancellationToken,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Why the tasks were asked to end, if it was a task: its name and what it said.
    pub failure: Option<anyhow::Error>,
    /// Tasks that had not ended at the deadline and were cut off.
    pub cut_off: Vec<&'static str>,
}

impl TaskSet {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the tasks shall end. Tasks hold a clone and, once it is cancelled, finish
    /// what they have in hand and return.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Starts a task.
    pub fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let handle = self.tasks.spawn(task);
        self.names.insert(handle.id(), name);
    }

    /// Starts a task that blocks, on a thread of its own. It cannot be cut off: at the deadline it
    /// is left behind.
    pub fn spawn_blocking(
        &mut self,
        name: &'static str,
        task: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) {
        let handle = self.tasks.spawn_blocking(task);
        self.names.insert(handle.id(), name);
    }

    /// Runs until the first of `requests` or until a task ends unasked, then cancels the token and
    /// gives the tasks `grace` to end. A further request ends the grace.
    pub async fn run(
        mut self,
        requests: impl Stream<Item = Signal> + Unpin,
        grace: Duration,
    ) -> Outcome {
        let mut requests = requests.chain(futures::stream::pending());
        let failure = tokio::select! {
            Some(signal) = requests.next() => {
                tracing::info!(%signal, ?grace, "stopping; the data plane works on");
                None
            }
            Some((name, result)) = self.next() => Some(unasked(name, result)),
        };
        self.token.cancel();
        let drained = async {
            while let Some((name, result)) = self.next().await {
                match result {
                    Ok(Ok(())) => tracing::debug!(task = name, "ended"),
                    Ok(Err(error)) => tracing::warn!(task = name, "ended badly: {error:#}"),
                    Err(error) => tracing::warn!(task = name, "ended badly: {error}"),
                }
            }
        };
        tokio::select! {
            () = drained => {}
            () = tokio::time::sleep(grace) => {}
            Some(signal) = requests.next() => tracing::warn!(%signal, "stopping at once"),
        }
        let mut cut_off: Vec<_> = self.names.into_values().collect();
        cut_off.sort_unstable();
        self.tasks.abort_all();
        Outcome { failure, cut_off }
    }

    /// The next task to end; `None` once there are none.
    async fn next(&mut self) -> Option<(&'static str, Result<anyhow::Result<()>, JoinError>)> {
        let joined = self.tasks.join_next_with_id().await?;
        let (id, result) = match joined {
            Ok((id, result)) => (id, Ok(result)),
            Err(error) => (error.id(), Err(error)),
        };
        let name = self
            .names
            .remove(&id)
            .expect("every task is named when it is spawned");
        Some((name, result))
    }
}

fn unasked(name: &'static str, result: Result<anyhow::Result<()>, JoinError>) -> anyhow::Error {
    match result {
        Ok(Ok(())) => anyhow::anyhow!("task {name:?} ended although nobody asked it to"),
        Ok(Err(error)) => error.context(format!("task {name:?} failed")),
        Err(error) => anyhow::Error::new(error).context(format!("task {name:?} crashed")),
    }
}

impl Outcome {
    /// As the result of the program: an error if a task was the reason to stop.
    pub fn into_result(self) -> anyhow::Result<()> {
        if !self.cut_off.is_empty() {
            tracing::warn!(tasks = ?self.cut_off, "cut off, they did not end in time");
        }
        self.failure.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    /// So many requests to stop, at once.
    fn requests(count: usize) -> impl Stream<Item = Signal> + Unpin {
        futures::stream::iter(vec![Signal::Terminate; count])
    }

    /// A task that ends when it is asked to.
    async fn obedient(token: CancellationToken) -> anyhow::Result<()> {
        token.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn a_stop_lets_every_task_end() {
        let mut tasks = TaskSet::new();
        let token = tasks.token();
        tasks.spawn("one", obedient(token.clone()));
        tasks.spawn("two", obedient(token.clone()));
        let outcome = tasks.run(requests(1), GRACE).await;
        assert!(token.is_cancelled());
        assert!(outcome.cut_off.is_empty());
        outcome.into_result().unwrap();
    }

    #[tokio::test]
    async fn a_task_that_ends_unasked_stops_the_others() {
        type Task = fn() -> anyhow::Result<()>;
        let cases: [(Task, &str); 3] = [
            (
                || Ok(()),
                "task \"short\" ended although nobody asked it to",
            ),
            (
                || anyhow::bail!("no disk"),
                "task \"short\" failed: no disk",
            ),
            (|| panic!("as the test wants it"), "task \"short\" crashed"),
        ];
        for (end, expected) in cases {
            let mut tasks = TaskSet::new();
            let token = tasks.token();
            tasks.spawn("long", obedient(token));
            tasks.spawn("short", async move { end() });
            let outcome = tasks.run(requests(0), GRACE).await;
            assert!(
                outcome.cut_off.is_empty(),
                "the other task was asked to end and did"
            );
            let message = format!("{:#}", outcome.into_result().unwrap_err());
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_ignore_the_request_are_cut_off_at_the_deadline() {
        let mut tasks = TaskSet::new();
        tasks.spawn("deaf", pending());
        let token = tasks.token();
        tasks.spawn("obedient", obedient(token));
        let begin = tokio::time::Instant::now();
        let outcome = tasks.run(requests(1), GRACE).await;
        assert_eq!(outcome.cut_off, ["deaf"]);
        assert_eq!(begin.elapsed(), GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_request_does_not_wait() {
        let mut tasks = TaskSet::new();
        tasks.spawn("deaf", pending());
        let begin = tokio::time::Instant::now();
        let outcome = tasks.run(requests(2), GRACE).await;
        assert_eq!(outcome.cut_off, ["deaf"]);
        assert!(begin.elapsed().is_zero());
    }
}
