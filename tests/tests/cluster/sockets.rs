//! Processes on a node reach ClusterIPs: translated once, at connect time, and none the wiser.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use weir_tests::plan;
use weir_tests::traffic::server::{HTTP_PORT, UDP_PORT};

use crate::setting::{
    DATAGRAMS, ECHO, HTTP, SOON, backends, ordinary, start_with_web, wait_for_web, web,
};
use weir_tests::wait;

fn cluster_ips() -> [IpAddr; 2] {
    plan::cluster_ip(0).both()
}

#[test]
fn a_pod_reaches_a_cluster_ip_and_is_told_that_it_did() -> Result<()> {
    let cluster = start_with_web(&ordinary("clusterip"))?;
    let pod = cluster.pod("asker")?;
    for address in cluster_ips() {
        let report = pod.http(address, HTTP).requests(100).run()?;
        assert_eq!(report.failed, 0, "{report:?}");
        let reached: BTreeSet<_> = report.backends.keys().copied().collect();
        assert_eq!(reached, backends(&cluster, address, HTTP_PORT));
        assert_eq!(
            report.peers,
            [SocketAddr::new(address, HTTP)].into(),
            "getpeername"
        );
        assert!(
            report
                .clients
                .iter()
                .all(|seen| pod.address().contains(*seen)),
            "{report:?}"
        );
    }
    Ok(())
}

#[test]
fn a_process_of_the_node_reaches_a_cluster_ip() -> Result<()> {
    let cluster = start_with_web(&ordinary("nodeproc"))?;
    for address in cluster_ips() {
        let report = cluster
            .node("node2")?
            .http(address, HTTP)
            .requests(50)
            .run()?;
        assert_eq!(report.failed, 0, "{report:?}");
        assert_eq!(report.peers, [SocketAddr::new(address, HTTP)].into());
    }
    Ok(())
}

#[test]
fn datagrams_of_unconnected_sockets_come_back_from_the_cluster_ip() -> Result<()> {
    let cluster = start_with_web(&ordinary("sendmsg"))?;
    let pod = cluster.pod("asker")?;
    for address in cluster_ips() {
        for connected in [false, true] {
            let traffic = pod.udp(address, DATAGRAMS).requests(50);
            let report = if connected {
                traffic.connected()
            } else {
                traffic
            }
            .run()?;
            assert_eq!(report.failed, 0, "connected: {connected}: {report:?}");
            let known = backends(&cluster, address, UDP_PORT);
            assert!(
                report
                    .backends
                    .keys()
                    .all(|backend| known.contains(backend)),
                "{report:?}"
            );
            assert_eq!(report.peers, [SocketAddr::new(address, DATAGRAMS)].into());
        }
    }
    Ok(())
}

/// As of QUIC: the second datagram is for whoever got the first.
#[test]
fn datagrams_of_one_socket_go_to_one_backend() -> Result<()> {
    let cluster = start_with_web(&ordinary("quic"))?;
    let pod = cluster.pod("asker")?;
    for address in cluster_ips() {
        let to = SocketAddr::new(address, DATAGRAMS);
        let mut chosen = BTreeSet::new();
        for _ in 0..8 {
            let answers = pod.run(|| -> std::io::Result<BTreeSet<String>> {
                let any = if address.is_ipv4() {
                    "0.0.0.0:0"
                } else {
                    "[::]:0"
                };
                let socket = std::net::UdpSocket::bind(any)?;
                socket.set_read_timeout(Some(SOON))?;
                let answer = |_| {
                    socket.send_to(b"whose am I?", to)?;
                    let mut bytes = [0; 1_500];
                    let length = socket.recv(&mut bytes)?;
                    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
                };
                (0..10).map(answer).collect()
            })??;
            anyhow::ensure!(answers.len() == 1, "{answers:?}");
            chosen.extend(answers);
        }
        anyhow::ensure!(chosen.len() > 1, "all sockets go to {chosen:?}");
    }
    Ok(())
}

#[test]
fn no_packet_of_a_translated_connection_carries_the_cluster_ip() -> Result<()> {
    let cluster = start_with_web(&ordinary("once"))?;
    let pod = cluster.pod("asker")?;
    let address = cluster_ips()[0];
    let capture = pod.capture("eth0")?;
    assert_eq!(pod.http(address, HTTP).requests(10).run()?.failed, 0);
    let known = backends(&cluster, address, HTTP_PORT);
    capture.wait_for("packets to backends", SOON, |captured| {
        captured.matching(|s| known.contains(&s.destination)).len() >= 10
    })?;
    let captured = capture.finish()?;
    let strays = captured.matching(|s| s.destination.ip() == address || s.source.ip() == address);
    assert!(strays.is_empty(), "{} packets", strays.len());
    Ok(())
}

#[test]
fn a_pod_reaches_itself_through_a_service() -> Result<()> {
    let cluster = ordinary("hairpin").start()?;
    cluster.serve()?;
    let pod = cluster.pod("web-1")?;
    cluster.apply(&web().over([pod]))?;
    wait_for_web(&cluster)?;
    for address in cluster_ips() {
        let report = pod.http(address, HTTP).requests(10).run()?;
        assert_eq!(report.failed, 0, "translated at connect: {report:?}");
        // Unseen by the hooks, so translated packet by packet; the server says whom it sees.
        let to = SocketAddr::new(address, ECHO);
        let answer = wait::until(&format!("an echo from {to}"), SOON, || {
            Ok(pod.run(|| -> std::io::Result<_> {
                let mut stream = std::net::TcpStream::connect_timeout(&to, SOON)?;
                stream.set_read_timeout(Some(SOON))?;
                stream.write_all(b"is it me?\n")?;
                let mut lines = BufReader::new(stream).lines();
                let mut next = || lines.next().unwrap_or(Ok(String::new()));
                Ok([next()?, next()?])
            })??)
        })?;
        let [introduction, echo] = answer;
        assert_eq!(echo, "is it me?");
        assert!(introduction.contains("web-1"), "{introduction}");
        let node = cluster.node(pod.node_name())?.address();
        let seen = if address.is_ipv4() {
            node.v4.to_string()
        } else {
            node.v6.to_string()
        };
        assert!(introduction.contains(&seen), "{introduction}");
    }
    Ok(())
}

#[test]
fn sockets_that_hooks_do_not_see_are_translated_packet_by_packet() -> Result<()> {
    let cluster = start_with_web(&ordinary("fallback"))?;
    let pod = cluster.pod("asker")?;
    for address in cluster_ips() {
        // A thread of this test is in the pod's network, but in no cgroup of its node.
        let to = SocketAddr::new(address, HTTP);
        let connected = wait::until(&format!("a connection to {to}"), SOON, || {
            Ok(pod.run(|| std::net::TcpStream::connect_timeout(&to, SOON))??)
        })?;
        assert_eq!(connected.peer_addr()?, to);
    }
    Ok(())
}
