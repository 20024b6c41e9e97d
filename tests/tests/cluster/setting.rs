//! The cluster that most scenarios start from, and how they look at it.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use weir_tests::binary::{self, Binary};
use weir_tests::manifest::Service;
use weir_tests::plan;
use weir_tests::traffic::server::{ECHO_PORT, HTTP_PORT, UDP_PORT};
use weir_tests::{Cluster, ClusterBuilder, wait};

/// Port of the service `web` for HTTP.
pub const HTTP: u16 = 80;
/// Port of the service `web` for long-lived streams.
pub const ECHO: u16 = 7;
/// Port of the service `web` for datagrams.
pub const DATAGRAMS: u16 = 53;
/// The HTTP port on every node.
pub const NODE_PORT: u16 = 30080;

/// How long a change may take until it shows, on a machine busy with other tests.
pub const SOON: Duration = Duration::from_secs(20);

/// Two nodes, two serving pods on each, a pod to ask from, a client outside.
pub fn ordinary(name: &str) -> ClusterBuilder {
    binary::announce(Binary::Traffic, env!("CARGO_BIN_EXE_weir-traffic"));
    Cluster::builder(name)
        .nodes(2)
        .pods_per_node(2)
        .pod_on(1, "asker")
        .client("client")
}

/// The service `web` with all its addresses and ports, without backends yet.
pub fn web() -> Service {
    Service::new("web")
        .cluster_ip(plan::cluster_ip(0))
        .external(plan::vip(0).both())
        .tcp("http", HTTP, HTTP_PORT)
        .node_port(NODE_PORT)
        .tcp("echo", ECHO, ECHO_PORT)
        .udp("datagrams", DATAGRAMS, UDP_PORT)
}

/// Starts `builder` with the service `web` over all its `web-` pods, and waits until it answers.
pub fn start_with_web(builder: &ClusterBuilder) -> Result<Cluster> {
    let cluster = builder.start()?;
    cluster.serve()?;
    cluster.apply(&web().over(cluster.web_pods()))?;
    wait_for_web(&cluster)?;
    Ok(cluster)
}

/// Waits until the service answers at both its load balancer addresses.
pub fn wait_for_web(cluster: &Cluster) -> Result<()> {
    for address in cluster.vips(0) {
        wait::until(&format!("http://{address}/"), SOON, || {
            try_once(cluster, address, HTTP)
        })?;
    }
    Ok(())
}

/// One request of the client, which must succeed soon.
pub fn try_once(cluster: &Cluster, address: IpAddr, port: u16) -> Result<()> {
    let traffic = cluster.client("client")?.http(address, port).requests(1);
    let report = traffic.timeout(Duration::from_millis(500)).run()?;
    ensure!(report.failed == 0, "{:?}", report.failures.0);
    Ok(())
}

/// Socket addresses of the pods of `web` in the family of `like`.
pub fn backends(cluster: &Cluster, like: IpAddr, port: u16) -> BTreeSet<SocketAddr> {
    let addresses = cluster.web_pods().flat_map(|pod| pod.address().both());
    let same_family = addresses.filter(|address| address.is_ipv4() == like.is_ipv4());
    same_family
        .map(|address| SocketAddr::new(address, port))
        .collect()
}

/// What the agent of a node answers to an HTTP request on its loopback address.
pub fn scrape(cluster: &Cluster, node: &str, path: &str) -> Result<String> {
    cluster.node(node)?.run(|| {
        let mut stream = TcpStream::connect("127.0.0.1:9965")?;
        stream.set_read_timeout(Some(SOON))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: weir\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        anyhow::Ok(answer)
    })?
}
