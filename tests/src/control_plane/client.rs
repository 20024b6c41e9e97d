//! Objects written and read as a user with `kubectl` would.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use serde_json::{Value, json};
use tokio::runtime;

use crate::Place;

/// Asks the API server, from a place.
#[derive(Clone, Debug)]
pub struct Client {
    place: Option<Place>,
    kubeconfig: PathBuf,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Of HTTP.
    pub status: u16,
    /// The body.
    pub text: String,
}

impl Client {
    pub(super) fn new(place: Option<Place>, kubeconfig: PathBuf) -> Self {
        Self { place, kubeconfig }
    }

    /// Asks for a path.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub fn get(&self, path: &str) -> Result<Response> {
        self.send("GET", path, "", &Value::Null)
    }

    /// The object at a path.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn object(&self, path: &str) -> Result<Value> {
        let response = self.get(path)?;
        if response.status != 200 {
            bail!("GET {path}: status {}: {}", response.status, response.text);
        }
        serde_json::from_str(&response.text).with_context(|| format!("GET {path}"))
    }

    /// Makes an object, or changes the one that is there, with its status.
    ///
    /// # Errors
    ///
    /// When the API server refuses.
    pub fn apply(&self, object: &Value) -> Result<()> {
        let (collection, path) = paths(object)?;
        // Not the other way round: a Service with its own ClusterIP is refused for the address.
        let is_there = |status| status == 200;
        if is_there(self.get(&path)?.status) {
            self.patch(&path, object)?;
        } else if let Err(error) = self.create(&collection, object) {
            // The server makes the namespace `default` itself, at any moment after its start.
            if !is_there(self.get(&path)?.status) {
                return Err(error);
            }
            self.patch(&path, object)?;
        }
        match object.get("status") {
            Some(status) => self.patch(&format!("{path}/status"), &json!({ "status": status })),
            None => Ok(()),
        }
    }

    fn create(&self, collection: &str, object: &Value) -> Result<()> {
        let made = self.send("POST", collection, "application/json", object)?;
        if !(200..300).contains(&made.status) {
            bail!("POST {collection}: status {}: {}", made.status, made.text);
        }
        Ok(())
    }

    /// Changes fields of the object at a path (a merge patch).
    ///
    /// # Errors
    ///
    /// When the API server refuses.
    pub fn patch(&self, path: &str, change: &Value) -> Result<()> {
        let done = self.send("PATCH", path, "application/merge-patch+json", change)?;
        if !(200..300).contains(&done.status) {
            bail!("PATCH {path}: status {}: {}", done.status, done.text);
        }
        Ok(())
    }

    /// Deletes the object at a path, at once.
    ///
    /// # Errors
    ///
    /// When the API server refuses.
    pub fn delete(&self, path: &str) -> Result<()> {
        let options = json!({ "gracePeriodSeconds": 0 });
        let done = self.send("DELETE", path, "application/json", &options)?;
        if !(200..300).contains(&done.status) {
            bail!("DELETE {path}: status {}: {}", done.status, done.text);
        }
        Ok(())
    }

    fn send(&self, method: &str, path: &str, media: &str, body: &Value) -> Result<Response> {
        let send = || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("start a runtime")?;
            runtime.block_on(self.send_async(method, path, media, body))
        };
        match &self.place {
            Some(place) => place.run(send)?,
            // A runtime cannot be started inside another one.
            None => crate::namespace::on_own_thread(send),
        }
    }

    async fn send_async(
        &self,
        method: &str,
        path: &str,
        media: &str,
        body: &Value,
    ) -> Result<Response> {
        let file = Kubeconfig::read_from(&self.kubeconfig)?;
        let options = KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(file, &options).await?;
        config.default_retry = false;
        let client = kube::Client::try_from(config)?;
        let body = match body {
            Value::Null => Vec::new(),
            body => serde_json::to_vec(body)?,
        };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("accept", "application/json")
            .header("content-type", media)
            .body(body)?;
        match client.request_text(request).await {
            Ok(text) => Ok(Response { status: 200, text }),
            Err(kube::Error::Api(status)) => {
                let Status { code, message, .. } = *status;
                Ok(Response {
                    status: code,
                    text: message,
                })
            }
            Err(error) => Err(error).with_context(|| format!("{method} {path}")),
        }
    }
}

/// Path of the collection and of the object.
///
/// # Errors
///
/// When the kind is none that is used here.
pub fn paths(object: &Value) -> Result<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]);
    let (group, plural, is_namespaced) = match &*kind {
        "Service" => ("/api/v1", "services", true),
        "Pod" => ("/api/v1", "pods", true),
        "ConfigMap" => ("/api/v1", "configmaps", true),
        "ServiceAccount" => ("/api/v1", "serviceaccounts", true),
        "Node" => ("/api/v1", "nodes", false),
        "Namespace" => ("/api/v1", "namespaces", false),
        "EndpointSlice" => ("/apis/discovery.k8s.io/v1", "endpointslices", true),
        "ClusterRole" => ("/apis/rbac.authorization.k8s.io/v1", "clusterroles", false),
        "ClusterRoleBinding" => {
            let group = "/apis/rbac.authorization.k8s.io/v1";
            (group, "clusterrolebindings", false)
        }
        other => bail!("{other:?} is no kind that is used here"),
    };
    let namespace = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => namespace.to_owned(),
        None => "default".to_owned(),
    };
    let collection = if is_namespaced {
        format!("{group}/namespaces/{namespace}/{plural}")
    } else {
        format!("{group}/{plural}")
    };
    let name = text(&object["metadata"]["name"]);
    Ok((collection.clone(), format!("{collection}/{name}")))
}
