//! The userspace device as other tools see it: the `wg` of wireguard-tools, and raw requests.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use weir_agent::encryption::routing::Family;
use weir_agent::encryption::userspace::serve::control_socket;

use crate::node::{Node, has_process, is_root};
use crate::traffic::{connected, echo};

#[test]
fn wg_shows_and_changes_the_device() {
    if !is_root() {
        return;
    }
    if Command::new("wg").arg("--version").output().is_err() {
        println!("SKIPPED: wireguard-tools are not installed");
        return;
    }
    let (one, two) = connected("wg", Family::V4);
    echo(&one, &two, Family::V4, 1000);
    let (name, peer) = (one.settings().name, two.public_key());
    let show = |what: &str| one.output(&format!("wg show {name} {what}"));
    assert_eq!(show("public-key").trim(), one.public_key().to_string());
    assert_eq!(show("listen-port").trim(), "51871");
    assert_eq!(show("fwmark").trim(), "0xe1f0");
    assert_eq!(show("endpoints").trim(), format!("{peer}\t192.0.2.2:51871"));
    let handshakes = show("latest-handshakes");
    let handshake: u64 = handshakes
        .split_whitespace()
        .nth(1)
        .expect("a time")
        .parse()
        .expect("s");
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("after it")
        .as_secs();
    assert!(now - handshake < 60, "{handshakes} at {now}");
    one.output(&format!(
        "wg set {name} peer {peer} persistent-keepalive 25 allowed-ips 10.8.0.0/16"
    ));
    let state = one.state();
    let config = &state.peers[&peer];
    assert_eq!(config.keepalive_seconds.map(u16::from), Some(25));
    assert_eq!(
        config.allowed_ips,
        ["10.8.0.0/16".parse().expect("valid")].into()
    );
    assert_eq!(
        state.traffic[&peer].last_handshake.map(|_| ()),
        Some(()),
        "same session"
    );
    one.output(&format!("wg set {name} peer {peer} remove"));
    assert!(one.state().peers.is_empty());
}

#[test]
fn bad_requests_are_answered_and_change_nothing() {
    if !is_root() || !has_process() {
        return;
    }
    let node = Node::new("bad", 1);
    node.create();
    let path = control_socket(&node.settings().name);
    let zeros = "0".repeat(64);
    let ask = |request: &str| {
        let mut stream = UnixStream::connect(&path).expect("it listens");
        stream.write_all(request.as_bytes()).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("ended");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    };
    let own = node.public_key();
    let own = own.as_bytes().iter().map(|byte| format!("{byte:02x}"));
    let own: String = own.collect();
    let before = node.state();
    for request in [
        "\n",
        "hello\n\n",
        "set=1\nlisten_port=0\n\n",
        "set=1\nlisten_port=70000\n\n",
        "set=1\nprivate_key=12\n\n",
        "set=1\nno equals sign\n\n",
        "set=1\nfwmark=-1\n\n",
        &format!("set=1\npublic_key={zeros}\n\n"),
        &format!("set=1\npublic_key={own}\nendpoint=nowhere\n\n"),
        &format!("set=1\npublic_key={own}\nallowed_ip=10.0.0.0/33\n\n"),
        &format!("set=1\npublic_key={own}\n\n"),
    ] {
        let answer = ask(request);
        assert!(
            answer.starts_with("errno=") && answer != "errno=0\n\n",
            "{request:?}: {answer}"
        );
        assert_eq!(node.state(), before, "{request:?}");
    }
    // Cut off in the middle.
    drop(UnixStream::connect(&path).expect("it listens"));
    assert_eq!(node.state(), before);
}
