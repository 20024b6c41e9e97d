//! `cargo xtask kind`: Weir on real Kubernetes, in a cluster of containers without kube-proxy.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::artifacts::{Binaries, Profile};
use crate::engine::Engine;
use crate::report::Skips;
use crate::setup::manifest_tools::ManifestTools;
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{image, process};

/// Name of the cluster.
const CLUSTER: &str = "weir";
/// Name of the image; as nodes know it after it was loaded.
const IMAGE: &str = concat!("weir:kind-", env!("CARGO_PKG_VERSION"));
const NAMESPACE: &str = "weir-system";

/// What the user may ask of it.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Leave the cluster up
    #[arg(long)]
    keep: bool,
    /// Leave the cluster up if something failed
    #[arg(long)]
    keep_failed: bool,
}

/// Runs the suite in a cluster that it makes; its exit code is ours.
pub fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<ExitCode> {
    // kind with podman is experimental, and its nodes are not found by name.
    let docker = Engine::try_named("docker").map_err(|reason| format!("docker: {reason}"));
    let kind = match setup::places().program("kind") {
        Some(_) => Ok(()),
        None => Err("kind: not installed".to_owned()),
    };
    let docker = match (docker, kind) {
        (Ok(docker), Ok(())) => docker,
        (docker, kind) => {
            let reasons: Vec<_> = [docker.err(), kind.err()].into_iter().flatten().collect();
            return Ok(skipped(&reasons.join("; ")));
        }
    };
    setup::ensure(workspace, &[Need::EbpfToolchain, Need::ManifestTools])?;
    let tools = ManifestTools::find(&workspace.target, &setup::places());
    let cluster = Kind {
        workspace,
        docker,
        tools: tools.map_err(anyhow::Error::msg)?,
    };
    let (binaries, _) = Binaries::build(workspace, Profile::Dev, &[])?;
    image::build(workspace, &cluster.docker, IMAGE, None)?;
    let tested = cluster.make().and_then(|()| cluster.test(&binaries.cli));
    let failed = !matches!(tested, Ok(true));
    if options.keep || (options.keep_failed && failed) {
        println!("the cluster is left up: {}", cluster.kubeconfig().display());
    } else {
        cluster.remove()?;
    }
    Ok(if tested? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn skipped(reason: &str) -> ExitCode {
    println!("SKIPPED: {reason}");
    match Skips::of_environment() {
        Skips::Allowed => ExitCode::SUCCESS,
        Skips::Fail => ExitCode::FAILURE,
    }
}

struct Kind<'a> {
    workspace: &'a Workspace,
    docker: Engine,
    tools: ManifestTools,
}

impl Kind<'_> {
    fn kubeconfig(&self) -> std::path::PathBuf {
        self.workspace.target.join("kind-kubeconfig")
    }

    fn kind(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kind");
        command.args(arguments).args(["--name", CLUSTER]);
        command.current_dir(&self.workspace.root);
        command
    }

    fn with_kubeconfig(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", self.kubeconfig());
        command.current_dir(&self.workspace.root);
        command
    }

    fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<()> {
        process::run(self.with_kubeconfig(&self.tools.kubectl).args(arguments))
    }

    /// A cluster with the image on its nodes, and Weir installed and ready.
    fn make(&self) -> anyhow::Result<()> {
        // One that an earlier run left.
        self.remove()?;
        let mut create = self.kind(&["create", "cluster", "--config=tests/kind/cluster.yaml"]);
        process::run(create.arg("--kubeconfig").arg(self.kubeconfig()))?;
        process::run(&mut self.kind(&["load", "docker-image", IMAGE]))?;
        let nodes = process::read(&mut self.kind(&["get", "nodes"]))?;
        for node in nodes.lines() {
            let mount = "mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf";
            process::run(
                self.docker
                    .command()
                    .args(["exec", node, "sh", "-c", mount]),
            )?;
        }
        let address = self.api_server()?;
        let (name, tag) = IMAGE.split_once(':').context("name and tag")?;
        let mut install = self.with_kubeconfig(&self.tools.helm);
        install
            .args(["upgrade", "--install", "weir", "deploy/helm/weir"])
            .args(["--namespace", NAMESPACE, "--create-namespace"])
            .args(["--values", "tests/kind/values.yaml"])
            .arg(format!("--set=k8sServiceHost={address}"))
            .arg(format!("--set=image.repository={name},image.tag={tag}"))
            .args(["--wait", "--timeout=5m"]);
        process::run(&mut install)?;
        self.kubectl(&[
            "-n",
            "kube-system",
            "rollout",
            "status",
            "deployment/coredns",
            "--timeout=5m",
        ])
    }

    /// Where the API server is without a Service.
    fn api_server(&self) -> anyhow::Result<String> {
        let node = format!("{CLUSTER}-control-plane");
        let format = "--format={{.NetworkSettings.Networks.kind.IPAddress}}";
        let mut command = self.docker.command();
        let address = process::read(command.args(["inspect", format, &node]))?;
        let address = address.trim().to_owned();
        anyhow::ensure!(!address.is_empty(), "{node} has no address");
        Ok(address)
    }

    /// Runs the suite; shows what the agents say if it fails.
    fn test(&self, weir: &Path) -> anyhow::Result<bool> {
        let mut suite = self.with_kubeconfig(weir);
        suite.args(["connectivity", "test", "--outside"]);
        println!("+ {}", process::line_of(&suite));
        let status = suite.status().context("cannot start weir")?;
        if !status.success() {
            let logs = ["logs", "daemonset/weir-agent", "--tail=50", "--prefix"];
            let logs = [&["-n", NAMESPACE], &logs[..]].concat();
            // What they say is a help, and the suite has failed already.
            let _ = self.kubectl(&logs);
        }
        Ok(status.success())
    }

    fn remove(&self) -> anyhow::Result<()> {
        let mut delete = self.kind(&["delete", "cluster"]);
        process::run(delete.arg("--kubeconfig").arg(self.kubeconfig()))
    }
}
