//! Runs `weir` in pods, by `exec`.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

use super::Kubernetes;
use crate::commands::Commands;
use crate::inventory::ClientKind;
use crate::place::{Place, Ran, Spot, Unreachable};

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Place for Kubernetes {
    async fn run(
        &self,
        spot: Spot<'_>,
        arguments: &[String],
        accepted: &[i32],
        limit: Duration,
    ) -> Result<Ran, Unreachable> {
        let name = || spot.name().to_owned();
        let (pod, container, words) = match spot {
            Spot::Client(client) if client.kind == ClientKind::Outside => {
                return Commands::default()
                    .run(spot, arguments, accepted, limit)
                    .await;
            }
            Spot::Client(client) => (self.own(&client.name), "weir", &client.command),
            Spot::Server(server) => {
                let words = server.command.as_ref();
                let words = words.ok_or_else(|| Unreachable::NoCommand(name()))?;
                (self.own(&server.name), "weir", words)
            }
            Spot::Agent(node) => {
                let pod = self.agents.by_node.get(&node.name);
                let (Some(pod), Some(words)) = (pod, &node.agent) else {
                    return Err(Unreachable::NoCommand(name()));
                };
                (pod.clone(), "agent", words)
            }
        };
        let what = format!("`weir {}` in the pod {pod}", arguments.join(" "));
        let command: Vec<_> = words.iter().chain(arguments).cloned().collect();
        let Ok(ended) = timeout(limit, self.exec(&pod, container, command)).await else {
            let name = name();
            return Err(Unreachable::Timeout { name, what, limit });
        };
        let (ran, status) = ended.map_err(|source| Unreachable::Start {
            name: name(),
            what: what.clone(),
            source,
        })?;
        match failure(status.as_ref(), accepted) {
            None => Ok(ran),
            Some(why) => {
                let why = format!("{why}: {}", ran.stderr.trim());
                Err(Unreachable::Failed {
                    name: name(),
                    what,
                    why,
                })
            }
        }
    }
}

impl Kubernetes {
    /// A pod of the suite, as `namespace/name`.
    fn own(&self, name: &str) -> String {
        format!("{}/{name}", self.settings.namespace)
    }

    async fn exec(
        &self,
        pod: &str,
        container: &str,
        command: Vec<String>,
    ) -> Result<(Ran, Option<Status>), Cause> {
        let (namespace, name) = pod.split_once('/').ok_or("the pod has no namespace")?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let parameters = AttachParams::default()
            .container(container)
            .stdin(false)
            .stdout(true)
            .stderr(true);
        let mut process = pods.exec(name, command, &parameters).await?;
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let (stdout, stderr) = tokio::join!(text(stdout), text(stderr));
        let ran = Ran {
            stdout: stdout?,
            stderr: stderr?,
        };
        let status = status(&mut process).await;
        Ok((ran, status))
    }
}

async fn text(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn status(process: &mut AttachedProcess) -> Option<Status> {
    process.take_status()?.await
}

/// Why a command failed, if it did, by the status at the end of its stream.
fn failure(status: Option<&Status>, accepted: &[i32]) -> Option<String> {
    let Some(status) = status else {
        return Some("the stream broke before it ended".to_owned());
    };
    if status.status.as_deref() == Some("Success") {
        return None;
    }
    let details = status
        .details
        .as_ref()
        .and_then(|details| details.causes.as_ref());
    let mut causes = details.into_iter().flatten();
    let code = causes.find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = code.and_then(|cause| cause.message.as_ref()?.parse::<i32>().ok());
    if code.is_some_and(|code| accepted.contains(&code)) {
        return None;
    }
    Some(
        status
            .message
            .clone()
            .unwrap_or_else(|| "it does not say why".to_owned()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_status_at_the_end_says_how_it_went() {
        let ended = |code: &str| -> Status {
            let causes = json!([{ "reason": "ExitCode", "message": code }]);
            serde_json::from_value(json!({
                "status": "Failure", "reason": "NonZeroExitCode",
                "message": format!("command terminated with exit code {code}"),
                "details": { "causes": causes },
            }))
            .unwrap()
        };
        let success: Status = serde_json::from_value(json!({ "status": "Success" })).unwrap();
        assert_eq!(failure(Some(&success), &[]), None);
        assert_eq!(failure(Some(&ended("5")), &[5]), None);
        let told = failure(Some(&ended("1")), &[5]).unwrap();
        assert_eq!(told, "command terminated with exit code 1");
        assert!(failure(None, &[]).unwrap().contains("broke"));
    }
}
