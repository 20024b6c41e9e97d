//! Wires the parts of the agent together.

use std::time::Duration;

use crate::config::Loaded;
use crate::datapath::interfaces::{DeviceSelector, InterfaceWatcher};
use crate::lifecycle::{Signals, TaskSet};

/// Time the tasks get to end in.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the agent until it is told to stop.
pub async fn run(loaded: Loaded) -> anyhow::Result<()> {
    let signals = Signals::new()?;
    let mut tasks = TaskSet::new();
    let selector = DeviceSelector::from(&loaded.config.devices);
    let (watcher, mut interfaces) = InterfaceWatcher::start(selector)?;
    tasks.spawn("interfaces", watcher.run(tasks.token()));
    tasks.spawn("attach", async move {
        while let Some(event) = interfaces.recv().await {
            tracing::info!(?event, "interface");
        }
        Ok(())
    });
    tasks.run(signals.requests(), GRACE).await.into_result()
}

/// Removes every trace from this node.
pub async fn uninstall(loaded: Loaded) -> anyhow::Result<()> {
    let directory = loaded.config.paths.bpffs.join("weir");
    match tokio::fs::remove_dir_all(&directory).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
