//! The agent of a node as a process: started, awaited, killed, adopted.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::binary::Binary;
use crate::run::cgroup;
use crate::{Place, wait};

mod config;
mod device;
mod pins;
mod status;

pub use config::AgentConfig;
pub use device::DeviceService;
pub use status::Status;

/// Directory of the agent's files, as the node sees it.
const DIRECTORY: &str = "/run/weir";
/// Name of the file in that directory by which an agent asks an API server.
pub const KUBECONFIG: &str = "kubeconfig";
/// Exit code of `weir status` while the agent starts.
const STARTING: i32 = 4;
/// Exit code of `weir status` when something does not work.
const DEGRADED: i32 = 5;
/// How long an agent may take to become ready, or to end.
const DEADLINE: Duration = Duration::from_mins(1);

/// The agent of one node. All methods take `&self`, as an operator at the node would act.
#[derive(Debug)]
pub struct Agent {
    place: Place,
    directory: PathBuf,
    child: Mutex<Option<Child>>,
    /// Which build is started next.
    program: Mutex<Binary>,
    /// See [`AgentConfig::capabilities`].
    capabilities: Vec<String>,
    /// The service `weir-agent wireguard`, if the configuration wants one.
    device: Option<DeviceService>,
}

impl Agent {
    /// Writes the configuration; nothing runs yet.
    ///
    /// `run` is the node's `/run` as it is seen from outside.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub(crate) fn prepare(place: Place, run: &Path, config: &AgentConfig) -> Result<Self> {
        let directory = run.join("weir");
        let separate = &config.encryption_settings["wireguard"]["process"] == "separate";
        let device = separate
            .then(|| DeviceService::prepare(&place, &config.device_capabilities))
            .transpose()?;
        let agent = Self {
            place,
            directory,
            child: Mutex::new(None),
            program: Mutex::new(Binary::Agent),
            capabilities: config.capabilities.clone(),
            device,
        };
        fs::create_dir_all(agent.manifests())
            .with_context(|| format!("create {}", agent.manifests().display()))?;
        agent.configure(config)?;
        Ok(agent)
    }

    /// Writes another configuration, for the next start.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn configure(&self, config: &AgentConfig) -> Result<()> {
        let text = serde_yaml_ng::to_string(&config.to_json(self.place.name()))?;
        let path = self.directory.join("agent.yaml");
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Its directory, with configuration, manifests and state, as it is seen from outside the node.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The agent's manifests directory, as it is seen from outside the node.
    pub fn manifests(&self) -> PathBuf {
        self.directory.join("manifests")
    }

    /// The agent's log, as it is seen from outside the node.
    pub fn log(&self) -> PathBuf {
        self.directory.join("agent.log")
    }

    /// Starts the agent and returns when it is ready.
    ///
    /// # Errors
    ///
    /// When it runs already, ends early or is not ready in time; the text ends with its log.
    pub fn start(&self) -> Result<()> {
        self.launch()?;
        self.wait_ready()
    }

    /// The service of the node's userspace device, which runs beside the agent.
    ///
    /// # Errors
    ///
    /// When the configuration wants none.
    pub fn device_service(&self) -> Result<&DeviceService> {
        let service = self.device.as_ref();
        service.with_context(|| self.about("the agent runs the device itself"))
    }

    /// Starts the device's service again after it was killed, as whoever runs it does.
    ///
    /// # Errors
    ///
    /// When the configuration wants none, or it cannot be started.
    pub fn restart_device(&self) -> Result<()> {
        self.device_service()?.start_once(&self.open_log()?)
    }

    /// Starts the agent without waiting.
    ///
    /// # Errors
    ///
    /// When it runs already or cannot be started.
    pub fn launch(&self) -> Result<()> {
        let mut child = self.child();
        if child.is_some() {
            bail!("the agent of {} runs already", self.place.name());
        }
        if let Some(device) = &self.device {
            device.start_once(&self.open_log()?)?;
        }
        let log = self.open_log()?;
        let mut command = self.command()?;
        command.args(["run", "--config", &format!("{DIRECTORY}/agent.yaml")]);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log);
        // Ctrl-C is for the test: the agent ends by what the test does, or with its cluster.
        command.process_group(0);
        *child = Some(
            command
                .spawn()
                .with_context(|| self.about("start the agent"))?,
        );
        Ok(())
    }

    /// `weir-agent` on this node, for other subcommands than `run`.
    ///
    /// # Errors
    ///
    /// When there is no such program or the node is gone.
    pub fn command(&self) -> Result<Command> {
        self.command_with(&self.capabilities)
    }

    /// The same, with these capabilities alone and no way to others, as a container has them.
    ///
    /// # Errors
    ///
    /// When there is no such program or the node is gone.
    pub fn command_with(&self, capabilities: &[String]) -> Result<Command> {
        let program = *self.program.lock().unwrap_or_else(PoisonError::into_inner);
        confined(&self.place.in_cgroup("agent"), program, capabilities)
    }

    /// Replaces the program, as an upgrade does: the next start is of this one.
    pub fn install(&self, program: Binary) {
        *self.program.lock().unwrap_or_else(PoisonError::into_inner) = program;
    }

    /// Waits until the agent says that it is ready.
    ///
    /// # Errors
    ///
    /// When it ends or is not ready in time; the text ends with its log.
    pub fn wait_ready(&self) -> Result<()> {
        let what = self.about("the agent to be ready");
        let ready = wait::until(&what, DEADLINE, || {
            if let Some(status) = self.ended()? {
                // Waiting longer would not help: an inner error ends the wait.
                return Ok(Err(anyhow!("the agent ended: {status}")));
            }
            let status = self.status()?;
            if !status.is_synced() || !status.is_ready() {
                bail!("it starts: {}", status.0["waiting_for"]);
            }
            Ok(Ok(()))
        });
        ready
            .and_then(|inner| inner)
            .with_context(|| self.log_tail(30))
    }

    /// Runs `weir` on this node and returns its standard output.
    ///
    /// # Errors
    ///
    /// When it fails; the text holds its standard error.
    pub fn weir(&self, arguments: &[&str]) -> Result<String> {
        let output = self.weir_output(arguments)?;
        self.place.text_of("weir", &output)
    }

    /// Runs `weir` on this node and returns all that came of it.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn weir_output(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.place.command(Binary::Cli.path()?)?;
        command.args(arguments).stdin(Stdio::null());
        command.output().with_context(|| self.about("start weir"))
    }

    /// What the agent says of itself, well or not.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn status(&self) -> Result<Status> {
        let output = self.weir_output(&["status", "-o", "json"])?;
        if !matches!(output.status.code(), Some(0 | STARTING | DEGRADED)) {
            self.place.text_of("weir status", &output)?;
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let value = serde_json::from_str(&text);
        value
            .map(Status)
            .with_context(|| format!("weir status printed {text:?}"))
    }

    /// Kills the agent with SIGKILL and returns when it is gone.
    ///
    /// # Errors
    ///
    /// When none runs, or it had ended by itself.
    pub fn kill9(&self) -> Result<()> {
        let status = self.end(Signal::SIGKILL)?;
        if status.signal() != Some(libc::SIGKILL) {
            bail!(
                "{}\n{}",
                self.about("the agent had ended before"),
                self.log_tail(30)
            );
        }
        Ok(())
    }

    /// Asks the agent to end with SIGTERM and returns its status.
    ///
    /// # Errors
    ///
    /// When none runs or it does not end in time.
    pub fn stop(&self) -> Result<ExitStatus> {
        self.end(Signal::SIGTERM)
    }

    /// Ends all processes of the agent's cgroup at once, as a container runtime ends a container,
    /// and returns when the agent is gone.
    ///
    /// # Errors
    ///
    /// When none runs or it does not end in time.
    pub fn kill_cgroup(&self) -> Result<()> {
        cgroup::kill(self.place.in_cgroup("agent").cgroup())?;
        self.end(Signal::SIGKILL).map(drop)
    }

    fn end(&self, signal: Signal) -> Result<ExitStatus> {
        let mut guard = self.child();
        let child = guard
            .as_mut()
            .with_context(|| self.about("no agent to end"))?;
        let pid = Pid::from_raw(child.id().cast_signed());
        // Already gone is for the status to tell.
        let _ = kill(pid, signal);
        let status = wait::until(&self.about("the agent to end"), DEADLINE, || {
            child
                .try_wait()
                .context("wait for it")?
                .ok_or_else(|| anyhow!("it still runs"))
        })?;
        *guard = None;
        Ok(status)
    }

    /// Status of the agent if it ended by itself.
    ///
    /// # Errors
    ///
    /// When none was started.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        let mut child = self.child();
        let child = child
            .as_mut()
            .with_context(|| self.about("no agent was started"))?;
        child.try_wait().context("wait for the agent")
    }

    /// The last `lines` of the log, with a heading.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let from = text.lines().count().saturating_sub(lines);
        let tail: Vec<_> = text.lines().skip(from).collect();
        format!(
            "log of the agent of {}:\n{}",
            self.place.name(),
            tail.join("\n")
        )
    }

    fn open_log(&self) -> Result<File> {
        let path = self.log();
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        writeln!(log, "--- start").context("write to the log")?;
        Ok(log)
    }

    fn about(&self, what: &str) -> String {
        format!("{}: {what}", self.place.name())
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        // A panic under the lock leaves a child or none: both are good states.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the process: it will outlive the cluster object.
    pub(crate) fn detach(&self) {
        self.child().take();
        self.device.iter().for_each(DeviceService::detach);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child().take() {
            // Errors mean that it is gone; waiting makes sure that no zombie stays.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A build of `weir-agent` in a place, with these capabilities alone and no way to others; with all
/// of root's if none is named.
fn confined(place: &Place, program: Binary, capabilities: &[String]) -> Result<Command> {
    let agent = program.path()?;
    if capabilities.is_empty() {
        return place.command(agent);
    }
    let mut command = place.command("setpriv")?;
    let kept = capabilities.iter().map(|name| format!(",+{name}"));
    command
        .arg(format!("--bounding-set=-all{}", kept.collect::<String>()))
        .args(["--inh-caps=-all", "--no-new-privs", "--"])
        .arg(agent);
    Ok(command)
}
