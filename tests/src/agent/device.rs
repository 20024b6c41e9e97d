//! The service `weir-agent wireguard` of a node, as its DaemonSet or unit runs it: apart from the
//! agent, in a cgroup of its own.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

use super::{DIRECTORY, confined};
use crate::Place;
use crate::binary::Binary;

/// The service.
#[derive(Debug)]
pub struct DeviceService {
    place: Place,
    capabilities: Vec<String>,
    child: Mutex<Option<Child>>,
}

impl DeviceService {
    /// Makes its cgroup; nothing runs yet.
    pub(super) fn prepare(place: &Place, capabilities: &[String]) -> Result<Self> {
        let place = place.in_cgroup("wireguard");
        let cgroup = place.cgroup();
        std::fs::create_dir(cgroup).with_context(|| format!("create {}", cgroup.display()))?;
        Ok(Self {
            place,
            capabilities: capabilities.to_owned(),
            child: Mutex::default(),
        })
    }

    /// Starts it, unless it runs. What it says goes to `log`.
    pub(super) fn start_once(&self, log: &File) -> Result<()> {
        let mut child = self.child();
        if child.is_some() {
            return Ok(());
        }
        let mut command = confined(&self.place, Binary::Agent, &self.capabilities)?;
        command
            .args(["wireguard", "--config", &format!("{DIRECTORY}/agent.yaml")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log.try_clone().context("share the log")?)
            .process_group(0);
        *child = Some(command.spawn().context("start the device's service")?);
        Ok(())
    }

    /// Kills it with SIGKILL; whoever runs it would start it again, see [`super::Agent::restart_device`].
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn kill9(&self) -> Result<()> {
        let mut child = self
            .child()
            .take()
            .context("the device's service does not run")?;
        child.kill().context("kill the device's service")?;
        child.wait().context("wait for the device's service")?;
        Ok(())
    }

    /// Lets go of the process: it will outlive the cluster object.
    pub(super) fn detach(&self) {
        self.child().take();
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        // A panic under the lock leaves a child or none: both are good states.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DeviceService {
    fn drop(&mut self) {
        // Not running is as good.
        let _ = self.kill9();
    }
}
