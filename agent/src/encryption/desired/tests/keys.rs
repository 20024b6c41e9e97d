//! Whose key is whose.

use super::super::nodes::Standing;
use super::*;
use crate::state::NEXT_KEY_ANNOTATION;

#[test]
fn a_key_that_is_wrong_or_another_nodes_makes_no_peer() {
    let mut cluster = Cluster::new();
    let owner = cluster.peer("owner", 2, "192.0.2.2", "10.1.2.0/24");
    let mut claim = |name, key: String| {
        let last = cluster.state.nodes().count() + 1;
        let (ip, pods) = (format!("192.0.2.{last}"), format!("10.1.{last}.0/24"));
        cluster.node(name, 5, &ip, &pods, &[(KEY_ANNOTATION, key)]);
    };
    claim("stolen", owner.to_string());
    claim(
        "zero",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into(),
    );
    claim("short", "AAAA".into());
    claim("long", "x".repeat(256 << 10));
    let own = cluster.own_key.unwrap().to_string();
    cluster.node(
        "ours",
        5,
        "192.0.2.66",
        "10.1.66.0/24",
        &[(KEY_ANNOTATION, own)],
    );
    let desired = cluster.desired();
    assert_eq!(desired.peers.keys().collect::<Vec<_>>(), [&owner]);
    assert_eq!(cluster.problems().len(), 5);
    let refused = desired
        .members
        .iter()
        .filter(|it| it.standing == Standing::Refused);
    assert_eq!(refused.count(), 5);
    assert!(
        desired
            .problems
            .iter()
            .all(|problem| problem.message.len() < 400)
    );
    assert_eq!(cluster.flags("10.1.66.0/24"), Some(IpcacheValue::POD));
}

#[test]
fn an_announced_key_takes_over_once_it_is_used() {
    let mut cluster = Cluster::new();
    let (old, new) = (key(), key());
    let keys = [
        (KEY_ANNOTATION, old.to_string()),
        (NEXT_KEY_ANNOTATION, new.to_string()),
    ];
    cluster.node("other", 2, "192.0.2.2", "10.1.2.0/24", &keys);
    let all = ["10.1.2.0/24", "192.0.2.2/32"];
    assert_eq!(
        (cluster.allowed(old), cluster.allowed(new).len()),
        (all.map(Into::into).to_vec(), 0)
    );
    assert!(cluster.desired().peers.contains_key(&new), "it may call");
    cluster.in_use.insert(new);
    assert_eq!(
        (cluster.allowed(old).len(), cluster.allowed(new)),
        (0, all.map(Into::into).to_vec())
    );
}

/// Two peers of one key would be one without prefixes.
#[test]
fn a_key_that_is_announced_and_in_use_is_one_key() {
    let mut cluster = Cluster::new();
    let key = key();
    let keys = [KEY_ANNOTATION, NEXT_KEY_ANNOTATION].map(|name| (name, key.to_string()));
    cluster.node("other", 2, "192.0.2.2", "10.1.2.0/24", &keys);
    for is_used in [false, true] {
        cluster.in_use.extend(is_used.then_some(key));
        assert_eq!(cluster.allowed(key), ["10.1.2.0/24", "192.0.2.2/32"]);
        let desired = cluster.desired();
        assert_eq!(desired.problems, []);
        let mut standings = desired.peer_nodes().map(|member| &member.standing);
        let standing = standings.next();
        assert!(
            matches!(standing, Some(Standing::Peer { next_key: None, .. })),
            "{standing:?}"
        );
    }
}
