//! What is no Service is left alone.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Result;
use weir_tests::traffic::server::{HTTP_PORT, UDP_PORT};

use crate::setting::{ordinary, start_with_web};

#[test]
fn pods_reach_each_other_and_clients_reach_pods() -> Result<()> {
    let cluster = start_with_web(&ordinary("plain"))?;
    let asker = cluster.pod("asker")?;
    for pod in cluster.web_pods() {
        for address in pod.address().both() {
            for place in [
                &**asker,
                &**cluster.client("client")?,
                &**cluster.node("node2")?,
            ] {
                let report = place.http(address, HTTP_PORT).requests(5).run()?;
                assert_eq!(
                    report.failed,
                    0,
                    "{} -> {address}: {report:?}",
                    place.name()
                );
                assert_eq!(report.names.keys().collect::<Vec<_>>(), [pod.name()]);
                let report = place.udp(address, UDP_PORT).requests(5).run()?;
                assert_eq!(
                    report.failed,
                    0,
                    "{} -> {address}: {report:?}",
                    place.name()
                );
            }
            let report = asker.http(address, HTTP_PORT).requests(1).run()?;
            let own = report
                .clients
                .iter()
                .all(|seen| asker.address().contains(*seen));
            assert!(own, "no address is translated between pods: {report:?}");
        }
    }
    Ok(())
}

#[test]
fn a_server_on_the_node_itself_is_reached() -> Result<()> {
    let cluster = start_with_web(&ordinary("host"))?;
    let node = cluster.node("node1")?;
    for address in node.address().both() {
        let address = SocketAddr::new(address, 22);
        let listener = node.run(|| TcpListener::bind(address))??;
        let deadline = Duration::from_secs(5);
        let client = cluster.client("client")?;
        let stream = client.run(|| TcpStream::connect_timeout(&address, deadline))??;
        let (accepted, peer) = listener.accept()?;
        assert_eq!(
            (peer, accepted.local_addr()?),
            (stream.local_addr()?, address)
        );
    }
    Ok(())
}

#[test]
fn a_port_that_is_no_frontend_is_refused_by_the_node() -> Result<()> {
    let cluster = start_with_web(&ordinary("noport"))?;
    let node = cluster.node("node1")?;
    for address in node.address().both() {
        let report = cluster
            .client("client")?
            .http(address, 30_081)
            .requests(3)
            .run()?;
        assert_eq!(report.failed, 3);
        let refused = report
            .failures
            .0
            .keys()
            .all(|text| text.contains("refused"));
        assert!(refused, "{report:?}");
    }
    Ok(())
}
