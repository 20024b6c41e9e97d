//! The real program against a real server on a socket of its own.

mod server;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use ebpf_abi::event::{EventKind, ObservationPoint, ReplyState};
use ebpf_abi::{Addr4, Address as _, Be16, DropReason, FlowEvent, Protocol};
use weir_agent::state::{Problem, Severity};

use server::{Server, weir};

fn run(mut command: Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn address(text: &str) -> ebpf_abi::Addr6 {
    Addr4::from(text.parse::<std::net::Ipv4Addr>().unwrap()).widen()
}

/// A SYN from outside to the pod.
fn syn(port: u16) -> FlowEvent {
    FlowEvent {
        source: address("203.0.113.9"),
        translated_source: address("203.0.113.9"),
        destination: address("10.0.0.1"),
        translated_destination: address("10.0.0.1"),
        source_port: Be16::new(port),
        destination_port: Be16::new(8080),
        kind: EventKind::TRACE,
        point: ObservationPoint::TO_ENDPOINT,
        family: 4,
        protocol: Protocol::TCP,
        tcp_flags: ebpf_abi::tcp::SYN,
        reply: ReplyState::ORIGINAL,
        ..FlowEvent::default()
    }
}

fn drop_of(event: FlowEvent) -> FlowEvent {
    FlowEvent {
        kind: EventKind::DROP,
        drop_reason: DropReason::NoBackend as u8,
        ..event
    }
}

/// Waits for a child with a deadline.
fn wait(mut child: Child) -> (i32, String) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "weir still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut errors = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    (child.wait().unwrap().code().unwrap(), errors)
}

#[test]
fn flows_are_shown_in_every_form() {
    let mut server = Server::start();
    server.publish(syn(40_000));
    server.publish(drop_of(syn(40_001)));

    let (code, text, errors) = run(server.weir(&["observe", "--print-node-name"]));
    assert_eq!((code, errors.as_str()), (0, ""));
    let identity = text
        .split("(ID:")
        .nth(1)
        .unwrap()
        .split(')')
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(
        text.replace(&identity, "N"),
        "Jan 31 08:00:00.500 [node-1]: 203.0.113.9:40000 (world) -> shop/web-1:8080 (ID:N) \
         to-endpoint FORWARDED (TCP Flags: SYN)\n\
         Jan 31 08:00:00.500 [node-1]: 203.0.113.9:40001 (world) <> shop/web-1:8080 (ID:N) \
         Service backend not found DROPPED (TCP Flags: SYN)\n"
    );

    let (_, text, _) = run(server.weir(&["observe", "--verdict", "DROPPED", "-o", "dict"]));
    assert!(
        text.contains("       TYPE: Service backend not found\n"),
        "{text}"
    );
    let (_, text, _) =
        run(server.weir(&["observe", "--from-port", "40000", "-o", "tab", "--numeric"]));
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("203.0.113.9:40000   10.0.0.1:8080"), "{text}");
}

#[test]
fn json_is_one_answer_per_line_with_the_names_of_the_api() {
    let mut server = Server::start();
    server.publish(syn(40_000));
    server.publish(drop_of(syn(40_001)));
    let (code, text, _) = run(server.weir(&["observe", "-o", "json"]));
    assert_eq!(code, 0);
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["flow"]["IP"]["ipVersion"], "IPv4");
    assert_eq!(lines[0]["flow"]["l4"]["TCP"]["destination_port"], 8080);
    assert_eq!(lines[0]["flow"]["is_reply"], false);
    assert_eq!(lines[0]["flow"]["destination"]["pod_name"], "web-1");
    assert_eq!(lines[0]["node_name"], "node-1");
    assert_eq!(
        lines[1]["flow"]["drop_reason_desc"],
        "SERVICE_BACKEND_NOT_FOUND"
    );
    assert_eq!(lines[1]["time"], "2026-01-31T08:00:00.500Z");
}

#[test]
fn filters_reach_the_agent() {
    let mut server = Server::start();
    (1..=5).for_each(|port| server.publish(syn(port)));
    let count = |arguments: &[&str]| {
        let (code, text, errors) = run(server.weir(arguments));
        assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}");
        text.lines().count()
    };
    let cases: [(&[&str], usize); 15] = [
        (&["observe"], 5),
        (&["observe", "--last", "2"], 2),
        (&["observe", "--first", "3"], 3),
        (&["observe", "-n", "shop"], 5),
        (&["observe", "-n", "bank"], 0),
        (&["observe", "--pod", "shop/web", "--port", "8080"], 5),
        // The pod has no such port: it is the other end's.
        (&["observe", "--pod", "shop/web", "--port", "3"], 0),
        (&["observe", "--not", "--from-port", "3,4"], 3),
        (&["observe", "--since", "2026-01-31T08:00:01"], 0),
        (&["observe", "--protocol", "tcp"], 5),
        (&["observe", "--protocol", "udp"], 0),
        (&["observe", "--ip", "203.0.113.0/24"], 5),
        (&["observe", "--ip", "203.0.114.9"], 0),
        (&["observe", "--verdict", "FORWARDED"], 5),
        (&["observe", "--verdict", "DROPPED"], 0),
    ];
    for (arguments, expected) in cases {
        assert_eq!(count(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn following_shows_flows_at_once_and_ends_well_when_interrupted() {
    let mut server = Server::start();
    let mut child = server
        .weir(&["observe", "-f", "--last", "1"])
        .spawn()
        .unwrap();
    server.publish(syn(1));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The first may have been published before or after the call came; the second is new.
    assert!(lines.next().unwrap().unwrap().contains("203.0.113.9:1 "));
    server.publish(syn(2));
    assert!(lines.next().unwrap().unwrap().contains("203.0.113.9:2 "));
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupt.success());
    assert_eq!(wait(child), (0, String::new()));
}

#[test]
fn an_agent_that_stops_ends_the_stream_with_the_code_for_it() {
    let mut server = Server::start();
    let mut child = server
        .weir(&["observe", "-f", "--last", "1"])
        .spawn()
        .unwrap();
    server.publish(syn(1));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    drop(server);
    let (code, errors) = wait(child);
    assert_eq!(code, 3, "{errors}");
    assert!(errors.contains("the agent is shutting down"), "{errors}");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let mut server = Server::start();
    (0..10_000).for_each(|port| server.publish(syn(port)));
    let mut child = server.weir(&["observe", "--all"]).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    assert!(first.contains("FORWARDED"), "{first}");
    assert_eq!(wait(child), (0, String::new()));
}

#[test]
fn status_and_lists_are_for_people_and_programs() {
    let server = Server::start();
    server.state.update(|cluster| {
        let problem = Problem {
            severity: Severity::Warning,
            origin: "web.yaml:3".into(),
            object: "Service shop/web".into(),
            field: "spec.typo".into(),
            message: "unknown field".into(),
        };
        cluster.set_problems("manifests", vec![problem])
    });
    let (code, text, _) = run(server.weir(&["status"]));
    assert_eq!(code, 0);
    assert!(text.contains("node-1, ready, up "), "{text}");
    assert!(
        text.contains("warning: web.yaml:3: Service shop/web: spec.typo: unknown field"),
        "{text}"
    );
    let cases = [
        ("status", None, "10.96", "node_name"),
        ("service", Some("list"), "TCP 10.96.0.1:80", "services"),
        ("backend", Some("list"), "TCP 10.0.0.1:8080", "backends"),
        ("endpoint", Some("list"), "web-1", "endpoints"),
    ];
    for (command, list, shown, key) in cases {
        let words: Vec<&str> = [command].into_iter().chain(list).collect();
        let (code, text, errors) = run(server.weir(&words));
        assert_eq!((code, errors.as_str()), (0, ""), "{command}");
        assert!(text.contains(shown) || command == "status", "{text}");
        let words: Vec<&str> = words.into_iter().chain(["-o", "json"]).collect();
        let (_, text, _) = run(server.weir(&words));
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(json.get(key).is_some(), "{json}");
    }
}

#[test]
fn as_many_backends_as_the_maps_hold_are_listed() {
    let server = Server::with_backends(250_000);
    let (code, text, errors) = run(server.weir(&["service", "list"]));
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(text.contains("250000/250000"), "{text}");
    let (code, text, errors) = run(server.weir(&["backend", "list"]));
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(text.lines().count(), 1 + 250_000);
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let server = Server::start();
    let socket = format!("unix://{}", server.folder.path().join("none").display());
    let cases: [(Command, i32, &str); 6] = [
        (weir(&socket, &["status"]), 3, "no agent answers at unix://"),
        (
            server.weir(&["observe", "--no-such-flag"]),
            2,
            "--no-such-flag",
        ),
        (
            server.weir(&["observe", "--verdict", "LOST"]),
            2,
            "is not a verdict",
        ),
        (server.weir(&["observe", "-f", "-o", "tab"]), 2, "--follow"),
        (
            server.weir(&["--server", "nowhere", "status"]),
            2,
            "unix:///PATH or HOST:PORT",
        ),
        (
            server.weir(&["observe", "--port", "http"]),
            1,
            "invalid filter: source_port: \"http\"",
        ),
    ];
    for (command, expected, message) in cases {
        let (code, text, errors) = run(command);
        assert_eq!((code, text.as_str()), (expected, ""), "{errors}");
        assert!(errors.contains(message), "{errors}");
    }
}

#[test]
fn help_names_the_exit_codes_and_gives_examples() {
    for (arguments, parts) in [
        (
            &["--help"][..],
            &["Exit codes:", "3  no agent answers", "weir observe -f"][..],
        ),
        (
            &["observe", "--help"][..],
            &["Reading a line:", "--not", "--from-pod"][..],
        ),
    ] {
        let (code, text, _) = run(weir("unix:///none", arguments));
        assert_eq!(code, 0);
        for part in parts {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn encryption_that_is_off_is_told_and_its_commands_say_what_to_do() {
    let server = Server::start();
    let (code, text, errors) = run(server.weir(&["encrypt", "status"]));
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(text.starts_with("Encryption: off"), "{text}");
    let (_, text, _) = run(server.weir(&["status"]));
    assert!(text.contains("\nEncryption: off\n"), "{text}");
    for command in ["peers", "report", "rotate-key"] {
        let (code, text, errors) = run(server.weir(&["encrypt", command]));
        assert_eq!((code, text.as_str()), (1, ""), "{command}");
        assert!(errors.contains("encryption.enabled"), "{errors}");
    }
    // What cannot be is refused before anybody is asked.
    let (code, _, errors) = run(server.weir(&["encrypt", "report", "--during", "soon"]));
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("such as 10s"), "{errors}");
}

#[test]
fn flows_are_told_apart_by_where_they_were_encrypted() {
    let mut server = Server::start();
    server.publish(syn(40_000));
    server.publish(FlowEvent {
        point: ObservationPoint::TO_CRYPTO,
        ..syn(40_001)
    });
    for (flag, port, encrypted) in [
        ("--encrypted", "40001", true),
        ("--unencrypted", "40000", false),
    ] {
        let (code, text, errors) = run(server.weir(&["observe", flag, "-o", "json"]));
        assert_eq!((code, errors.as_str()), (0, ""));
        assert_eq!(text.lines().count(), 1, "{flag}: {text}");
        assert!(text.contains(port), "{flag}: {text}");
        assert_eq!(text.contains("\"encrypted\":true"), encrypted, "{text}");
    }
}
