//! Services, ICMP errors and fragments: all of it inside the tunnel where it goes node to node.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use weir_tests::traffic::server::UDP_PORT;
use weir_tests::{Place, plan, wait};

use super::{assert_unreadable, connect, look, remote, start};
use crate::setting::{DATAGRAMS, HTTP, NODE_PORT, SOON, wait_for_web};

/// A port that nobody listens at.
const CLOSED: u16 = 9;

/// Over IPv6 between the nodes, for a change.
#[test]
fn services_errors_and_fragments_stay_inside_the_tunnel() -> Result<()> {
    let over_ipv6 = json!({ "wireguard": { "endpointFamily": "ipv6" } });
    let cluster = start("enc-services", over_ipv6)?;
    let capture = look(&cluster)?;
    connect(&cluster)?;
    wait_for_web(&cluster)?;
    let client = cluster.client("client")?;
    let asker = cluster.pod("asker")?;

    // From outside: by the service's own address, and by a port of the first node.
    let node1 = cluster.node("node1")?.address();
    for vip in cluster.vips(0) {
        let report = client.udp(vip, DATAGRAMS).requests(60).run()?;
        assert_eq!((report.failed, report.backends.len()), (0, 4), "{report:?}");
    }
    for address in node1.both() {
        let report = client.http(address, NODE_PORT).requests(60).run()?;
        assert_eq!((report.failed, report.backends.len()), (0, 4), "{report:?}");
    }
    // From a pod and a process of another node, whose sockets are translated at connect.
    let here: &Place = cluster.node(asker.node_name())?;
    let there = cluster.node(remote(&cluster)?.node_name())?.address();
    for inside in [asker, here] {
        for address in there.both() {
            let report = inside.http(address, NODE_PORT).requests(60).run()?;
            assert_eq!((report.failed, report.backends.len()), (0, 4), "{report:?}");
        }
    }
    for address in plan::cluster_ip(0).both() {
        let report = asker.http(address, HTTP).requests(60).run()?;
        assert_eq!((report.failed, report.backends.len()), (0, 4), "{report:?}");
    }
    // An error of the other node's pod, and datagrams larger than any packet.
    for address in remote(&cluster)?.address().both() {
        wait::until("the port to be reported closed", SOON, || {
            is_refused(asker, SocketAddr::new(address, CLOSED))
        })?;
        // IPv6 is told first how large a fragment may be.
        wait::until("4,000 bytes to come back", SOON, || {
            let echoed = echo(asker, SocketAddr::new(address, UDP_PORT), 4_000)?;
            ensure!(echoed >= 4_000, "{echoed} bytes from {address}");
            Ok(())
        })?;
    }
    assert_unreadable(&cluster, &capture.finish()?, 500)
}

/// A socket of `place` that is connected to `to`.
fn socket(place: &Place, to: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = place.run(|| -> Result<UdpSocket> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        Ok(socket)
    })??;
    socket.set_read_timeout(Some(wait::patiently(Duration::from_secs(1))))?;
    Ok(socket)
}

fn is_refused(place: &Place, to: SocketAddr) -> Result<()> {
    let socket = socket(place, to)?;
    socket.send(b"anyone there?")?;
    match socket.recv(&mut [0; 64]) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => anyhow::bail!("{other:?} instead of a refusal"),
    }
}

/// Sends a datagram of this many bytes, and returns how many came back.
pub fn echo(place: &Place, to: SocketAddr, bytes: usize) -> Result<usize> {
    let socket = socket(place, to)?;
    socket.send(&vec![7; bytes])?;
    Ok(socket.recv(&mut vec![0; 65_535])?)
}
