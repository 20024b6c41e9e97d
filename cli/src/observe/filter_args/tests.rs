use super::*;
use crate::Arguments;
use crate::args::Command as WeirCommand;
use clap::Parser as _;
use weir_proto::flow::{EventTypeFilter, NetworkInterface, TcpFlags, Workload};

type F = FlowFilter;
type Lists = (Vec<FlowFilter>, Vec<FlowFilter>);

fn lists(arguments: &str) -> Result<Lists, String> {
    let words = ["weir", "observe"]
        .into_iter()
        .chain(arguments.split_whitespace());
    match Arguments::try_parse_from(words)
        .map_err(|error| error.to_string())?
        .command
    {
        WeirCommand::Observe(args) => args.filters.lists(),
        other => panic!("{other:?}"),
    }
}

fn text(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[test]
fn flags_become_filters() {
    let verdict = vec![2];
    let workload = || {
        vec![Workload {
            kind: "Deployment".into(),
            name: "web".into(),
        }]
    };
    let event = |r#type, match_sub_type| EventTypeFilter {
        r#type,
        match_sub_type,
        sub_type: 0,
    };
    let cases: Vec<(&str, Vec<F>)> = vec![
        ("", vec![]),
        (
            "--verdict DROPPED",
            vec![F {
                verdict: verdict.clone(),
                ..F::default()
            }],
        ),
        (
            "--encrypted --verdict DROPPED",
            vec![F {
                verdict: verdict.clone(),
                encrypted: vec![true],
                ..F::default()
            }],
        ),
        (
            "--unencrypted",
            vec![F {
                encrypted: vec![false],
                ..F::default()
            }],
        ),
        (
            "--pod web",
            vec![
                F {
                    source_pod: text(&["web"]),
                    ..F::default()
                },
                F {
                    destination_pod: text(&["web"]),
                    ..F::default()
                },
            ],
        ),
        (
            "-n production --pod web",
            vec![
                F {
                    source_pod: text(&["production/web"]),
                    ..F::default()
                },
                F {
                    destination_pod: text(&["production/web"]),
                    ..F::default()
                },
            ],
        ),
        (
            "-n production --service api",
            vec![
                F {
                    source_service: text(&["production/api"]),
                    ..F::default()
                },
                F {
                    destination_service: text(&["production/api"]),
                    ..F::default()
                },
            ],
        ),
        (
            "-A",
            vec![
                F {
                    source_pod: text(&["/"]),
                    ..F::default()
                },
                F {
                    destination_pod: text(&["/"]),
                    ..F::default()
                },
            ],
        ),
        (
            "-A --pod web",
            vec![
                F {
                    source_pod: text(&["/web"]),
                    ..F::default()
                },
                F {
                    destination_pod: text(&["/web"]),
                    ..F::default()
                },
            ],
        ),
        (
            "--from-namespace a --to-namespace b",
            vec![F {
                source_pod: text(&["a/"]),
                destination_pod: text(&["b/"]),
                ..F::default()
            }],
        ),
        (
            "-n a,b --from-pod web",
            vec![
                F {
                    source_pod: text(&["a/web", "b/web"]),
                    ..F::default()
                },
                F {
                    source_pod: text(&["a/web", "b/web"]),
                    destination_pod: text(&["a/", "b/"]),
                    ..F::default()
                },
            ],
        ),
        (
            "-n a --pod a/web",
            vec![
                F {
                    source_pod: text(&["a/web"]),
                    ..F::default()
                },
                F {
                    destination_pod: text(&["a/web"]),
                    ..F::default()
                },
            ],
        ),
        (
            "--ip 10.0.0.1 --port 80,443",
            vec![
                F {
                    source_ip: text(&["10.0.0.1"]),
                    source_port: text(&["80", "443"]),
                    ..F::default()
                },
                F {
                    destination_ip: text(&["10.0.0.1"]),
                    destination_port: text(&["80", "443"]),
                    ..F::default()
                },
            ],
        ),
        (
            "--from-ip ::1 --to-port 80",
            vec![F {
                source_ip: text(&["::1"]),
                destination_port: text(&["80"]),
                ..F::default()
            }],
        ),
        (
            "--from-label app=web,tier=a",
            vec![F {
                source_label: text(&["app=web,tier=a"]),
                ..F::default()
            }],
        ),
        (
            "--identity world",
            vec![
                F {
                    source_identity: vec![2],
                    ..F::default()
                },
                F {
                    destination_identity: vec![2],
                    ..F::default()
                },
            ],
        ),
        (
            "--workload Deployment/web",
            vec![
                F {
                    source_workload: workload(),
                    ..F::default()
                },
                F {
                    destination_workload: workload(),
                    ..F::default()
                },
            ],
        ),
        (
            "-t trace:to-endpoint -t drop -t l7",
            vec![F {
                event_type: vec![event(4, true), event(1, false), event(129, false)],
                ..F::default()
            }],
        ),
        (
            "--tcp-flags syn,ack --tcp-flags rst",
            vec![F {
                tcp_flags: vec![
                    TcpFlags {
                        syn: true,
                        ack: true,
                        ..TcpFlags::default()
                    },
                    TcpFlags {
                        rst: true,
                        ..TcpFlags::default()
                    },
                ],
                ..F::default()
            }],
        ),
        (
            "--interface eth0 --node-name a*",
            vec![F {
                interface: vec![NetworkInterface {
                    name: "eth0".into(),
                    index: 0,
                }],
                node_name: text(&["a*"]),
                ..F::default()
            }],
        ),
        (
            "--protocol http --verdict DROPPED -n production",
            vec![
                F {
                    source_pod: text(&["production/"]),
                    protocol: text(&["http"]),
                    verdict: verdict.clone(),
                    ..F::default()
                },
                F {
                    destination_pod: text(&["production/"]),
                    protocol: text(&["http"]),
                    verdict,
                    ..F::default()
                },
            ],
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(lists(arguments), Ok((expected, vec![])), "{arguments}");
    }
}

#[test]
fn not_turns_the_filter_behind_it_around() {
    let port = |ports: &[&str]| {
        vec![
            F {
                source_port: text(ports),
                ..F::default()
            },
            F {
                destination_port: text(ports),
                ..F::default()
            },
        ]
    };
    let both = |port: &str| F {
        verdict: vec![1],
        source_port: text(&[port]),
        ..F::default()
    };
    let unencrypted = || {
        vec![F {
            encrypted: vec![false],
            ..F::default()
        }]
    };
    let protocol = |name: &str| F {
        protocol: text(&[name]),
        ..F::default()
    };
    let cases: Vec<(&str, Lists)> = vec![
        ("--not --port 53", (vec![], port(&["53"]))),
        (
            "--not --unencrypted --port 80",
            (port(&["80"]), unencrypted()),
        ),
        ("--not --port=53", (vec![], port(&["53"]))),
        ("--not --port 53,80", (vec![], port(&["53", "80"]))),
        ("--not --port 53 --port 80", (port(&["80"]), port(&["53"]))),
        ("--port 80 --not --port 53", (port(&["80"]), port(&["53"]))),
        (
            "--not --protocol udp --protocol tcp",
            (vec![protocol("tcp")], vec![protocol("udp")]),
        ),
        (
            "--not --verdict FORWARDED --not --from-port 53",
            (vec![], vec![both("53")]),
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(lists(arguments), Ok(expected), "{arguments}");
    }
}

#[test]
fn flags_that_make_no_sense_are_refused_by_name() {
    let cases = [
        ("--not", "--not: a filter must follow"),
        ("--port 80 --not", "--not: a filter must follow"),
        ("--verdict LOST", "--verdict: \"LOST\" is not a verdict"),
        ("-n a --pod b/web", "b/web is not in namespace a"),
        ("-A -n a", "cannot be used with"),
        ("--pod=", "--pod: a name is missing"),
        ("--no-such-flag", "unexpected argument"),
    ];
    for (arguments, expected) in cases {
        let error = lists(arguments).unwrap_err();
        assert!(error.contains(expected), "{arguments}: {error}");
    }
}

#[test]
fn an_agent_takes_every_filter() {
    let arguments = "--pod a/b --service a/c --ip 10.0.0.0/8 --port 80 --label app=web \
        --identity 2 --workload web --verdict DROPPED --protocol tcp -t drop \
        --drop-reason-desc POLICY_DENIED --traffic-direction ingress --tcp-flags syn \
        --ip-version 4 --snat-ip ::1 --interface eth0 --node-name a --node-label b=c --uuid x";
    let (allow, deny) = lists(arguments).unwrap();
    assert!(weir_agent::flows::filter::FlowFilters::compile(&allow, &deny).is_ok());
}
