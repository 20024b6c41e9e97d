//! The real server and the real probes, on loopback.

use std::net::SocketAddr;

use super::*;
use crate::probe::{Answer, Dial, Probe, Report};

fn dial(address: SocketAddr, times: u32) -> Dial {
    Dial {
        ip: address.ip(),
        port: address.port(),
        times,
        timeout_ms: 2000,
    }
}

/// A server that ends with the test.
async fn tcp(tasks: &mut JoinSet<Result<()>>, address: &str) -> SocketAddr {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(http::serve(listener, "me".into()));
    address
}

fn names(report: &Report) -> Vec<&str> {
    let answers = report.attempts.iter();
    answers
        .map(|attempt| match &attempt.answer {
            Answer::Server(server) => {
                assert_eq!(Some(server.peer), attempt.local, "the server sees who asks");
                &*server.name
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn servers_say_who_they_are_over_both_protocols_and_families() {
    let mut tasks = JoinSet::new();
    for loopback in ["127.0.0.1:0", "[::1]:0"] {
        let address = tcp(&mut tasks, loopback).await;
        let report = Probe::Tcp(dial(address, 3)).run().await;
        assert_eq!(names(&report), ["me"; 3]);
        let socket = UdpSocket::bind(loopback).await.unwrap();
        let address = socket.local_addr().unwrap();
        tasks.spawn(datagram::serve(socket, "me".into()));
        let report = Probe::Udp(dial(address, 3)).run().await;
        assert_eq!(names(&report), ["me"; 3]);
    }
}

#[tokio::test]
async fn large_transfers_are_compared() {
    let mut tasks = JoinSet::new();
    let address = tcp(&mut tasks, "127.0.0.1:0").await;
    let dial = dial(address, 1);
    let report = Probe::Transfer {
        dial: dial.clone(),
        bytes: 3 << 20,
    }
    .run()
    .await;
    assert_eq!(names(&report), ["me"]);
    let too_much = Probe::Transfer {
        dial,
        bytes: (64 << 20) + 1,
    }
    .run()
    .await;
    let Answer::Failed(why) = &too_much.attempts[0].answer else {
        panic!("{too_much:?}")
    };
    assert!(why.contains("getting 67108865 bytes: status 400"), "{why}");
}

#[tokio::test]
async fn nobody_there_is_a_result_with_the_port_that_was_used() {
    // Free a moment ago, and nobody else's on a machine where ports are not handed out in order.
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    for probe in [Probe::Tcp(dial(free, 9)), Probe::Udp(dial(free, 9))] {
        let report = probe.run().await;
        assert_eq!(report.attempts.len(), 3, "it is not tried for ever");
        for attempt in report.attempts {
            assert!(
                attempt.local.is_some_and(|local| local.port() != 0),
                "{attempt:?}"
            );
            let Answer::Failed(why) = attempt.answer else {
                panic!("{:?}", attempt.answer)
            };
            assert!(why.contains("refused"), "{why}");
        }
    }
}

#[tokio::test]
async fn a_server_that_talks_of_something_else_is_told_from_silence() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stranger = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"SSH-2.0-stranger\r\n").unwrap();
    });
    let report = Probe::Tcp(dial(address, 1)).run().await;
    stranger.join().unwrap();
    let Answer::Failed(why) = &report.attempts[0].answer else {
        panic!("{report:?}")
    };
    assert!(why.starts_with("connected, but then: "), "{why}");
}

#[tokio::test]
async fn a_wildcard_socket_shows_peers_in_their_own_family() {
    let mut tasks = JoinSet::new();
    let all = SocketAddr::new(everywhere(), 0).to_string();
    let port = tcp(&mut tasks, &all).await.port();
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    assert_eq!(names(&Probe::Tcp(dial(address, 1)).run().await), ["me"]);
}

#[tokio::test]
async fn names_are_looked_up_as_programs_do() {
    let look_up = |name: &str| Probe::Name {
        name: name.into(),
        timeout_ms: 5000,
    };
    let report = look_up("localhost").run().await;
    let Answer::Addresses(addresses) = &report.attempts[0].answer else {
        panic!("{report:?}")
    };
    assert!(addresses.iter().all(IpAddr::is_loopback) && !addresses.is_empty());
    let report = look_up("there.is.no.such.name.invalid").run().await;
    assert!(
        matches!(report.attempts[0].answer, Answer::Failed(_)),
        "{report:?}"
    );
}
