//! Filters by names of pods, services and nodes, by labels and identities.

use super::*;

#[test]
fn names() {
    let record = named(packet());
    expect(
        &record,
        |v| FlowFilter {
            source_pod: text(v),
            ..Default::default()
        },
        &[
            ("shop/web", true),
            ("shop/web-1", true),
            ("shop/web-1/ignored", true),
            ("shop/", true),
            ("/web", true),
            ("/", true),
            ("web", false), // in namespace default
            ("default/", false),
            ("shop/api", false),
        ],
    );
    expect(
        &record,
        |v| FlowFilter {
            destination_pod: text(v),
            ..Default::default()
        },
        &[
            ("/", false), // nothing is known of it
        ],
    );
    expect(
        &record,
        |v| FlowFilter {
            destination_service: text(v),
            ..Default::default()
        },
        &[
            ("shop/db", true),
            ("shop/d", true),
            ("/", true),
            ("db", false),
        ],
    );
    expect(
        &record,
        |v| FlowFilter {
            source_service: text(v),
            ..Default::default()
        },
        &[("/", false)],
    );
    let workload = |(kind, name): (&str, &str)| {
        let workload = WorkloadFilter {
            kind: kind.into(),
            name: name.into(),
        };
        FlowFilter {
            source_workload: vec![workload],
            ..Default::default()
        }
    };
    expect(
        &record,
        workload,
        &[
            (("Deployment", "web"), true),
            (("", "web"), true),
            (("Deployment", ""), true),
            (("", ""), true),
            (("StatefulSet", "web"), false),
            (("", "we"), false),
        ],
    );
    expect(
        &record,
        |v| FlowFilter {
            node_name: text(v),
            ..Default::default()
        },
        &[
            ("node-1", true),
            ("NODE-1", true),
            ("node-*", true),
            ("*-1", true),
            ("node", false),
            ("default/", true),
            ("/node-1", true),
            ("default/node-1", true),
            ("other/node-1", false),
        ],
    );
    expect(
        &record,
        |v| FlowFilter {
            source_cluster_name: text(v),
            ..Default::default()
        },
        &[("default", true), ("def", false)],
    );
}

#[test]
fn labels_and_identities() {
    let record = named(packet());
    expect(
        &record,
        |v| FlowFilter {
            source_label: text(v),
            ..Default::default()
        },
        &[
            ("app=web", true),
            ("k8s:app in (web,db)", true),
            ("app=db", false),
        ],
    );
    expect(
        &record,
        |v| FlowFilter {
            destination_label: text(v),
            ..Default::default()
        },
        &[("reserved:world", true), ("app", false)],
    );
    expect(
        &record,
        |v| FlowFilter {
            node_labels: text(v),
            ..Default::default()
        },
        &[("zone=a", true), ("k8s:zone=a", false)],
    );
    expect(
        &record,
        |v| FlowFilter {
            source_identity: vec![v],
            ..Default::default()
        },
        &[(4711, true), (2, false)],
    );
    expect(
        &record,
        |v| FlowFilter {
            destination_identity: vec![v],
            ..Default::default()
        },
        &[(2, true), (4711, false)],
    );
}
