use super::*;
use serde_json::{Value, json};

fn plan() -> Plan {
    Plan {
        namespace: "check".into(),
        image: "weir:1".into(),
        pull_policy: None,
        nodes: vec!["a".into(), "b".into()],
    }
}

#[test]
fn a_pod_of_each_role_on_each_node() {
    let pods = plan().pods();
    let pods: Vec<Value> = pods
        .iter()
        .map(|pod| serde_json::to_value(pod).unwrap())
        .collect();
    let names: Vec<_> = pods
        .iter()
        .map(|pod| pod["metadata"]["name"].as_str().unwrap())
        .collect();
    let expected = [
        "server-1", "client-1", "host-1", "server-2", "client-2", "host-2",
    ];
    assert_eq!(names, expected);
    for (index, pod) in pods.iter().enumerate() {
        let node = if index < 3 { "a" } else { "b" };
        let rules = "requiredDuringSchedulingIgnoredDuringExecution";
        let terms = &pod["spec"]["affinity"]["nodeAffinity"][rules]["nodeSelectorTerms"];
        assert_eq!(terms[0]["matchFields"][0]["values"], json!([node]));
        let in_node_network = pod["spec"]["hostNetwork"] == true;
        assert_eq!(in_node_network, names[index].starts_with("host"));
        // Only servers listen: in the network of a node a port may be taken.
        let command = &pod["spec"]["containers"][0]["command"];
        let listens = command
            .as_array()
            .unwrap()
            .iter()
            .any(|word| word == "--tcp-port");
        assert_eq!(listens, names[index].starts_with("server"));
    }
}

#[test]
fn services_lead_to_servers_alone() {
    let plan = plan();
    for service in plan.services() {
        let selector = service.spec.unwrap().selector.unwrap();
        for pod in plan.pods() {
            let labels = pod.metadata.labels.unwrap();
            let selected = selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value));
            assert_eq!(selected, pod.metadata.name.unwrap().starts_with("server"));
        }
    }
}

fn node(name: &str, spec: &Value, ready: &str) -> Node {
    serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": spec,
        "status": { "conditions": [{ "type": "Ready", "status": ready, "message": "so it is" }] },
    }))
    .unwrap()
}

#[test]
fn nodes_that_take_pods_are_chosen_those_with_agents_first() {
    let taint = |effect: &str| json!({ "taints": [{ "key": "k", "effect": effect }] });
    let all = [
        node("a", &json!({}), "True"),
        node("b", &taint("PreferNoSchedule"), "True"),
        node("c", &taint("NoSchedule"), "True"),
        node("d", &json!({ "unschedulable": true }), "True"),
        node("e", &json!({}), "False"),
        node("f", &json!({}), "True"),
    ];
    let agents: ByNode = [("f".to_owned(), "agent-f".to_owned())].into();
    let chosen = |most| {
        let nodes = choose_nodes(&all, &agents, most).unwrap();
        nodes
            .iter()
            .map(|node| name(node).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(chosen(2), ["f", "a"]);
    assert_eq!(chosen(9), ["f", "a", "b"]);
    let error = choose_nodes(&all[2..5], &agents, 2)
        .unwrap_err()
        .to_string();
    for why in [
        "c: it has the taint k",
        "d: it is cordoned",
        "e: it is not ready: so it is",
    ] {
        assert!(error.contains(why), "{why:?} is not in {error}");
    }
    // Without one with an agent nothing of Weir would be tried.
    let error = choose_nodes(&all[..2], &agents, 2).unwrap_err().to_string();
    assert!(error.contains("kubectl uncordon"), "{error}");
    assert_eq!(choose_nodes(&all[..2], &ByNode::new(), 2).unwrap().len(), 2);
    let none = choose_nodes(&[], &agents, 2).unwrap_err().to_string();
    assert!(none.contains("no node at all"), "{none}");
}
