//! A client outside reaches a Service through the uplink.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use weir_tests::agent::AgentConfig;
use weir_tests::capture::packet::{TCP, UDP};
use weir_tests::traffic::server::{HTTP_PORT, UDP_PORT};
use weir_tests::wait;

use crate::setting::{
    DATAGRAMS, HTTP, NODE_PORT, SOON, backends, ordinary, start_with_web, try_once,
};

#[test]
fn a_client_reaches_all_backends_on_both_nodes_over_tcp() -> Result<()> {
    let cluster = start_with_web(&ordinary("tcp"))?;
    let client = cluster.client("client")?;
    for vip in cluster.vips(0) {
        let report = client.http(vip, HTTP).requests(200).parallel(4).run()?;
        assert_eq!(report.failed, 0, "{report:?}");
        let reached: BTreeSet<_> = report.backends.keys().copied().collect();
        assert_eq!(reached, backends(&cluster, vip, HTTP_PORT));
        assert_eq!(
            report.peers,
            [SocketAddr::new(vip, HTTP)].into(),
            "the client sees the VIP"
        );
    }
    Ok(())
}

#[test]
fn a_client_reaches_all_backends_on_both_nodes_over_udp() -> Result<()> {
    let cluster = start_with_web(&ordinary("udp"))?;
    let client = cluster.client("client")?;
    for vip in cluster.vips(0) {
        for connected in [false, true] {
            let traffic = client.udp(vip, DATAGRAMS).requests(100);
            let traffic = if connected {
                traffic.connected()
            } else {
                traffic
            };
            let report = traffic.run()?;
            assert_eq!(report.failed, 0, "{report:?}");
            let reached: BTreeSet<_> = report.backends.keys().copied().collect();
            assert_eq!(reached, backends(&cluster, vip, UDP_PORT));
            assert_eq!(report.peers, [SocketAddr::new(vip, DATAGRAMS)].into());
        }
    }
    Ok(())
}

#[test]
fn checksums_and_ttl_are_right_on_the_wire() -> Result<()> {
    let cluster = start_with_web(&ordinary("wire"))?;
    let client = cluster.client("client")?;
    for link in ["client", "node1", "node2"] {
        let capture = cluster.underlay().capture(link)?;
        for vip in cluster.vips(0) {
            assert_eq!(client.http(vip, HTTP).requests(20).run()?.failed, 0);
            assert_eq!(client.udp(vip, DATAGRAMS).requests(20).run()?.failed, 0);
        }
        let captured = capture.finish()?;
        let transport = captured.matching(|s| matches!(s.protocol, TCP | UDP));
        let unfinished = transport
            .iter()
            .filter(|packet| packet.checksum_unfinished)
            .count();
        assert_eq!(unfinished, 0, "on {link}");
        let checked = captured.check_checksums()?;
        assert!(checked > 100, "{checked} checksums on {link}");
        for packet in transport {
            let summary = packet.summary().expect("matched by its summary");
            assert!(
                summary.ttl >= 60,
                "no hop is counted twice: {summary:?} on {link}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_node_port_answers_on_every_node() -> Result<()> {
    let cluster = start_with_web(&ordinary("nodeport"))?;
    let client = cluster.client("client")?;
    for node in cluster.nodes() {
        for address in node.address().both() {
            let report = client
                .http(address, NODE_PORT)
                .requests(100)
                .parallel(4)
                .run()?;
            assert_eq!(report.failed, 0, "{address}: {report:?}");
            let reached: BTreeSet<_> = report.backends.keys().copied().collect();
            assert_eq!(reached, backends(&cluster, address, HTTP_PORT));
            assert_eq!(report.peers, [SocketAddr::new(address, NODE_PORT)].into());
        }
    }
    Ok(())
}

#[test]
fn all_nodes_choose_the_same_backend_for_a_connection() -> Result<()> {
    let cluster = start_with_web(&ordinary("same").client_of_all_nodes("spread"))?;
    let client = cluster.client("spread")?;
    for vip in cluster.vips(0) {
        let report = client.http(vip, HTTP).requests(200).parallel(4).run()?;
        assert_eq!(report.failed, 0, "{report:?}");
    }
    Ok(())
}

/// A veth loses what XDP sends, and brings packets whose checksums are not finished.
#[test]
fn uplinks_that_are_veths_are_left_to_tc() -> Result<()> {
    let config = AgentConfig {
        xdp_mode: "auto".into(),
        ..AgentConfig::default()
    };
    let cluster = start_with_web(&ordinary("plain").agents(config).plain_wires())?;
    let client = cluster.client("client")?;
    for vip in cluster.vips(0) {
        let report = client.http(vip, HTTP).requests(100).run()?;
        assert_eq!((report.failed, report.backends.len()), (0, 4), "{report:?}");
        let report = client.udp(vip, DATAGRAMS).requests(100).run()?;
        assert_eq!((report.failed, report.backends.len()), (0, 4), "{report:?}");
    }
    Ok(())
}

#[test]
fn it_works_with_generic_xdp() -> Result<()> {
    let config = AgentConfig {
        xdp_mode: "generic".into(),
        ..AgentConfig::default()
    };
    let cluster = start_with_web(&ordinary("generic").agents(config))?;
    let status = cluster.node("node1")?.agent()?.status()?;
    assert!(!status.is_xdp_native(), "{}", status.0);
    for vip in cluster.vips(0) {
        let report = cluster
            .client("client")?
            .http(vip, HTTP)
            .requests(100)
            .run()?;
        assert_eq!((report.failed, report.backends.len()), (0, 4), "{report:?}");
    }
    Ok(())
}

#[test]
fn the_first_connection_works_before_neighbours_are_known() -> Result<()> {
    let cluster = start_with_web(&ordinary("neigh"))?;
    for _ in 0..4 {
        for member in cluster.nodes() {
            member.output("ip", &["neigh", "flush", "all"])?;
        }
        for vip in cluster.vips(0) {
            let report = cluster
                .client("client")?
                .http(vip, HTTP)
                .requests(8)
                .run()?;
            assert_eq!(report.failed, 0, "{report:?}");
        }
    }
    Ok(())
}

#[test]
fn malformed_packets_break_nothing() -> Result<()> {
    let cluster = start_with_web(&ordinary("malformed"))?;
    let (client, node) = (cluster.client("client")?, cluster.node("node1")?);
    let target = node.hardware_address("eth0")?;
    let source = client.hardware_address("eth0")?;
    let capture = client.capture("eth0")?;
    let vip = cluster.vips(0)[0];
    assert_eq!(client.http(vip, HTTP).requests(1).run()?.failed, 0);
    capture.wait_for("a good packet to the VIP", SOON, |captured| {
        !captured
            .matching(|s| s.destination == SocketAddr::new(vip, HTTP))
            .is_empty()
    })?;
    let captured = capture.finish()?;
    let good = captured.matching(|s| s.destination == SocketAddr::new(vip, HTTP))[0]
        .bytes
        .clone();
    let mut frames: Vec<Vec<u8>> = (15..good.len())
        .map(|length| good[..length].to_vec())
        .collect();
    // Every byte of the IP header turned over, lengths and versions among them.
    frames.extend((14..34).map(|at| {
        let mut frame = good.clone();
        frame[at] ^= 0xff;
        frame
    }));
    let header = [&target[..], &source[..]].concat();
    for kind in [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x08, 0x06]] {
        frames.push([&header[..], &kind[..], &[0xff; 46]].concat());
        frames.push([&header[..], &kind[..]].concat());
    }
    client.send_frames("eth0", &frames)?;
    for vip in cluster.vips(0) {
        assert_eq!(client.http(vip, HTTP).requests(50).run()?.failed, 0);
    }
    ensure!(node.agent()?.ended()?.is_none(), "the agent runs");
    Ok(())
}

#[test]
fn two_clusters_work_beside_each_other() -> Result<()> {
    let one = start_with_web(&ordinary("beside-a"))?;
    let two = start_with_web(&ordinary("beside-b"))?;
    one.delete("service-web")?;
    wait::until_true("the Service of one cluster to go", SOON, || {
        try_once(&one, one.vips(0)[0], HTTP).is_err()
    })?;
    one.remove()?;
    for vip in two.vips(0) {
        let report = two.client("client")?.http(vip, HTTP).requests(50).run()?;
        assert_eq!((report.failed, report.backends.len()), (0, 4), "{report:?}");
    }
    Ok(())
}
