//! Calls `kubectl kustomize` and `helm template`, and reads what they print.

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize as _;
use serde_json::Value;

/// Namespace of all that is namespaced.
pub const NAMESPACE: &str = "weir-system";

/// A program that renders.
#[derive(Clone, Copy, Debug)]
pub enum Tool {
    /// `kubectl`; `WEIR_KUBECTL_BIN` overrides.
    Kubectl,
    /// `helm`; `WEIR_HELM_BIN` overrides.
    Helm,
}

impl Tool {
    fn name_and_variable(self) -> (&'static str, &'static str) {
        match self {
            Self::Kubectl => ("kubectl", "WEIR_KUBECTL_BIN"),
            Self::Helm => ("helm", "WEIR_HELM_BIN"),
        }
    }

    /// From its variable, else as `cargo xtask setup` leaves it, else from the search path.
    fn path(self) -> Option<PathBuf> {
        let (name, variable) = self.name_and_variable();
        if let Some(path) = env::var_os(variable) {
            return Some(path.into());
        }
        // The test is `target/PROFILE/deps/deploy-…`.
        let own = env::current_exe().ok()?;
        let set_up = own.ancestors().nth(3)?.join("manifest-tools").join(name);
        let folders = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&folders).map(|folder| folder.join(name));
        [set_up].into_iter().chain(found).find(|it| it.is_file())
    }

    /// The program, with nothing of the user's own configuration.
    pub fn command(self) -> Result<Command> {
        let (name, _) = self.name_and_variable();
        let path = self.path().with_context(|| format!("no {name}"))?;
        let mut command = Command::new(path);
        let nowhere = "/nonexistent";
        for variable in ["HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME"] {
            command.env(variable, nowhere);
        }
        command.env("KUBECONFIG", nowhere).stdin(Stdio::null());
        Ok(command)
    }
}

/// Whether both programs are there; says why not, once for each test.
pub fn is_available() -> bool {
    for tool in [Tool::Kubectl, Tool::Helm] {
        if tool.path().is_none() {
            let (name, _) = tool.name_and_variable();
            println!("SKIPPED: no {name}; `cargo xtask setup` brings it");
            return false;
        }
    }
    true
}

/// A file or folder below `deploy/`.
pub fn deploy(path: &str) -> PathBuf {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    deploy.join(path)
}

/// Objects of a stream of YAML documents.
pub fn objects(yaml: &str) -> Result<Vec<Value>> {
    let documents = serde_yaml_ng::Deserializer::from_str(yaml);
    let objects = documents.map(|document| Value::deserialize(document).context("read YAML"));
    let mut objects = objects.collect::<Result<Vec<_>>>()?;
    objects.retain(|object| !object.is_null());
    Ok(objects)
}

/// What a folder makes that kustomize knows.
pub fn kustomize(path: &str) -> Result<Vec<Value>> {
    let mut command = Tool::Kubectl.command()?;
    command.arg("kustomize").arg(deploy(path));
    let objects = objects(&text_of(&command.output().context("start kubectl")?)?)?;
    ensure!(!objects.is_empty(), "{path} makes nothing");
    Ok(objects)
}

/// What the chart makes with these values, as `--set` has them, and this file of values.
pub fn chart(values: &[&str], file: &str) -> Result<Vec<Value>> {
    objects(&text_of(&template(values, file)?)?)
}

/// Why the chart refuses these values.
pub fn refusal(values: &[&str], file: &str) -> Result<String> {
    let output = template(values, file)?;
    ensure!(!output.status.success(), "{values:?} {file} was taken");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn template(values: &[&str], file: &str) -> Result<Output> {
    let mut command = Tool::Helm.command()?;
    command
        .args(["template", "weir"])
        .arg(deploy("helm/weir"))
        .args(["--namespace", NAMESPACE, "--values", "-"]);
    for value in values {
        command.args(["--set", value]);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("start helm")?;
    let mut stdin = child.stdin.take().context("stdin")?;
    stdin.write_all(file.as_bytes()).context("hand values in")?;
    drop(stdin);
    child.wait_with_output().context("await helm")
}

/// Standard output of a program that went well.
pub fn text_of(output: &Output) -> Result<String> {
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout.clone()).context("UTF-8")
}

/// Everything that is rendered in the tests, by a name for messages.
pub fn everything() -> Result<Vec<(String, Vec<Value>)>> {
    let mut all = Vec::new();
    for path in [".", "base", "uninstall"].map(|it| format!("daemonset/{it}")) {
        all.push((path.clone(), kustomize(&path)?));
    }
    for (overlay, values) in OVERLAYS {
        let path = format!("daemonset/overlays/{overlay}");
        all.push((path.clone(), kustomize(&path)?));
        all.push((format!("chart {values:?}"), chart(values, "")?));
    }
    for values in VALUES {
        all.push((format!("chart {values:?}"), chart(values, "")?));
    }
    all.push((format!("chart with {FILE}"), chart(&[], FILE)?));
    let kind = fs::read_to_string(deploy(KIND)).context(KIND)?;
    let of_kind = chart(&["k8sServiceHost=192.0.2.1", "k8sServicePort=6443"], &kind)?;
    all.push((format!("chart with {KIND}"), of_kind));
    Ok(all)
}

/// Each overlay with the values of the chart that say the same.
pub const OVERLAYS: [(&str, &[&str]); 4] = [
    (
        "observe-only",
        &[
            "loadBalancer.enabled=false",
            "loadBalancer.acceleration=disabled",
        ],
    ),
    (
        "kube-proxy-replacement",
        &[
            "kubeProxyReplacement=true",
            "k8sServiceHost=set-the-api-server.invalid",
        ],
    ),
    ("encryption", &["encryption.enabled=true"]),
    (
        "everything",
        &[
            "kubeProxyReplacement=true",
            "k8sServiceHost=set-the-api-server.invalid",
            "encryption.enabled=true",
            "encryption.nodeEncryption=true",
            "prometheus.enabled=true",
            "prometheus.podMonitor.enabled=true",
        ],
    ),
];

/// Other values that change what is made.
const VALUES: [&[&str]; 5] = [
    &[],
    &["uninstall.enabled=true"],
    &["serviceAccount.create=false,rbac.create=false,serviceAccount.name=mine"],
    &["encryption.enabled=true,encryption.wireguard.userspaceFallback=false"],
    &["securityContext.seccompProfile.type=Unconfined,image.tag=v9"],
];

/// Values of the cluster that `cargo xtask kind` makes.
const KIND: &str = "../tests/kind/values.yaml";

/// Every value that can be set, set to something else than its default.
const FILE: &str = r#"
image: {repository: registry.example/weir, digest: "sha256:0123456789012345678901234567890123456789012345678901234567890123", pullPolicy: Always}
imagePullSecrets: [{name: pull}]
kubeProxyReplacement: "true"
k8sServiceHost: "fd00::9"
k8sServicePort: 443
devices: [eth0, "ens*"]
loadBalancer: {enabled: true, algorithm: maglev, mode: snat, acceleration: testing-only}
bpf: {root: /mnt/bpf, lbExternalClusterIP: true, hostLegacyRouting: false}
cgroup: {hostRoot: /mnt/cgroup}
encryption:
  enabled: true
  type: wireguard
  nodeEncryption: true
  strictMode: {enabled: true, cidr: [10.244.0.0/16, "fd00:10:244::/56"]}
  wireguard: {persistentKeepalive: 25s, userspaceFallback: true}
hubble: {enabled: true, eventBufferCapacity: 4095, metrics: {enabled: []}}
prometheus: {enabled: true, address: "[::]", port: 9962, podMonitor: {enabled: true, labels: {release: prometheus}, interval: 30s}}
debug: {enabled: true}
config: {loadBalancer: {connectionsV4: 2000000}, flows: {reportInterval: 10s}}
serviceAccount: {create: true, name: weir, annotations: {a: b}}
securityContext: {seccompProfile: {type: Localhost, localhostProfile: weir.json}, seLinuxOptions: {type: container_t}}
priorityClassName: high
updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 2}}
terminationGracePeriodSeconds: 5
tolerations: [{key: a, operator: Exists}]
nodeSelector: {role: worker}
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
podAnnotations: {c: d}
podLabels: {e: f}
extraEnv: [{name: WEIR_LOG_LEVEL, value: warn}]
resources: {limits: {memory: 1Gi}}
startupProbe: {periodSeconds: 3, failureThreshold: 9}
readinessProbe: {periodSeconds: 3, timeoutSeconds: 1}
livenessProbe: {periodSeconds: 3, timeoutSeconds: 1, failureThreshold: 9}
"#;
