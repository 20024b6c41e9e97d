use super::*;

/// Two nodes with a client and a server on each, one outside, one service.
pub(crate) const TEXT: &str = r#"
nodes:
  - { name: node1, addresses: [192.0.2.1, "2001:db8::1"], agent: [ssh, node1, weir] }
  - { name: node2, addresses: [192.0.2.2, "2001:db8::2"] }
clients:
  - { name: client-1, kind: pod, node: node1, pod: shop/client-1, command: [ip, netns, exec, c1, weir] }
  - { name: client-2, kind: pod, node: node2, pod: shop/client-2, addresses: [10.0.2.9] }
  - { name: host-1, kind: node, node: node1 }
  - { name: laptop, kind: outside }
servers:
  - name: server-1
    node: node1
    pod: shop/server-1
    addresses: [10.0.1.1, "fd00:1::1"]
    ports: { tcp: 8080, udp: 8080 }
    command: [ip, netns, exec, s1, weir]
  - { name: server-2, node: node2, pod: shop/server-2, addresses: [10.0.2.1, "fd00:2::1"], ports: { tcp: 8080, udp: 8080 } }
services:
  - name: shop/echo
    servers: [server-1, server-2]
    clusterIPs: [10.96.0.1, "fd00:96::1"]
    ports: { tcp: 80, udp: 80 }
    nodePorts: { tcp: 30080 }
"#;

pub(crate) fn inventory() -> Inventory {
    let inventory: Inventory = serde_yaml_ng::from_str(TEXT).unwrap();
    inventory.check().unwrap();
    inventory
}

fn read(text: &str) -> Result<Inventory, InventoryError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inventory.yaml");
    fs::write(&path, text).unwrap();
    Inventory::read(&path)
}

fn told(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|it| format!(": {it}"));
    format!("{error}{}", source.unwrap_or_default())
}

#[test]
fn what_is_written_can_be_read_again() {
    let inventory = read(TEXT).unwrap();
    assert_eq!(inventory.services[0].node_ports.tcp, Some(30080));
    assert_eq!(inventory.clients[3].kind, ClientKind::Outside);
    let text = serde_yaml_ng::to_string(&inventory).unwrap();
    assert_eq!(read(&text).unwrap(), inventory);
}

#[test]
fn a_field_that_is_not_known_is_refused_with_its_place() {
    let error = read(&TEXT.replace("nodePorts:", "nodePort:")).unwrap_err();
    let text = told(&error);
    assert!(
        text.contains("services[0]") && text.contains("nodePort"),
        "{text}"
    );
    let error = told(&read("nodes: 7").unwrap_err());
    assert!(error.contains("nodes"), "{error}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = TEXT
        .replace("kind: outside", "kind: outside, node: node1")
        .replace("kind: node, node: node1", "kind: node")
        .replace("pod: shop/client-2", "pod: client-2")
        .replace("servers: [server-1, server-2]", "servers: [server-9]")
        .replace("name: server-2, node: node2", "name: server-1, node: node9");
    let error = read(&text).unwrap_err().to_string();
    for mistake in [
        "client laptop: one outside is on no node",
        "client host-1: on which node is it?",
        "client client-2: `pod` is NAMESPACE/NAME",
        "servers: two are called server-1",
        "server server-1: there is no node node9",
        "service shop/echo: there is no server server-9",
    ] {
        assert!(error.contains(mistake), "{mistake:?} is not in {error}");
    }
}
