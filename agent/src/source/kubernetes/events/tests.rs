use super::*;

fn error(object: &str, field: &str, message: &str) -> Problem {
    Problem {
        severity: Severity::Error,
        origin: "https://api/".to_owned(),
        object: object.to_owned(),
        field: field.to_owned(),
        message: message.to_owned(),
    }
}

#[test]
fn only_objects_with_plain_names_get_events() {
    for (object, expected) in [
        ("Service shop/web", Some("Service shop/web")),
        ("Node worker-1.example", Some("Node worker-1.example")),
        ("EndpointSlice shop/web-x", Some("EndpointSlice shop/web-x")),
        ("Namespace shop", None),
        ("Service web", None),
        ("Service shop/../../nodes", None),
        ("Service shop/..", None),
        ("Service shop/we\u{fffd}b", None),
        ("Node ", None),
        ("", None),
    ] {
        let key = key(&error(object, "", "")).map(|key| key.to_string());
        assert_eq!(key.as_deref(), expected, "{object:?}");
    }
}

#[test]
fn two_nodes_of_many_report_each_mistake_and_all_take_their_share() {
    let names: Vec<String> = (0..100).map(|number| format!("node-{number}")).collect();
    let nodes: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut busy: HashSet<&str> = HashSet::new();
    for number in 0..50 {
        let object = format!("Service shop/s{number}");
        let reporters: Vec<&str> = nodes
            .iter()
            .copied()
            .filter(|node| is_reporter(node, &nodes, &object))
            .collect();
        assert_eq!(reporters.len(), REPORTERS, "{object}");
        busy.extend(reporters);
    }
    assert!(busy.len() > 40, "{} nodes share the work", busy.len());
    assert!(is_reporter("alone", &["alone"], "Service shop/web"));
}

#[test]
fn a_mistake_is_told_when_it_stays_and_again_only_much_later() {
    let now = Instant::now();
    let key = |name: &str| ObjectKey {
        kind: Kind::Service,
        name: ObjectName::new("shop", name),
    };
    let one = |name: &str| BTreeMap::from([((key(name), 1), "is wrong".to_owned())]);
    let mut ledger = Ledger::default();
    assert_eq!(ledger.due(one("a"), now), []);
    assert_eq!(ledger.due(one("b"), now), [], "a went, b is new");
    assert_eq!(ledger.due(one("b"), now).len(), 1);
    // Telling failed, so it is due still.
    assert_eq!(ledger.due(one("b"), now).len(), 1);
    ledger.told((key("b"), 1), now);
    assert_eq!(ledger.due(one("b"), now), []);
    let later = now + AGAIN_AFTER;
    assert_eq!(ledger.due(one("b"), later).len(), 1);
    // Many at once are spread over time.
    let many: BTreeMap<_, _> = (0..100)
        .map(|n| ((key(&format!("m{n}")), 1), String::new()))
        .collect();
    ledger.due(many.clone(), now);
    assert_eq!(ledger.due(many, now).len(), AT_ONCE_MAX);
}

#[test]
fn messages_and_names_fit() {
    let long = error("Service shop/web", "spec.ports[0]", &"é".repeat(2_000));
    assert!(message(&long).len() <= 1_024);
    let key = ObjectKey {
        kind: Kind::EndpointSlice,
        name: ObjectName::new("shop", "s".repeat(253)),
    };
    let involved = Involved {
        metadata: InvolvedMetadata {
            uid: "u".to_owned(),
        },
    };
    let access = object::access(key.kind);
    let event = event(&key, 7, "is wrong", &involved, "worker", access);
    let name = event["metadata"]["name"].as_str().unwrap();
    assert!(
        name.len() <= 253 && name.ends_with(".0000000000000007"),
        "{name}"
    );
    assert_eq!(event["involvedObject"]["apiVersion"], "discovery.k8s.io/v1");
}

#[test]
fn where_no_agent_publishes_itself_all_nodes_share_the_work() {
    let node = |number: usize| crate::state::Node {
        name: format!("node-{number}").as_str().into(),
        created_at_seconds: None,
        addresses: Vec::new(),
        pod_cidrs: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    };
    let mut state = ClusterState::default();
    let nodes = (0..50).map(|number| crate::state::Object::Node(node(number)));
    state.apply(nodes.map(crate::state::Change::Upsert).collect());
    state.set_problems("test", vec![error("Service shop/web", "spec", "is wrong")]);
    let reporters = |publish: bool| {
        let names = (0..50).map(|number| format!("node-{number}"));
        names
            .filter(|name| !mistakes(&state, name, publish).is_empty())
            .count()
    };
    assert_eq!(reporters(false), REPORTERS);
    assert_eq!(reporters(true), 50, "each believes to be alone");
}
