//! Names of services, as pods look them up: at a DNS server behind a ClusterIP, as in every cluster.

use std::fs;
use std::net::IpAddr;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_connectivity::Inventory;
use weir_connectivity::inventory::ClientKind;
use weir_tests::agent::AgentConfig;
use weir_tests::connectivity::{Checked, command};
use weir_tests::manifest::Service;
use weir_tests::{Cluster, plan};

use crate::connectivity::{await_service, echo, of_kind, start};

/// Where the server listens in its pod.
const SERVER_PORT: u16 = 5300;
const ECHO: &str = "echo.default.svc";
const UNKNOWN: &str = "unknown.default.svc";

#[test]
fn pods_look_names_up_at_the_cluster_ip_of_the_dns() -> Result<()> {
    let cluster = start("conn-dns", AgentConfig::default())?;
    let dns = Service::new("kube-dns")
        .cluster_ip(plan::cluster_ip(1))
        .udp("dns", 53, SERVER_PORT)
        .tcp("dns-tcp", 53, SERVER_PORT);
    // On the other node than the first pod that asks.
    let pod = cluster.web_pods().find(|pod| pod.node_name() == "node2");
    let pod = pod.context("node2 has no pod")?;
    let _server = Server::start(pod)?;
    cluster.apply(&dns.over([pod]))?;
    await_service(&cluster, "kube-dns", "1/1")?;
    for nameserver in plan::cluster_ip(1).both() {
        let inventory = asking(&cluster, nameserver, ECHO)?;
        let results = run(&cluster, &inventory)?.results()?;
        let passed = of_kind(&results, "passed");
        let names = passed.iter().filter(|result| result["check"] == "dns");
        assert_eq!(names.count(), 2, "two pods ask {nameserver}: {results:#?}");
        assert_eq!(passed.len(), results.len(), "{results:#?}");
    }
    let inventory = asking(&cluster, plan::cluster_ip(1).both()[0], UNKNOWN)?;
    let checked = run(&cluster, &inventory)?;
    let failed = of_kind(&checked.results()?, "failed").len();
    assert_eq!(failed, 2, "nobody knows {UNKNOWN}: {}", checked.stdout);
    cluster.remove()
}

/// A DNS server that knows the service `echo` alone.
struct Server(Child);

impl Server {
    fn start(pod: &weir_tests::Place) -> Result<Self> {
        let [v4, v6] = plan::cluster_ip(0).both();
        let child = pod
            .command("dnsmasq")?
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--pid-file",
            ])
            .args(["--no-resolv", "--no-hosts", "--user=root", "--group=root"])
            .arg(format!("--port={SERVER_PORT}"))
            .arg(format!("--host-record={ECHO},{v4},{v6}"))
            .stdin(Stdio::null())
            .spawn()
            .context("start dnsmasq")?;
        Ok(Self(child))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The cluster, where pods ask `nameserver`, and `echo` is called `name`.
fn asking(cluster: &Cluster, nameserver: IpAddr, name: &str) -> Result<Inventory> {
    let mut service = echo().described(cluster.web_pods());
    service.dns_name = Some(name.to_owned());
    let mut inventory = cluster.inventory(vec![service])?;
    let file = cluster.record().directory().join("resolv.conf");
    let text = format!("nameserver {nameserver}\nsearch default.svc svc\noptions timeout:1\n");
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    let script = format!(
        "mount --bind {} /etc/resolv.conf && exec \"$@\"",
        file.display()
    );
    let pods = inventory.clients.iter_mut();
    for client in pods.filter(|client| client.kind == ClientKind::Pod) {
        // The file of the machine is one for all pods of this cluster.
        let own_mounts = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned);
        client.command.splice(0..0, own_mounts);
    }
    Ok(inventory)
}

fn run(cluster: &Cluster, inventory: &Inventory) -> Result<Checked> {
    let file = cluster.record().directory().join("names.yaml");
    fs::write(&file, json!(inventory).to_string())?;
    let path = file.display().to_string();
    let arguments = ["--inventory", &path, "-o", "json", "--test", "dns"];
    let checked = Checked::from(command(&arguments)?.output()?);
    ensure!(checked.code.is_some(), "{checked:?}");
    Ok(checked)
}
