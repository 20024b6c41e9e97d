//! A real Kubernetes control plane for tests: etcd, the API server and, if wanted, the controllers
//! that make `EndpointSlice`s.
//!
//! The programs are those of the folder that `KUBEBUILDER_ASSETS` names, as in the tests of
//! operators. Each control plane has ports, certificates and data of its own in a folder that goes
//! with it; its processes are ended by their ids, also while a panic unwinds, and when this process
//! is killed. Those in a cluster are in its cgroup: whoever removes what was left of a cluster ends
//! them, too.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::Place;

mod builder;
mod certificates;
mod client;
mod cluster;
mod running;

pub use builder::Builder;
pub use client::{Client, Response};

use running::{Running, await_answer, tail};

/// Names the folder with the programs.
pub const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// What may be asked with it is everything.
const ADMIN_TOKEN: &str = "test-admin-token";
/// A user that may do nothing until [`ControlPlane::grant_agent_role`].
pub const AGENT_TOKEN: &str = "agent-token";

/// Whether there are programs to run; says why not, once for each test.
pub fn is_available() -> bool {
    let is_there = assets().is_some();
    if !is_there {
        println!("SKIPPED: {ASSETS} names no folder with etcd and kube-apiserver");
    }
    is_there
}

/// Fails, with what to do, where there are none.
///
/// # Errors
///
/// When the variable names no folder with them.
pub fn require() -> Result<()> {
    let missing = "no API server to run: set KUBEBUILDER_ASSETS to a folder with etcd and \
                   kube-apiserver, as for the tests of operators";
    assets().map(drop).context(missing)
}

fn assets() -> Option<PathBuf> {
    // Programs are started in folders of their own.
    let folder = std::path::absolute(std::env::var_os(ASSETS)?).ok()?;
    let has = |program: &str| folder.join(program).is_file();
    (has("kube-apiserver") && has("etcd")).then_some(folder)
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
    folder: PathBuf,
    /// Removes the folder, unless it goes with a cluster.
    _own: Option<TempDir>,
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
        self.folder.join("kubeconfig")
    }

    fn url_host(&self) -> String {
        match self.host {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        }
    }

    /// The text of a kubeconfig with this server's address and authority and the given token.
    ///
    /// # Errors
    ///
    /// When the certificate cannot be read.
    pub fn kubeconfig_for(&self, host: &str, port: u16, token: &str) -> Result<String> {
        let authority = fs::read(self.folder.join("ca.crt")).context("read ca.crt")?;
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
    pub fn client(&self) -> Client {
        Client::new(self.place.clone(), self.kubeconfig())
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
        let client = self.client();
        let answers = || {
            // Ready is said before the namespace `default` is there, and its first Service after that:
            // until then Services of others may be refused.
            for path in ["/readyz", "/api/v1/namespaces/default/services/kubernetes"] {
                let response = client.get(path)?;
                if response.status != 200 {
                    bail!("{path}: status {}: {}", response.status, response.text);
                }
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
        let client = self.client();
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
            format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n{AGENT_TOKEN},agent,agent\n");
        fs::write(self.folder.join("tokens.csv"), tokens).context("write tokens.csv")?;
        let text = self.kubeconfig_for(&self.url_host(), self.ports.api, ADMIN_TOKEN)?;
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
            .open(self.folder.join(format!("{program}.log")))
            .context("open a log")?;
        command
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            // Ctrl-C is for the test.
            .process_group(0);
        if self.place.is_none() {
            // SAFETY: the closure makes one system call and allocates nothing, as code between fork
            // and exec must.
            unsafe {
                command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
            }
        }
        Ok(command)
    }

    /// The last lines of a program's log.
    pub fn log_tail(&self, program: &str) -> String {
        tail(&self.folder.join(format!("{program}.log")))
    }
}

/// What 1.20 has behind gates and later versions have anyway.
const FEATURES: &str = "--feature-gates=EndpointSliceNodeName=true,\
                        EndpointSliceTerminatingCondition=true,IPv6DualStack=true,\
                        MixedProtocolLBService=true";

/// Loopback cannot be advertised.
fn advertised(host: IpAddr) -> IpAddr {
    if host.is_loopback() {
        IpAddr::from([10, 255, 255, 1])
    } else {
        host
    }
}
