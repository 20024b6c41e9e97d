//! Packets of every size through the tunnel, over wide and narrow wires, and over wires that change.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_tests::agent::AgentConfig;
use weir_tests::capture::Captured;
use weir_tests::cluster::{Node, Pod};
use weir_tests::plan::{BRIDGE, UPLINK};
use weir_tests::traffic::server::{HTTP_PORT, UDP_PORT};
use weir_tests::{Cluster, wait};

use super::services::echo;
use super::{DEVICE, ask_from, assert_unreadable, connect, encrypting, look, remote};
use crate::setting::{SOON, ordinary};

/// What encryption adds to a packet over IPv4.
const OVERHEAD: u32 = 60;
/// Likewise over IPv6.
const OVERHEAD_IPV6: u32 = 80;
/// Bytes of a frame before its packet.
const ETHERNET: usize = 14;
/// Table of the routes into the device.
const TABLE: &str = "51871";
/// IP and TCP headers, IPv4 and IPv6.
const HEADERS: [u32; 2] = [40, 60];

/// From wires of 9,000 bytes down to 1,400 while everything runs; the pods stay at 9,000.
#[test]
fn sizes_follow_the_wire_below() -> Result<()> {
    from_wide_to_narrow("enc-sizes", Value::Null)
}

#[test]
fn sizes_follow_the_wire_below_past_the_stack() -> Result<()> {
    from_wide_to_narrow("enc-sizes-bpf", json!({ "hostRouting": "bpf" }))
}

fn from_wide_to_narrow(name: &str, settings: Value) -> Result<()> {
    let builder = ordinary(name).nodes(3).mtu(9_000);
    // A veth takes no XDP program with packets of this size.
    let config = AgentConfig {
        xdp_mode: "auto".into(),
        ..encrypting(settings)
    };
    let cluster = builder.agents(config).start()?;
    cluster.serve()?;
    connect(&cluster)?;
    let capture = look(&cluster)?;
    fits(&cluster, 9_000)?;
    // As large as the device takes, in one piece; what is larger is learnt about.
    echoes(&cluster, 8_700)?;
    echoes(&cluster, 8_960)?;

    for place in cluster.nodes() {
        set_mtu(place, UPLINK, 1_400)?;
        set_mtu(cluster.underlay(), place.name(), 1_400)?;
    }
    fits(&cluster, 1_400)?;
    echoes(&cluster, 1_372)?;
    let captured = capture.finish()?;
    assert_unreadable(&cluster, &captured, 20)?;

    // On the narrow wire no packet is larger than it.
    let capture = look(&cluster)?;
    echoes(&cluster, 8_700)?;
    let captured = capture.finish()?;
    let largest = largest_frame(&captured);
    ensure!(
        largest <= ETHERNET + 1_400,
        "{largest} bytes on a wire of 1,400"
    );
    assert_unreadable(&cluster, &captured, 10)?;
    one_way_is_narrower(&cluster)
}

/// The way to one peer is narrower than the others: its routes say so, and the device does not.
fn one_way_is_narrower(cluster: &Cluster) -> Result<()> {
    let [node1, node3] = [cluster.node("node1")?, cluster.node("node3")?];
    let way = format!("{}/32", node3.address().v4);
    node1.output("ip", &["route", "add", &way, "dev", UPLINK, "mtu", "1350"])?;
    only_routes_to_are_narrowed(node1, node3, 1_350 - OVERHEAD)?;
    let (asker, pod) = (cluster.pod("asker")?, pod_of(cluster, "node3")?);
    let capture = cluster.underlay().capture(node3.name())?;
    for address in pod.address().both() {
        echoes_from(asker, address, 1_320)?;
        ask_from(asker, address)?;
    }
    // It is narrow for what node1 sends.
    let captured = capture.finish()?;
    let sent = captured.matching(|it| it.source.ip() == node1.address().v4);
    let largest = sent.iter().map(|it| it.bytes.len()).max();
    let largest = largest.context("nothing was seen")?;
    ensure!(
        largest <= ETHERNET + 1_350,
        "{largest} bytes on a way of 1,350"
    );
    Ok(())
}

/// Waits until the routes of `node` to `peer` are for packets of `bytes`, and no others.
fn only_routes_to_are_narrowed(node: &Node, peer: &Node, bytes: u32) -> Result<()> {
    let what = format!("routes to {} for {bytes} bytes", peer.name());
    wait::until(&what, SOON, || {
        let routes = node.output("ip", &["route", "show", "table", TABLE])?;
        for line in routes.lines() {
            let narrow = line.contains(&format!("mtu {bytes}"));
            let to_peer = line.starts_with(&peer.pod_ranges()[0])
                || line.starts_with(&peer.address().v4.to_string());
            ensure!(narrow == to_peer, "{routes}");
        }
        Ok(())
    })
}

/// A serving pod of this node.
fn pod_of<'a>(cluster: &'a Cluster, node: &str) -> Result<&'a Pod> {
    let found = cluster.web_pods().find(|pod| pod.node_name() == node);
    found.with_context(|| format!("no pod is on {node}"))
}

/// Bytes of the largest frame that was seen.
fn largest_frame(captured: &Captured) -> usize {
    let lengths = captured.packets.iter().map(|it| it.bytes.len());
    lengths.max().unwrap_or_default()
}

/// A router on the way to one peer takes less than the wires before and behind it: the routes to that
/// peer follow what it says. IPv6, since it has no need to tell of IPv4 packets that it may cut up,
/// as those of the kernel's device.
#[test]
fn what_a_router_tells_narrows_the_routes_of_its_peer() -> Result<()> {
    const NARROW: u32 = 1_400;
    let settings = json!({ "wireguard": { "endpointFamily": "ipv6" } });
    let builder = ordinary("enc-router").nodes(3);
    let cluster = builder.agents(encrypting(settings)).start()?;
    cluster.serve()?;
    connect(&cluster)?;
    let [node1, node3] = [cluster.node("node1")?, cluster.node("node3")?];
    route_by_underlay(&cluster, [node1, node3], NARROW)?;

    let (asker, pod) = (cluster.pod("asker")?, pod_of(&cluster, "node3")?);
    for address in pod.address().both() {
        echoes_from(asker, address, 1_380)?;
    }
    for (node, peer) in [(node1, node3), (node3, node1)] {
        only_routes_to_are_narrowed(node, peer, NARROW - OVERHEAD_IPV6)?;
    }
    let capture = cluster.underlay().capture(node3.name())?;
    for address in pod.address().both() {
        echoes_from(asker, address, 1_380)?;
    }
    let largest = largest_frame(&capture.finish()?);
    ensure!(
        largest <= ETHERNET + NARROW as usize,
        "{largest} bytes on a way of {NARROW}"
    );
    Ok(())
}

/// Has both nodes reach each other by the underlay's router, which passes on no packet larger than
/// `mtu`.
fn route_by_underlay(cluster: &Cluster, ends: [&Node; 2], mtu: u32) -> Result<()> {
    let (router, mtu) = (cluster.plan().gateway.v6.to_string(), mtu.to_string());
    for (here, there) in [(ends[0], ends[1]), (ends[1], ends[0])] {
        let way = format!("{}/128", there.address().v6);
        here.output("ip", &["route", "add", &way, "via", &router, "dev", UPLINK])?;
        let underlay = cluster.underlay();
        let narrow = ["route", "add", &way, "dev", BRIDGE, "mtu", "lock", &mtu];
        underlay.output("ip", &narrow)?;
    }
    Ok(())
}

/// The device of both nodes fits into wires of `wire` bytes, and TCP of the pods into it.
fn fits(cluster: &Cluster, wire: u32) -> Result<()> {
    let expected = wire - OVERHEAD;
    for node in cluster.nodes() {
        wait::until(&format!("a device of {expected} bytes"), SOON, || {
            let shown = node.output("ip", &["link", "show", DEVICE])?;
            ensure!(shown.contains(&format!("mtu {expected} ")), "{shown}");
            Ok(())
        })?;
    }
    let (asker, remote) = (cluster.pod("asker")?, remote(cluster)?);
    for (address, headers) in remote.address().both().into_iter().zip(HEADERS) {
        let what = format!("segments to {address} that fit into {expected} bytes");
        wait::until(&what, SOON, || {
            let offered = offered_segment_size(asker, remote, address)?;
            ensure!(offered == expected - headers, "{offered}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Segment size that a pod is offered when `asker` connects.
fn offered_segment_size(asker: &Pod, remote: &Pod, address: IpAddr) -> Result<u32> {
    let capture = remote.capture(UPLINK)?;
    ask_from(asker, address)?;
    let captured = capture.finish()?;
    segment_size(&captured, address).context("no opening segment was seen")
}

/// The option of the first opening segment to `address`.
fn segment_size(captured: &Captured, address: IpAddr) -> Option<u32> {
    let to = SocketAddr::new(address, HTTP_PORT);
    let frames = captured.matching(|it| it.destination == to);
    let opening = frames.first()?;
    let tcp = if address.is_ipv4() { 14 + 20 } else { 14 + 40 };
    // Linux puts it first among the options: kind 2, length 4.
    let option = opening.bytes.get(tcp + 20..tcp + 24)?;
    let size = u16::from_be_bytes([option[2], option[3]]);
    (option[..2] == [2, 4]).then_some(size.into())
}

/// Datagrams of `bytes` that are not to be fragmented on the way come back, in both families, once
/// both pods have been told what fits.
fn echoes(cluster: &Cluster, bytes: usize) -> Result<()> {
    let asker = cluster.pod("asker")?;
    let addresses = remote(cluster)?.address().both();
    addresses
        .iter()
        .try_for_each(|address| echoes_from(asker, *address, bytes))
}

fn echoes_from(asker: &Pod, address: IpAddr, bytes: usize) -> Result<()> {
    let to = SocketAddr::new(address, UDP_PORT);
    wait::until(
        &format!("{bytes} bytes to come back from {address}"),
        SOON,
        || {
            let echoed = echo(asker, to, bytes)?;
            ensure!(echoed >= bytes, "{echoed} bytes");
            Ok(())
        },
    )
}

fn set_mtu(place: &weir_tests::Place, interface: &str, bytes: u32) -> Result<()> {
    let bytes = bytes.to_string();
    place
        .output("ip", &["link", "set", interface, "mtu", &bytes])
        .map(drop)
}
