use super::*;
use weir_proto::admin::{EncryptionBackend, TcMode};

fn shown(status: &StatusResponse) -> String {
    let mut out = Vec::new();
    Screen {
        paint: Paint::new(false),
        out: &mut out,
    }
    .show(status)
    .unwrap();
    String::from_utf8(out).unwrap()
}

fn counter(name: &str, value: u64) -> Counter {
    Counter {
        name: name.into(),
        value,
    }
}

#[test]
fn a_working_agent() {
    let interface = |name: &str, role: InterfaceRole, xdp: XdpMode| Interface {
        name: name.into(),
        index: 2,
        role: role.into(),
        xdp_mode: xdp.into(),
        tc_mode: TcMode::Tcx.into(),
    };
    let status = StatusResponse {
        version: "0.1.0".into(),
        node_name: "node-1".into(),
        uptime: Some(prost_types::Duration {
            seconds: 192,
            nanos: 0,
        }),
        datapath: Some(Datapath {
            abi_version: 1,
            interfaces: vec![
                interface("eth0", InterfaceRole::Uplink, XdpMode::Native),
                interface("veth12", InterfaceRole::Pod, XdpMode::Unspecified),
            ],
            cgroup_hooks: vec!["connect4".into(), "connect6".into()],
            cgroup: "/sys/fs/cgroup".into(),
            adopted: true,
            generation: 3,
        }),
        counters: vec![counter("events_sent", 9), counter("malformed", 0)],
        maps: vec![MapLevel {
            name: "CONNTRACK4".into(),
            entries: 12,
            capacity: 48,
        }],
        source: Some(Source {
            kind: "manifests".into(),
            location: "/etc/weir/manifests".into(),
            revision: 5,
            synced: true,
        }),
        problems: vec![Problem {
            severity: Severity::Warning.into(),
            origin: "web.yaml:7".into(),
            object: "Service shop/web".into(),
            field: "spec.ports[0].port".into(),
            message: "not honoured yet".into(),
        }],
        flows: Some(Flows {
            seen: 1000,
            stored: 50,
            capacity: 100,
            rate: 12.5,
            lost: vec![counter("kernel_ring_buffer", 3), counter("decoder", 0)],
        }),
        waiting_for: vec![],
        failures: vec![],
        encryption: Some(EncryptionSummary {
            enabled: true,
            backend: EncryptionBackend::Kernel.into(),
            device: "weir_wg0".into(),
            nodes: 3,
            peers: 2,
            unanswered: 1,
            strict: true,
            rotating: true,
            failure: String::new(),
        }),
    };
    assert_eq!(
        shown(&status),
        "\
Agent:      weir 0.1.0 on node-1, ready, up 3m12s
Source:     manifests /etc/weir/manifests, revision 5, in step
Data path:  layout 1, generation 3, maps adopted from an earlier agent
  eth0     uplink   XDP native   TC tcx
  veth12   pod      no XDP       TC tcx
  sockets of /sys/fs/cgroup: connect4 connect6
Encryption: kernel device weir_wg0, 2 of 3 nodes are peers, 1 DO NOT ANSWER, strict, changing the key
Flows:      1000 seen, 12.5/s, 50 of 100 kept (50.0 %), LOST 3 in kernel_ring_buffer
Maps:
  CONNTRACK4   12 of 48   25.0 %
Counters:
  events_sent   9
Problems:   1
  warning: web.yaml:7: Service shop/web: spec.ports[0].port: not honoured yet
"
    );
}

#[test]
fn an_agent_that_has_just_begun() {
    let text = shown(&StatusResponse {
        waiting_for: vec!["attach to interfaces".into(), "apply services".into()],
        ..StatusResponse::default()
    });
    for part in [
        "starting (has yet to attach to interfaces, apply services)",
        "first read not done",
        "sockets are not",
        "none lost",
        "Problems:   none",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_failed_is_shown() {
    let text = shown(&StatusResponse {
        failures: vec!["not attached to eth0: busy".into()],
        ..StatusResponse::default()
    });
    for part in [
        "degraded",
        "Failures:   1\n  failed: not attached to eth0: busy\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_exit_code_tells_starting_and_degraded_from_well() {
    let status = |waits: &[&str], failures: &[&str], problems: &[Severity]| StatusResponse {
        waiting_for: waits.iter().map(ToString::to_string).collect(),
        failures: failures.iter().map(ToString::to_string).collect(),
        problems: problems
            .iter()
            .map(|severity| Problem {
                severity: (*severity).into(),
                ..Problem::default()
            })
            .collect(),
        ..StatusResponse::default()
    };
    let cases = [
        (status(&[], &[], &[]), 0),
        (status(&[], &[], &[Severity::Warning]), 0),
        (status(&["apply services"], &["x"], &[Severity::Error]), 4),
        (status(&[], &["x"], &[]), 5),
        (status(&[], &[], &[Severity::Warning, Severity::Error]), 5),
    ];
    for (status, expected) in cases {
        let code = verdict(&status).map_or_else(|failure| failure.exit_code(), |()| 0);
        assert_eq!(code, expected, "{status:?}");
    }
}

#[test]
fn spans() {
    let cases = [(7, "7s"), (192, "3m12s"), (7_500, "2h5m"), (93_600, "1d2h")];
    for (seconds, expected) in cases {
        assert_eq!(span(seconds), expected);
    }
}
