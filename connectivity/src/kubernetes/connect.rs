//! The connection to the API server, found as `kubectl` finds it.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::{KubernetesError, Settings};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn connect(settings: &Settings) -> Result<Client, KubernetesError> {
    let options = KubeConfigOptions {
        context: settings.context.clone(),
        ..KubeConfigOptions::default()
    };
    let mut config = match &settings.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(KubernetesError::Kubeconfig)?;
            Config::from_custom_kubeconfig(file, &options).await
        }
        None if settings.context.is_some() => Config::from_kubeconfig(&options).await,
        None => {
            let found = Config::infer().await;
            Ok(found.map_err(|error| KubernetesError::Nowhere(Box::new(error)))?)
        }
    }
    .map_err(KubernetesError::Kubeconfig)?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).map_err(|error| KubernetesError::Client(Box::new(error)))
}
