use super::*;
use serde_json::{Value, json};

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn plan() -> Plan {
    Plan {
        namespace: "check".into(),
        image: "weir:1".into(),
        pull_policy: None,
        nodes: vec!["a".into(), "b".into()],
    }
}

fn pod(name: &str, ips: &[&str]) -> Pod {
    let ips: Vec<_> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
    read(json!({ "metadata": { "name": name }, "status": { "podIPs": ips } }))
}

fn node(name: &str, ip: &str) -> Node {
    let addresses = json!([
        { "type": "Hostname", "address": name },
        { "type": "InternalIP", "address": ip },
        { "type": "ExternalIP", "address": "198.51.100.1" },
    ]);
    read(json!({ "metadata": { "name": name }, "status": { "addresses": addresses } }))
}

fn services() -> [Service; 2] {
    let ports = json!([
        { "protocol": "TCP", "port": 80, "nodePort": 30001 },
        { "protocol": "UDP", "port": 80, "nodePort": 30002 },
    ]);
    let service = |name: &str, ip: &str| {
        let spec = json!({ "clusterIPs": [ip], "ports": ports });
        read(json!({ "metadata": { "name": name }, "spec": spec }))
    };
    [
        service("echo", "10.96.0.1"),
        service("echo-nodes", "10.96.0.2"),
    ]
}

fn agent(name: &str, node: &str, container: &str, phase: &str) -> Pod {
    let containers = json!([
        { "name": container, "image": format!("weir:{node}"), "command": ["/bin/weir-agent"] },
    ]);
    read(json!({
        "metadata": { "name": name, "namespace": "weir-system" },
        "spec": { "nodeName": node, "containers": containers },
        "status": { "phase": phase },
    }))
}

#[test]
fn agents_are_those_that_run_one() {
    let agents = Agents::among(&[
        agent("weir-1", "a", "agent", "Running"),
        agent("weir-2", "b", "agent", "Pending"),
        agent("other", "c", "sidecar", "Running"),
    ]);
    assert_eq!(
        agents.by_node,
        [("a".to_owned(), "weir-system/weir-1".to_owned())].into()
    );
    assert_eq!(agents.image.as_deref(), Some("weir:a"));
    assert_eq!(Agents::among(&[]), Agents::default());
}

#[test]
fn what_was_made_is_described() {
    let agents = Agents::among(&[agent("weir-1", "a", "agent", "Running")]);
    let found = Found {
        plan: &plan(),
        nodes: &[node("a", "192.0.2.1"), node("b", "192.0.2.2")],
        pods: &[
            pod("server-1", &["10.0.1.1", "fd00:1::1"]),
            pod("server-2", &["10.0.2.1", "fd00:2::1"]),
            pod("client-2", &["10.0.2.2"]),
            pod("host-1", &["192.0.2.1"]),
            pod("stranger", &["10.0.9.9"]),
        ],
        services: &services(),
        agents: &agents,
        has_dns: true,
        outside: true,
    };
    let inventory = members(&found);
    inventory.check().unwrap();
    assert_eq!(
        inventory.nodes[0].addresses,
        ["192.0.2.1".parse::<IpAddr>().unwrap()]
    );
    let has_agent: Vec<_> = inventory
        .nodes
        .iter()
        .map(|node| node.agent.is_some())
        .collect();
    assert_eq!(has_agent, [true, false]);
    let clients: Vec<_> = inventory
        .clients
        .iter()
        .map(|it| (&*it.name, it.kind))
        .collect();
    assert_eq!(
        clients,
        [
            ("client-2", ClientKind::Pod),
            ("host-1", ClientKind::Node),
            ("this-machine", ClientKind::Outside),
        ]
    );
    assert_eq!(inventory.clients[0].pod.as_deref(), Some("check/client-2"));
    assert_eq!(inventory.servers[1].addresses.len(), 2);
    let [cluster, nodes] = &inventory.services[..] else {
        panic!("{:?}", inventory.services)
    };
    assert_eq!(cluster.dns_name.as_deref(), Some("echo.check.svc"));
    assert_eq!(cluster.node_ports, Ports::default());
    assert!(nodes.cluster_ips.is_empty());
    assert_eq!(
        (nodes.node_ports.tcp, nodes.node_ports.udp),
        (Some(30001), Some(30002))
    );
}
