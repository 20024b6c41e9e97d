//! A real Kubernetes control plane for tests: etcd, the API server and, if wanted, the controllers
//! that make `EndpointSlice`s.
//!
//! The programs are those of the folder that `KUBEBUILDER_ASSETS` names, as in the tests of
//! operators. Each control plane has ports, certificates and data of its own in a folder that goes
//! with it; its processes are ended by their ids, also while a panic unwinds, and when this process
//! is killed.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::{Place, wait};

mod certificates;
mod client;

pub use client::{Client, Response};

/// Names the folder with the programs.
pub const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// How long a program may take to answer, on a machine busy with other tests.
const DEADLINE: Duration = Duration::from_mins(2);
/// What may be asked with it is everything.
const ADMIN_TOKEN: &str = "test-admin-token";

/// Whether there are programs to run; says why not, once for each test.
pub fn is_available() -> bool {
    let is_there = assets().is_some();
    if !is_there {
        println!("SKIPPED: {ASSETS} names no folder with etcd and kube-apiserver");
    }
    is_there
}

fn assets() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os(ASSETS)?);
    folder.join("kube-apiserver").is_file().then_some(folder)
}

/// A control plane to be.
#[derive(Debug, Default)]
pub struct Builder {
    place: Option<Place>,
    addresses: Vec<IpAddr>,
    with_controllers: bool,
}

impl Builder {
    /// In the namespaces of a place, where it listens on all addresses, of which these are told to
    /// others. Without a place it listens on loopback.
    #[must_use]
    pub fn at(mut self, place: &Place, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.place = Some(place.clone());
        self.addresses = addresses.into_iter().collect();
        self
    }

    /// With the controllers that make service accounts and `EndpointSlice`s.
    #[must_use]
    pub fn with_controllers(mut self) -> Self {
        self.with_controllers = true;
        self
    }

    /// Starts it and returns when it answers.
    ///
    /// # Errors
    ///
    /// When there are no programs or one does not come up; nothing is left then.
    pub fn start(self) -> Result<ControlPlane> {
        let assets = assets().with_context(|| format!("{ASSETS} names no folder of programs"))?;
        let folder = tempfile::tempdir().context("make a folder")?;
        let addresses = match &*self.addresses {
            [] => vec![IpAddr::from(Ipv4Addr::LOCALHOST)],
            _ => self.addresses.clone(),
        };
        certificates::write(folder.path(), &addresses)?;
        let mut control_plane = ControlPlane {
            etcd: None,
            api_server: None,
            controllers: None,
            ports: self.ports()?,
            host: addresses[0],
            place: self.place,
            assets,
            folder,
        };
        control_plane.write_files()?;
        control_plane.start_etcd()?;
        control_plane.start_api_server()?;
        if self.with_controllers {
            control_plane.start_controllers()?;
        }
        Ok(control_plane)
    }

    fn ports(&self) -> Result<Ports> {
        let find = || -> Result<Ports> {
            // All at once, so that they differ.
            let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0"));
            let mut ports = [0; 4];
            for (port, listener) in ports.iter_mut().zip(listeners) {
                *port = listener.context("find a free port")?.local_addr()?.port();
            }
            let [api, etcd, peers, controllers] = ports;
            Ok(Ports {
                api,
                etcd,
                peers,
                controllers,
            })
        };
        match &self.place {
            Some(place) => place.run(find)?,
            None => find(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    api: u16,
    etcd: u16,
    peers: u16,
    controllers: u16,
}

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    controllers: Option<Running>,
    api_server: Option<Running>,
    etcd: Option<Running>,
    ports: Ports,
    host: IpAddr,
    place: Option<Place>,
    assets: PathBuf,
    folder: TempDir,
}

impl ControlPlane {
    /// One on loopback, without controllers, until said otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Port of the API server.
    pub fn port(&self) -> u16 {
        self.ports.api
    }

    /// Address of the API server.
    pub fn host(&self) -> IpAddr {
        self.host
    }

    /// A file with which everything may be asked.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// The text of a kubeconfig with this server's address and authority and the given token.
    ///
    /// # Errors
    ///
    /// When the certificate cannot be read.
    pub fn kubeconfig_for(&self, host: &str, port: u16, token: &str) -> Result<String> {
        let authority = fs::read(self.folder.path().join("ca.crt")).context("read ca.crt")?;
        let authority = BASE64_STANDARD.encode(authority);
        let cluster = json!({
            "server": format!("https://{host}:{port}"),
            "certificate-authority-data": authority,
        });
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "test", "cluster": cluster }],
            "users": [{ "name": "test", "user": { "token": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
            "current-context": "test",
        });
        Ok(config.to_string())
    }

    /// A client that may do everything.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn client(&self) -> Result<Client> {
        Ok(Client::new(self.place.clone(), self.kubeconfig()))
    }

    /// Ends the API server, as a crash does, and leaves the data.
    pub fn kill_api_server(&mut self) {
        self.api_server = None;
    }

    /// Starts the API server (again) over the same data and returns when it answers.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start_api_server(&mut self) -> Result<()> {
        let Ports { api, etcd, .. } = self.ports;
        let bind = if self.place.is_some() {
            "::"
        } else {
            "127.0.0.1"
        };
        let mut command = self.command("kube-apiserver")?;
        command.args([
            &format!("--etcd-servers=http://127.0.0.1:{etcd}"),
            &format!("--bind-address={bind}"),
            &format!("--secure-port={api}"),
            &format!("--advertise-address={}", advertised(self.host)),
            "--tls-cert-file=server.crt",
            "--tls-private-key-file=server.key",
            "--client-ca-file=ca.crt",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            // Only controllers make the service accounts that it wants of pods.
            "--disable-admission-plugins=ServiceAccount",
            "--allow-privileged=true",
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=accounts.pub",
            "--service-account-signing-key-file=accounts.key",
            "--profiling=false",
            FEATURES,
        ]);
        self.api_server = Some(Running::start("kube-apiserver", command)?);
        let client = self.client()?;
        let answers = || {
            let response = client.get("/readyz")?;
            if response.status != 200 {
                bail!("status {}: {}", response.status, response.text);
            }
            Ok(())
        };
        await_answer(self.api_server.as_mut(), answers)
    }

    fn start_etcd(&mut self) -> Result<()> {
        let Ports { etcd, peers, .. } = self.ports;
        let (own, peer) = (
            format!("http://127.0.0.1:{etcd}"),
            format!("http://127.0.0.1:{peers}"),
        );
        let mut command = self.command("etcd")?;
        command.args([
            "--name=test",
            "--data-dir=etcd",
            "--unsafe-no-fsync",
            "--log-level=warn",
            &format!("--listen-client-urls={own}"),
            &format!("--advertise-client-urls={own}"),
            &format!("--listen-peer-urls={peer}"),
            &format!("--initial-advertise-peer-urls={peer}"),
            &format!("--initial-cluster=test={peer}"),
        ]);
        self.etcd = Some(Running::start("etcd", command)?);
        let place = self.place.clone();
        let connects = || {
            let connect = || std::net::TcpStream::connect(("127.0.0.1", etcd)).map(drop);
            let connected = match &place {
                Some(place) => place.run(connect)?,
                None => connect(),
            };
            connected.context("connect")
        };
        await_answer(self.etcd.as_mut(), connects)
    }

    fn start_controllers(&mut self) -> Result<()> {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig().display());
        let mut command = self.command("kube-controller-manager")?;
        command.args([
            &kubeconfig,
            &format!("--secure-port={}", self.ports.controllers),
            "--port=0",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--controllers=endpoint,endpointslice,namespace,serviceaccount",
            "--service-account-private-key-file=accounts.key",
            "--root-ca-file=ca.crt",
            "--flex-volume-plugin-dir=flex",
            "--profiling=false",
            FEATURES,
        ]);
        self.controllers = Some(Running::start("kube-controller-manager", command)?);
        let client = self.client()?;
        let has_account = || {
            let path = "/api/v1/namespaces/default/serviceaccounts/default";
            let response = client.get(path)?;
            if response.status != 200 {
                bail!("status {}", response.status);
            }
            Ok(())
        };
        await_answer(self.controllers.as_mut(), has_account)
    }

    fn write_files(&self) -> Result<()> {
        let tokens =
            format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\nagent-token,agent,agent\n");
        fs::write(self.folder.path().join("tokens.csv"), tokens).context("write tokens.csv")?;
        let host = match self.host {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let text = self.kubeconfig_for(&host, self.ports.api, ADMIN_TOKEN)?;
        fs::write(self.kubeconfig(), text).context("write kubeconfig")
    }

    /// A program, in its place, with its log.
    fn command(&self, program: &str) -> Result<Command> {
        let path = self.assets.join(program);
        let mut command = match &self.place {
            Some(place) => place.command(&path)?,
            None => Command::new(&path),
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("{program}.log")))
            .context("open a log")?;
        command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            // Ctrl-C is for the test.
            .process_group(0);
        // SAFETY: the closure makes one system call and allocates nothing, as code between fork and
        // exec must.
        unsafe {
            command
                .pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
        }
        Ok(command)
    }

    /// The last lines of a program's log.
    pub fn log_tail(&self, program: &str) -> String {
        tail(&self.folder.path().join(format!("{program}.log")))
    }
}

/// What 1.20 has behind gates and later versions have anyway.
const FEATURES: &str = "--feature-gates=EndpointSliceNodeName=true,\
                        EndpointSliceTerminatingCondition=true,IPv6DualStack=true";

/// Loopback cannot be advertised.
fn advertised(host: IpAddr) -> IpAddr {
    if host.is_loopback() {
        IpAddr::from([10, 255, 255, 1])
    } else {
        host
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Waits until a program answers; fails at once if it has ended.
fn await_answer(
    running: Option<&mut Running>,
    mut answers: impl FnMut() -> Result<()>,
) -> Result<()> {
    let running = running.context("it was not started")?;
    let name = running.name;
    let answer = wait::until(&format!("{name} to answer"), DEADLINE, || {
        if let Some(status) = running.child.try_wait().context("look at it")? {
            return Ok(Err(anyhow!("{name} ended: {status}")));
        }
        answers().map(Ok)
    });
    answer.and_then(|inner| inner)
}

/// A process that ends with this value.
#[derive(Debug)]
struct Running {
    name: &'static str,
    child: Child,
}

impl Running {
    fn start(name: &'static str, mut command: Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name, child })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors mean that it is gone; waiting makes sure that no zombie stays.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
