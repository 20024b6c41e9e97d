//! A node whose WireGuard is set up by hand with the usual tools: what Weir publishes is all it needs
//! to know, and what it publishes is all that Weir needs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_tests::cluster::Node;
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::wait;

use super::{
    KEY, WIREGUARD_PORT, assert_unreadable, encrypting, published_key, record_of, wait_for_answers,
};
use crate::setting::{SOON, ordinary};

/// Name of the device that is set up by hand.
const STOCK: &str = "wg0";
/// Table of its routes.
const TABLE: &str = "4711";

#[test]
fn a_node_with_stock_wireguard_takes_part() -> Result<()> {
    let builder = ordinary("enc-stock").nodes(3).pods_per_node(1);
    let cluster = builder
        .agents(encrypting(Value::Null))
        .agents_later()
        .start()?;
    cluster.serve()?;
    let [node1, node2] = [cluster.node("node1")?, cluster.node("node2")?];
    node1.agent()?.start()?;
    node2.agent()?.start()?;
    node1.serve()?;
    let stock = cluster.node("node3")?;
    let _device = StockDevice::start(stock)?;
    let key = configure(stock, &[node1, node2])?;

    for node in [node1, node2] {
        let text = record_of(node.name(), &published_key(node, KEY)?.context("a key")?);
        cluster.publish(&format!("{}.yaml", node.name()), &text)?;
    }
    let capture = cluster.underlay().capture("node3")?;
    cluster.publish("node3.yaml", &record_of("node3", &key))?;

    let (asker, on_stock) = (cluster.pod("asker")?, cluster.pod("web-3")?);
    wait_for_answers(asker, on_stock.address().both())?;
    wait_for_answers(on_stock, cluster.pod("web-2")?.address().both())?;
    // To a node as well, and back from it.
    wait_for_answers(on_stock, node1.address().both())?;
    for address in on_stock.address().both() {
        let report = asker.http(address, HTTP_PORT).requests(100).run()?;
        ensure!(report.failed == 0, "{report:?}");
    }
    let handshakes = stock.output("wg", &["show", STOCK, "latest-handshakes"])?;
    let made = handshakes.lines().filter(|line| !line.ends_with("\t0"));
    ensure!(made.count() == 2, "a handshake with each:\n{handshakes}");
    assert_unreadable(&cluster, &capture.finish()?, 400)
}

/// The device, and the program that has it where the kernel has none.
struct StockDevice(Option<Child>);

impl StockDevice {
    fn start(node: &Node) -> Result<Self> {
        if node
            .output("ip", &["link", "add", STOCK, "type", "wireguard"])
            .is_ok()
        {
            return Ok(Self(None));
        }
        let mut command = node.command("wireguard-go")?;
        command.args(["-f", STOCK]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("start wireguard-go")?;
        let device = Self(Some(child));
        wait::until("the device to be there", SOON, || {
            node.output("wg", &["show", STOCK])
        })?;
        Ok(device)
    }
}

impl Drop for StockDevice {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // Errors mean that it is gone; waiting makes sure that no zombie stays.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sets the device and its routes up as a person would, and returns its public key.
fn configure(node: &Node, peers: &[&Node]) -> Result<String> {
    let private = node.output("wg", &["genkey"])?;
    let public = with_input(node.command("wg")?.arg("pubkey"), &private)?;
    let mut config = format!(
        "[Interface]\nPrivateKey = {}\nListenPort = {WIREGUARD_PORT}\n",
        private.trim()
    );
    for peer in peers {
        let key = published_key(peer, KEY)?.context("a key")?;
        let address = peer.address();
        let allowed = [
            peer.pod_ranges().join(", "),
            format!("{}/32, {}/128", address.v4, address.v6),
        ];
        let allowed = allowed.join(", ");
        let endpoint = address.v4;
        write!(
            config,
            "[Peer]\nPublicKey = {key}\nEndpoint = {endpoint}:{WIREGUARD_PORT}\n\
             AllowedIPs = {allowed}\n"
        )?;
    }
    let mut set = node.command("wg")?;
    with_input(set.args(["setconf", STOCK, "/dev/stdin"]), &config)?;
    node.output("ip", &["link", "set", STOCK, "mtu", "1420", "up"])?;
    // Its pods' packets, and those to other nodes' pods, take the device.
    for (family, own) in ["-4", "-6"].into_iter().zip(node.pod_ranges()) {
        let add = |what: &str| -> Result<()> {
            let words: Vec<&str> = [family].into_iter().chain(what.split(' ')).collect();
            node.output("ip", &words).map(drop)
        };
        add(&format!("rule add from {own} lookup {TABLE} priority 50"))?;
        for peer in peers {
            let at = usize::from(family == "-6");
            let (pods, address) = (&peer.pod_ranges()[at], peer.address().both()[at]);
            add(&format!("rule add to {pods} lookup {TABLE} priority 51"))?;
            add(&format!("route add {pods} dev {STOCK} table {TABLE}"))?;
            add(&format!("route add {address} dev {STOCK} table {TABLE}"))?;
        }
    }
    let loose = format!("echo 2 > /proc/sys/net/ipv4/conf/{STOCK}/rp_filter");
    node.output("sh", &["-c", &loose])?;
    Ok(public.trim().to_owned())
}

/// Runs a command with a text as its standard input, and returns what it printed.
fn with_input(command: &mut Command, text: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start wg")?;
    let mut stdin = child.stdin.take().context("its standard input is a pipe")?;
    stdin.write_all(text.as_bytes()).context("write to wg")?;
    drop(stdin);
    let output = child.wait_with_output().context("wait for wg")?;
    ensure!(output.status.success(), "wg failed: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
