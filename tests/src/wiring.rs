//! The links, addresses and routes of a plan, as lines for `ip -batch`: pure.
//!
//! A veth pair leads from each node and client to a bridge in the underlay. Pods hang on their
//! node by one veth each, wired as one of the common CNI plugins does it ([`PodWiring`]).

use std::fmt::Write as _;

use crate::namespace;
use crate::plan::{
    BRIDGE, CLUSTER_RANGES, ClientPlan, DualAddress, NodePlan, Plan, PodPlan, PodWiring, UPLINK,
    VIP_RANGES,
};

/// Address of a pod's IPv6 gateway: the same on every node's end.
const POD_GATEWAY6: &str = "fe80::1";
/// The gateway of pods whose node answers for any address. Nobody has it.
const ANY_GATEWAY4: &str = "169.254.1.1";
/// Bridge of a node's pods.
const POD_BRIDGE: &str = "cni0";

/// Lines for every member, to be run in this order: (member, batch).
pub fn batches(plan: &Plan, namespace_of: impl Fn(&str) -> String) -> Vec<(String, String)> {
    let netns = |member: &str| namespace::path(&namespace_of(member)).display().to_string();
    let mut batches = vec![("underlay".to_owned(), underlay(plan, netns))];
    for index in 0..plan.nodes.len() {
        batches.push((plan.nodes[index].name.clone(), node(plan, index, netns)));
    }
    for pod in &plan.pods {
        let lines = in_pod(pod, &plan.nodes[pod.node], plan.wiring);
        batches.push((pod.name.clone(), lines));
    }
    for one in &plan.clients {
        batches.push((one.name.clone(), client(plan, one)));
    }
    batches
}

fn underlay(plan: &Plan, netns: impl Fn(&str) -> String) -> String {
    let mut lines = Lines::new();
    lines.add(&format!(
        "link add {BRIDGE} type bridge stp_state 0 mcast_snooping 0"
    ));
    lines.addresses(BRIDGE, plan.gateway);
    lines.add(&format!("link set {BRIDGE} up"));
    let nodes = plan.nodes.iter().map(|n| &n.name);
    for name in nodes.chain(plan.clients.iter().map(|c| &c.name)) {
        lines.add(&format!(
            "link add {name} type veth peer name {UPLINK} netns {}",
            netns(name)
        ));
        lines.add(&format!("link set {name} master {BRIDGE} up"));
    }
    lines.0
}

fn node(plan: &Plan, index: usize, netns: impl Fn(&str) -> String) -> String {
    let node = &plan.nodes[index];
    let mut lines = Lines::uplink(node.address, plan.gateway);
    for (other_index, other) in plan.nodes.iter().enumerate() {
        if other_index != index {
            lines.routes(&other.pod_ranges, &[other.address]);
        }
    }
    if plan.wiring == PodWiring::Bridge {
        lines.add(&format!(
            "link add {POD_BRIDGE} type bridge stp_state 0 mcast_snooping 0"
        ));
        lines.add(&format!(
            "addr add {}/24 dev {POD_BRIDGE}",
            node.pod_gateway
        ));
        lines.add(&format!(
            "addr add {POD_GATEWAY6}/64 dev {POD_BRIDGE} nodad"
        ));
        lines.add(&format!("link set {POD_BRIDGE} up"));
        lines.add(&format!(
            "route add {} dev {POD_BRIDGE}",
            node.pod_ranges[1]
        ));
    }
    for pod in plan.pods.iter().filter(|pod| pod.node == index) {
        let namespace = netns(&pod.name);
        lines.add(&format!(
            "link add {} type veth peer name {UPLINK} netns {namespace}",
            pod.host_interface
        ));
        lines.towards_pod(pod, node, plan.wiring);
    }
    lines.0
}

/// The pod's end.
fn in_pod(pod: &PodPlan, node: &NodePlan, wiring: PodWiring) -> String {
    let mut lines = Lines::new();
    let DualAddress { v4, v6 } = pod.address;
    let (len4, len6) = match wiring {
        PodWiring::Bridge => (24, 64),
        PodWiring::PointToPoint | PodWiring::ProxyArp => (32, 128),
    };
    let gateway = match wiring {
        PodWiring::ProxyArp => ANY_GATEWAY4.to_owned(),
        PodWiring::PointToPoint | PodWiring::Bridge => node.pod_gateway.to_string(),
    };
    lines.add(&format!("link set {UPLINK} up"));
    lines.add(&format!("addr add {v4}/{len4} dev {UPLINK}"));
    lines.add(&format!("addr add {v6}/{len6} dev {UPLINK} nodad"));
    if len4 == 32 {
        lines.add(&format!("route add {gateway}/32 dev {UPLINK}"));
    }
    lines.add(&format!("route add 0.0.0.0/0 via {gateway} dev {UPLINK}"));
    lines.add(&format!("route add ::/0 via {POD_GATEWAY6} dev {UPLINK}"));
    lines.0
}

fn client(plan: &Plan, client: &ClientPlan) -> String {
    let mut lines = Lines::uplink(client.address, plan.gateway);
    let via: Vec<_> = client
        .via
        .iter()
        .map(|index| plan.nodes[*index].address)
        .collect();
    for ranges in [VIP_RANGES, CLUSTER_RANGES] {
        lines.routes(&ranges.map(str::to_owned), &via);
    }
    for node in &plan.nodes {
        lines.routes(&node.pod_ranges, &[node.address]);
    }
    lines.0
}

/// Lines of one batch.
struct Lines(String);

impl Lines {
    fn new() -> Self {
        Self("link set lo up\n".to_owned())
    }

    fn uplink(own: DualAddress, gateway: DualAddress) -> Self {
        let mut lines = Self::new();
        lines.add(&format!("link set {UPLINK} up"));
        lines.addresses(UPLINK, own);
        lines.add(&format!("route add 0.0.0.0/0 via {}", gateway.v4));
        lines.add(&format!("route add ::/0 via {}", gateway.v6));
        lines
    }

    /// The node's end of a pod's link.
    fn towards_pod(&mut self, pod: &PodPlan, node: &NodePlan, wiring: PodWiring) {
        let interface = &pod.host_interface;
        if wiring == PodWiring::Bridge {
            self.add(&format!("link set {interface} master {POD_BRIDGE} up"));
            return;
        }
        if wiring == PodWiring::PointToPoint {
            self.add(&format!("addr add {}/32 dev {interface}", node.pod_gateway));
        }
        self.add(&format!("addr add {POD_GATEWAY6}/64 dev {interface} nodad"));
        self.add(&format!("link set {interface} up"));
        self.add(&format!("route add {}/32 dev {interface}", pod.address.v4));
        self.add(&format!("route add {}/128 dev {interface}", pod.address.v6));
    }

    fn add(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn addresses(&mut self, interface: &str, address: DualAddress) {
        self.add(&format!("addr add {}/24 dev {interface}", address.v4));
        self.add(&format!("addr add {}/64 dev {interface} nodad", address.v6));
    }

    /// Routes to an IPv4 and an IPv6 range through all of `via`.
    fn routes(&mut self, ranges: &[String; 2], via: &[DualAddress]) {
        for (family, range) in ranges.iter().enumerate() {
            let mut line = format!("route add {range}");
            for hop in via {
                let keyword = if via.len() > 1 { "nexthop via" } else { "via" };
                let _ = write!(line, " {keyword} {}", hop.both()[family]);
            }
            self.add(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Shape, Via};

    fn lines_of(member: &str) -> String {
        let shape = Shape {
            nodes: 2,
            pods: vec![("web-1".into(), 0), ("web-2".into(), 1)],
            clients: vec![("one".into(), Via::Node(0)), ("all".into(), Via::AllNodes)],
            wiring: PodWiring::default(),
        };
        let plan = Plan::new(&shape).unwrap();
        let batches = batches(&plan, |member| format!("weir-x-{member}"));
        batches
            .into_iter()
            .find(|(name, _)| name == member)
            .unwrap()
            .1
    }

    #[test]
    fn a_node_has_a_route_per_pod_and_per_other_node() {
        let lines = lines_of("node1");
        let pod = "link add pod1 type veth peer name eth0 netns /run/netns/weir-x-web-1";
        for line in [
            pod,
            "route add 10.244.1.11/32 dev pod1",
            "route add 10.244.2.0/24 via 172.18.0.12",
        ] {
            assert!(
                lines.lines().any(|l| l == line),
                "{line:?} is not in\n{lines}"
            );
        }
        assert!(
            !lines.contains("10.244.2.11"),
            "a pod of another node in\n{lines}"
        );
    }

    #[test]
    fn a_client_reaches_service_addresses_through_its_nodes() {
        assert!(lines_of("one").contains("route add 203.0.113.0/24 via 172.18.0.11\n"));
        let spread =
            "route add 2001:db8:113::/64 nexthop via fd00:18::11 nexthop via fd00:18::12\n";
        assert!(lines_of("all").contains(spread));
    }
}
