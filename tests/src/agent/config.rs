//! The configuration that agents of a cluster get.

use serde_json::{Value, json};

use super::{DIRECTORY, KUBECONFIG};
use crate::plan::UPLINK;

/// Settings of the agents of a cluster; what is not here has the agent's own default.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// `source`: an object as in the file, or null for the manifests directory.
    pub source: Value,
    /// `devices.xdpMode`. By default `native`, as the agent leaves veths to TC, which stand in for network
    /// cards here.
    pub xdp_mode: String,
    /// `flows.reportInterval`.
    pub report_interval: String,
    /// `loadBalancer.externalClusterIP`.
    pub external_cluster_ip: bool,
    /// `encryption.enabled`.
    pub encryption: bool,
    /// More of `encryption`: an object as in the file, or null.
    pub encryption_settings: Value,
    /// `log.level`.
    pub log_level: String,
    /// Sections of the file whose keys are added to those above, or null.
    pub more: Value,
    /// The only capabilities that the agent has, such as `net_admin`; all of root's if empty.
    pub capabilities: Vec<String>,
    /// Likewise of the service of its device, see [`super::DeviceService`].
    pub device_capabilities: Vec<String>,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            source: Value::Null,
            xdp_mode: "native".into(),
            report_interval: "1s".into(),
            external_cluster_ip: false,
            encryption: false,
            encryption_settings: Value::Null,
            log_level: "info".into(),
            more: Value::Null,
            capabilities: Vec::new(),
            device_capabilities: Vec::new(),
        }
    }
}

impl AgentConfig {
    /// With everything taken from an API server, by the kubeconfig that
    /// [`ControlPlane::admit`](crate::ControlPlane::admit) writes.
    #[must_use]
    pub fn following_api_server(mut self) -> Self {
        let kubeconfig = format!("{DIRECTORY}/{KUBECONFIG}");
        self.source = json!({ "kind": "kubernetes", "kubernetes": { "kubeconfig": kubeconfig } });
        self
    }

    /// The configuration file for the node `name`.
    pub(super) fn to_json(&self, name: &str) -> Value {
        let mut encryption = json!({ "enabled": self.encryption });
        for (key, value) in self.encryption_settings.as_object().into_iter().flatten() {
            encryption[key] = value.clone();
        }
        let source = match &self.source {
            Value::Null => {
                json!({ "manifests": { "directory": format!("{DIRECTORY}/manifests") } })
            }
            source => source.clone(),
        };
        let mut file = json!({
            "nodeName": name,
            "source": source,
            "paths": { "state": format!("{DIRECTORY}/state") },
            "devices": { "uplinks": [UPLINK], "xdpMode": self.xdp_mode },
            "loadBalancer": { "externalClusterIP": self.external_cluster_ip },
            "encryption": encryption,
            "flows": { "reportInterval": self.report_interval },
            "log": { "level": self.log_level, "format": "text" },
        });
        for (section, keys) in self.more.as_object().into_iter().flatten() {
            for (key, value) in keys.as_object().into_iter().flatten() {
                file[section][key] = value.clone();
            }
        }
        file
    }
}
