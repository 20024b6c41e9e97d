//! The cluster library itself: no agent is involved, nodes only route.

#[path = "harness/end.rs"]
mod end;

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weir_tests::binary::{self, Binary};
use weir_tests::capture::packet::{TCP, UDP};
use weir_tests::traffic::server::{ECHO_PORT, HTTP_PORT, UDP_PORT};
use weir_tests::{Cluster, ClusterBuilder, Losses, wait};

const SECONDS_10: Duration = Duration::from_secs(10);

fn plain(name: &str) -> ClusterBuilder {
    binary::announce(Binary::Traffic, env!("CARGO_BIN_EXE_weir-traffic"));
    Cluster::builder(name)
        .nodes(2)
        .pods_per_node(1)
        .client("client")
        .without_agents()
}

#[test]
fn everyone_reaches_every_pod_over_both_families() -> Result<()> {
    let cluster = plain("route").pods_per_node(2).start()?;
    cluster.serve()?;
    let client = cluster.client("client")?;
    for pod in cluster.pods() {
        for address in pod.address().both() {
            let report = client.http(address, HTTP_PORT).requests(5).run()?;
            assert_eq!(
                (report.failed, &report.names[pod.name()]),
                (0, &5),
                "{report:?}"
            );
            assert!(
                report
                    .clients
                    .iter()
                    .all(|seen| client.address().contains(*seen))
            );
            let report = client.udp(address, UDP_PORT).requests(5).run()?;
            assert_eq!(report.failed, 0, "{report:?}");
            assert_eq!(
                report.peers.first(),
                Some(&SocketAddr::new(address, UDP_PORT))
            );
        }
    }
    for (from, to) in [("web-1", "web-4"), ("web-3", "web-4")] {
        for address in cluster.pod(to)?.address().both() {
            let report = cluster
                .pod(from)?
                .http(address, HTTP_PORT)
                .requests(5)
                .run()?;
            assert_eq!(report.failed, 0, "{from} -> {to}: {report:?}");
        }
    }
    Ok(())
}

#[test]
fn a_cluster_of_two_nodes_starts_within_two_seconds() -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        let cluster = plain("fast").pods_per_node(2).start()?;
        times.push(start.elapsed());
        cluster.remove()?;
    }
    // Other tests share the machine: the best shows what it takes.
    let best = times.iter().min().context("three were taken")?;
    ensure!(*best < Duration::from_secs(2), "it took {times:?}");
    Ok(())
}

#[test]
fn checksums_on_the_underlay_are_finished() -> Result<()> {
    let cluster = plain("sums").start()?;
    cluster.serve()?;
    let client = cluster.client("client")?;
    let capture = cluster.underlay().capture("client")?;
    for address in cluster.pod("web-2")?.address().both() {
        assert_eq!(client.http(address, HTTP_PORT).requests(3).run()?.failed, 0);
        assert_eq!(client.udp(address, UDP_PORT).requests(3).run()?.failed, 0);
    }
    let captured = capture.finish()?;
    let unfinished = captured.matching(|s| matches!(s.protocol, TCP | UDP));
    let unfinished = unfinished
        .iter()
        .filter(|packet| packet.checksum_unfinished)
        .count();
    assert_eq!(unfinished, 0, "offload is off on every link on the way");
    assert!(
        captured.check_checksums()? > 40,
        "{}",
        captured.packets.len()
    );
    let file = tempfile::NamedTempFile::new()?;
    captured.write_pcap(file.path())?;
    let bytes: usize = captured
        .packets
        .iter()
        .map(|packet| 16 + packet.bytes.len())
        .sum();
    assert_eq!(std::fs::metadata(file.path())?.len(), 24 + bytes as u64);
    Ok(())
}

#[test]
fn a_frame_sent_raw_arrives_as_it_was() -> Result<()> {
    let cluster = plain("raw").start()?;
    let capture = cluster.node("node1")?.capture("eth0")?;
    let target = cluster.node("node1")?.hardware_address("eth0")?;
    let frame: Vec<u8> = target
        .into_iter()
        .chain([2, 0, 0, 0, 0, 7, 0x08, 0, 0x45])
        .collect();
    let frame = [frame, vec![0xee; 50]].concat();
    cluster
        .client("client")?
        .send_frames("eth0", std::slice::from_ref(&frame))?;
    capture.wait_for("the broken frame", SECONDS_10, |captured| {
        captured.packets.iter().any(|packet| packet.bytes == frame)
    })
}

#[test]
fn streams_and_load_report_what_happened() -> Result<()> {
    let cluster = plain("load").start()?;
    let pod = cluster.pod("web-2")?;
    pod.serve()?;
    let client = cluster.client("client")?;
    let address: IpAddr = pod.address().v4.into();
    let streams = client.stream(address, ECHO_PORT).streams(3).start()?;
    let load = client
        .load(address, HTTP_PORT, 200)
        .length(Duration::from_secs(2))
        .run()?;
    assert_eq!((load.connections, load.failed), (400, 0), "{load:?}");
    let reports = streams.stop()?;
    assert_eq!(reports.len(), 3);
    for report in &reports {
        assert_eq!(report.error, None, "{report:?}");
        assert!(report.rounds > 20, "{report:?}");
    }
    let streams = client.stream(address, ECHO_PORT).start()?;
    wait::until("the stream to be open", SECONDS_10, || {
        let text = pod.output("cat", &["/proc/net/tcp6"])?;
        let established = text
            .lines()
            .any(|l| l.contains(":2328 ") && l.contains(" 01 "));
        ensure!(established, "{text}");
        Ok(())
    })?;
    pod.stop_serving();
    let reports = streams.finish()?;
    assert!(
        reports[0].error.is_some(),
        "the end of the server is noticed: {reports:?}"
    );
    assert_ne!(client.http(address, HTTP_PORT).requests(2).run()?.failed, 0);
    Ok(())
}

#[test]
fn datagrams_that_nobody_answers_are_counted_as_lost() -> Result<()> {
    let cluster = plain("numbered").start()?;
    cluster.serve()?;
    let pod = cluster.pod("web-1")?;
    let before = Losses::of(&cluster)?;
    let client = cluster.client("client")?;
    for address in pod.address().both() {
        let datagrams = client.numbered(address, UDP_PORT, 2_000).start()?;
        // Some are answered, some are not.
        thread::sleep(Duration::from_millis(500));
        pod.stop_serving();
        thread::sleep(Duration::from_millis(50));
        pod.serve()?;
        let report = datagrams.stop()?;
        ensure!(0 < report.lost && report.lost < report.sent, "{report:?}");
        ensure!(
            report.examples.len() as u64 == report.lost.min(320),
            "{report:?}"
        );
    }
    // Nothing else of the machine lost anything.
    let losses = Losses::of(&cluster)?.since(&before);
    ensure!(losses == Losses::default(), "{losses:?}");
    Ok(())
}

#[test]
fn closures_run_in_the_namespace_and_their_panics_come_back() -> Result<()> {
    let cluster = plain("run").start()?;
    let pod = cluster.pod("web-1")?;
    let (listener, address) = pod.run(|| -> Result<_> {
        let listener = TcpListener::bind((pod.address().v4, 7777))?;
        Ok((listener, SocketAddr::new(pod.address().v4.into(), 7777)))
    })??;
    let stream = cluster
        .client("client")?
        .run(|| TcpStream::connect_timeout(&address, SECONDS_10))??;
    assert_eq!(listener.accept()?.1, stream.local_addr()?);
    let panic = catch_unwind(AssertUnwindSafe(|| pod.run(|| panic!("from inside"))));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"from inside"));
    Ok(())
}

#[test]
fn a_node_sees_its_own_links_bpffs_and_cgroup_only() -> Result<()> {
    let cluster = plain("node").start()?;
    let node = cluster.node("node1")?;
    let script = "ls /sys/class/net; ls -A /sys/fs/bpf /run; cat /proc/mounts; \
                  cat /sys/fs/cgroup/cgroup.procs | grep -c .";
    let text = node.output("sh", &["-c", script])?;
    assert!(text.contains("pod1") && !text.contains("br0"), "{text}");
    let cgroups: Vec<_> = text.lines().filter(|l| l.contains(" cgroup2 ")).collect();
    assert_eq!(cgroups.len(), 1, "{text}");
    assert!(cgroups[0].contains(" /sys/fs/cgroup "), "{text}");
    assert!(text.contains(" /sys/fs/bpf bpf "), "{text}");
    Ok(())
}

#[test]
fn ecmp_clients_use_all_nodes() -> Result<()> {
    let cluster = Cluster::builder("ecmp")
        .client_of_all_nodes("client")
        .without_agents()
        .start()?;
    let client = cluster.client("client")?;
    let routes = client.output("ip", &["route", "show", "203.0.113.0/24"])?;
    assert!(
        routes.contains("172.18.0.11") && routes.contains("172.18.0.12"),
        "{routes}"
    );
    Ok(())
}

#[test]
fn two_clusters_do_not_see_each_other() -> Result<()> {
    let (one, two) = (plain("one").start()?, plain("two").start()?);
    one.serve()?;
    let address: IpAddr = one.pod("web-1")?.address().v4.into();
    assert_eq!(
        one.client("client")?
            .http(address, HTTP_PORT)
            .requests(2)
            .run()?
            .failed,
        0
    );
    let other = two
        .client("client")?
        .http(address, HTTP_PORT)
        .requests(2)
        .run()?;
    assert_eq!(
        other.failed, 2,
        "the same address, but nobody serves there: {other:?}"
    );
    one.remove()?;
    // A refused connection is an answer of the other cluster's node.
    let node = SocketAddr::new(two.node("node2")?.address().v4.into(), 9);
    let client = two.client("client")?;
    let error = client
        .run(|| TcpStream::connect_timeout(&node, SECONDS_10))?
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    Ok(())
}
