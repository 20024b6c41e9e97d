//! The connection to the API server: where it is, who we are, whom we trust.

use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt as _;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use thiserror::Error;
use tower::{BoxError, ServiceBuilder};
use tower_http::decompression::DecompressionLayer;

use crate::config::{self, ApiServer};

/// Time in which a connection must be made. Trying again costs little, and addresses change.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection on which nothing came for so long is asked whether its other end is still there: a server that
/// lost its power ends no connection, and a watch may have nothing to say for a minute.
const KEEPALIVE_TIME: Duration = Duration::from_secs(15);
/// How often that is asked then.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How often without an answer until the connection is given up.
const KEEPALIVE_RETRIES: u32 = 3;
/// What was sent and not acknowledged for so long ends a connection, too.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// Why there is no way to ask the API server.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The file is missing or wrong.
    #[error("source.kubernetes.kubeconfig: {}", .path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KubeconfigError,
    },
    /// No service account.
    #[error(
        "this is not a pod with a service account, and source.kubernetes.kubeconfig names no file"
    )]
    InCluster(#[source] InClusterError),
    /// The address cannot be part of a URL.
    #[error("source.kubernetes.apiServer.host: {host:?} cannot be the host of a URL")]
    Host {
        /// As configured.
        host: String,
        /// Why not.
        source: http::Error,
    },
    /// Certificates, keys or tokens cannot be used.
    #[error("what the configuration names cannot be used")]
    Client(#[source] kube::Error),
}

/// A client, and what it was made of.
pub struct Connection {
    /// The client.
    pub client: Client,
    /// Where the API server is.
    pub url: String,
    /// What it was made of and is not looked at again by itself, as tokens in files are.
    pub files: Files,
}

/// Files as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(Vec<(PathBuf, Option<Stamp>)>);

/// What changes with a file that is written again, or replaced: when, which, how long.
type Stamp = (SystemTime, u64, u64);

impl Files {
    fn read(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let stamp = |path: &PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.ino(), found.len()))
        };
        let stamped = paths.into_iter().map(|path| {
            let stamp = stamp(&path);
            (path, stamp)
        });
        Self(stamped.collect())
    }

    /// Whether they are others by now.
    pub fn have_changed(&self) -> bool {
        *self != Self::read(self.0.iter().map(|(path, _)| path.clone()))
    }
}

/// A client for the configured API server. Reads files and connects to nothing. To be called within a Tokio
/// runtime.
pub async fn connect(settings: &config::Kubernetes) -> Result<Connection, ConnectError> {
    let (mut config, files) = match &settings.kubeconfig {
        Some(path) => from_file(path.clone(), settings.context.clone()).await?,
        None => (from_pod(&settings.api_server)?, Files::default()),
    };
    apply_address(&mut config, &settings.api_server)?;
    let url = config.cluster_url.to_string();
    let client = client(config).map_err(ConnectError::Client)?;
    Ok(Connection { client, url, files })
}

/// A client that notices within half a minute that a server is gone. kube's own one does not ask, and
/// repeats requests by itself: who asks decides when to ask again, and must know that it failed.
fn client(config: Config) -> Result<Client, kube::Error> {
    if config.proxy_url.is_some() {
        // It says which proxies it can use.
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE_TIME));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
    let https = config.rustls_https_connector_with_connector(tcp)?;
    let http = hyper_util::client::legacy::Builder::new(TokioExecutor::new()).build(https);
    let gzip = DecompressionLayer::new().gzip(!config.disable_compression);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(gzip)
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

async fn from_file(
    path: PathBuf,
    context: Option<String>,
) -> Result<(Config, Files), ConnectError> {
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    let read = match Kubeconfig::read_from(&path) {
        Ok(file) => {
            // As they were before they are read: what changes meanwhile is read again.
            let files = Files::read(named_in(&path, &file));
            let config = Config::from_custom_kubeconfig(file, &options).await;
            config.map(|config| (config, files))
        }
        Err(error) => Err(error),
    };
    read.map_err(|source| ConnectError::Kubeconfig { path, source })
}

/// The file itself, and those with certificates and keys that it names.
fn named_in(path: &Path, file: &Kubeconfig) -> Vec<PathBuf> {
    let clusters = file.clusters.iter().filter_map(|it| it.cluster.as_ref());
    let authorities = clusters.filter_map(|it| it.certificate_authority.as_ref());
    let users = file
        .auth_infos
        .iter()
        .filter_map(|it| it.auth_info.as_ref());
    let own = users.flat_map(|it| [it.client_certificate.as_ref(), it.client_key.as_ref()]);
    let named = authorities.chain(own.flatten()).map(PathBuf::from);
    [path.to_owned()].into_iter().chain(named).collect()
}

fn from_pod(api_server: &ApiServer) -> Result<Config, ConnectError> {
    let config = match api_server.host {
        // The environment's address is not needed then, and may not be there.
        Some(_) => Config::incluster_dns(),
        None => Config::incluster_env(),
    };
    config.map_err(ConnectError::InCluster)
}

fn apply_address(config: &mut Config, api_server: &ApiServer) -> Result<(), ConnectError> {
    if let Some(name) = &api_server.tls_server_name {
        config.tls_server_name = Some(name.clone());
    }
    let Some(host) = &api_server.host else {
        return Ok(());
    };
    let authority = authority(host, api_server.port.get());
    // A server that is asked in clear text on purpose, such as a proxy of this node, stays so.
    let scheme = config.cluster_url.scheme_str().unwrap_or("https");
    config.cluster_url = Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(config.cluster_url.path())
        .build()
        .map_err(|source| ConnectError::Host {
            host: host.clone(),
            source,
        })?;
    Ok(())
}

fn authority(host: &str, port: u32) -> String {
    match host.parse::<Ipv6Addr>().map(IpAddr::from) {
        Ok(ip) => format!("[{ip}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Value as _;
    use crate::config::value::RawValue;

    fn kubeconfig(folder: &std::path::Path) -> PathBuf {
        let path = folder.join("kubeconfig");
        let text = "
apiVersion: v1
kind: Config
clusters:
- {name: a, cluster: {server: 'https://10.96.0.1:443'}}
- {name: b, cluster: {server: 'https://10.96.0.2:443/prefix'}}
users: [{name: u, user: {token: secret}}]
contexts:
- {name: a, context: {cluster: a, user: u}}
- {name: b, context: {cluster: b, user: u}}
current-context: a
";
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn url(change: impl FnOnce(&mut config::Kubernetes)) -> Result<String, ConnectError> {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = config::Kubernetes {
            kubeconfig: Some(kubeconfig(folder.path())),
            ..config::Kubernetes::default()
        };
        change(&mut settings);
        connect(&settings).await.map(|it| it.url)
    }

    #[tokio::test]
    async fn the_address_is_that_of_the_context_unless_one_is_given() {
        assert_eq!(url(|_| ()).await.unwrap(), "https://10.96.0.1:443/");
        let context = |s: &mut config::Kubernetes| s.context = Some("b".to_owned());
        assert_eq!(url(context).await.unwrap(), "https://10.96.0.2:443/prefix");
        for (host, expected) in [
            ("192.0.2.9", "https://192.0.2.9:6443/"),
            ("fd00::9", "https://[fd00::9]:6443/"),
            ("api.example.com", "https://api.example.com:6443/"),
        ] {
            let given = |s: &mut config::Kubernetes| s.api_server.host = Some(host.to_owned());
            assert_eq!(url(given).await.unwrap(), expected);
        }
        let port = |s: &mut config::Kubernetes| {
            s.api_server.host = Some("192.0.2.9".to_owned());
            let port = RawValue::Text("443".to_owned());
            s.api_server.port.set(&port).unwrap();
        };
        assert_eq!(url(port).await.unwrap(), "https://192.0.2.9:443/");
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let missing = url(|s| s.kubeconfig = Some("/nowhere/kubeconfig".into())).await;
        let text = missing.unwrap_err().to_string();
        assert!(text.contains("/nowhere/kubeconfig"), "{text}");
        let context = url(|s| s.context = Some("c".to_owned())).await;
        assert!(matches!(context, Err(ConnectError::Kubeconfig { .. })));
    }

    /// What the kernel waits for at the socket with this local port: the field `tr` of `/proc/net/tcp`.
    fn timer(port: u16) -> Option<u8> {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let line = table.lines().find(|line| {
            line.split_whitespace()
                .nth(1)
                .is_some_and(|it| it.ends_with(&format!(":{port:04X}")))
        })?;
        let timer = line.split_whitespace().nth(5)?;
        timer.split(':').next()?.parse().ok()
    }

    #[tokio::test]
    async fn a_connection_without_news_is_asked_whether_it_lives() {
        const KEEPALIVE: u8 = 2;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = client(Config::new(url.parse().unwrap())).unwrap();
        let request = http::Request::get("/api/v1/nodes")
            .body(Vec::new())
            .unwrap();
        let asking = tokio::spawn(async move { client.request_text(request).await });
        let (mut stream, from) = listener.accept().await.unwrap();
        let mut head = [0; 16];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut head)
            .await
            .unwrap();
        // The acknowledgement of the request ends another timer first.
        for _ in 0..100 {
            if timer(from.port()) == Some(KEEPALIVE) {
                asking.abort();
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("timer {:?}", timer(from.port()));
    }
}
