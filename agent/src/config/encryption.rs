//! Settings of encryption between nodes.

use std::path::PathBuf;

use ipnet::IpNet;

use super::load_balancer::LoadBalancer;
use super::problem::Finding;
use super::section::section;
use super::value::{Count, Scalar, Seconds, choice};

/// Bits of a packet's mark that have it masqueraded by kube-proxy (`masqueradeBit` 14) and dropped by
/// rules of the kubelet (bit 15), unless told otherwise.
const MARK_BITS_OF_KUBERNETES: u32 = 0x4000 | 0x8000;

section! {
    /// Encryption between nodes.
    pub struct Encryption {
        settings {
            /// Whether traffic between pods of different nodes is encrypted with WireGuard. With
            /// `strictMode` (the default) it is dropped where it would leave in clear text.
            "enabled" enabled: bool = false,
            /// Whether the nodes' own traffic to each other is encrypted as well.
            "node" node: bool = false,
            /// How packets of pods reach the device and leave it: `kernel`, by the node's stack, or
            /// `bpf`, past it and its netfilter rules: faster. Not beside kube-proxy, whose
            /// connections need the stack in both directions, and not where the CNI's network
            /// policies are netfilter rules: they would not hold for encrypted traffic.
            "hostRouting" host_routing: HostRouting = HostRouting::Kernel,
            /// With `node`: labels, as NAME or NAME=VALUE, of nodes whose own traffic stays in clear
            /// text. Nodes of the control plane must answer before anything is encrypted.
            "nodeExceptLabels" node_except_labels: Vec<LabelSelector> =
                vec![LabelSelector::literal("node-role.kubernetes.io/control-plane")],
            /// With `node`: TCP ports of nodes that stay in clear text, such as those of health
            /// checks.
            "nodeExceptPorts" node_except_ports: Vec<Count<1, 65_535>> = Vec::new(),
        }
        sections {
            /// What must not leave unencrypted.
            "strictMode" strict_mode: StrictMode,
            /// The WireGuard device.
            "wireguard" wireguard: WireGuard,
        }
    }
}

section! {
    /// What must not leave unencrypted.
    pub struct StrictMode {
        settings {
            /// Whether traffic to pods of other nodes is dropped where it would leave unencrypted.
            "enabled" enabled: bool = true,
            /// Ranges of pod addresses of the whole cluster. Ranges of nodes are known from their
            /// Node objects; those named here are guarded also before a Node is known.
            "podCidrs" pod_cidrs: Vec<IpNet> = Vec::new(),
            /// Destinations that may be reached unencrypted nevertheless.
            "allowedCidrs" allowed_cidrs: Vec<IpNet> = Vec::new(),
        }
    }
}

section! {
    /// The WireGuard device.
    pub struct WireGuard {
        settings {
            /// Where WireGuard runs: `kernel`, `userspace` (slower, any kernel), or `auto`: in the
            /// kernel where it has it.
            "implementation" implementation: Implementation = Implementation::Auto,
            /// With a device in userspace, who runs its process: `agent`, or `separate`: a service of
            /// its own, `weir-agent wireguard`, which goes on when all processes of the agent's
            /// service or container are ended. The DaemonSet and the systemd units have one.
            "process" process: Process = Process::Agent,
            /// Name of the device.
            "interface" interface: InterfaceName = InterfaceName::literal("weir_wg0"),
            /// UDP port, the same on all nodes.
            "port" port: Count<1, 65_535> = Count::new(51_871),
            /// Mark of the encrypted packets, by which they are told from those to encrypt. Without the
            /// bits 0x4000 and 0x8000, by which kube-proxy and the kubelet know packets to masquerade
            /// and to drop.
            "firewallMark" firewall_mark: Count<1, 2_147_483_647> = Count::new(0x1357),
            /// Number of the routing table for what is encrypted.
            "routeTable" route_table: Count<1, 2_147_483_647> = Count::new(51_871),
            /// Priority of the first of the rules that lead to that table. Below those of the CNI,
            /// above that of the table `local` (0).
            "rulePriority" rule_priority: Count<1, 32_000> = Count::new(60),
            /// MTU of the device. 0: that of the uplink less what encryption adds.
            "mtu" mtu: Count<0, 65_535> = Count::new(0),
            /// Which address of another node encrypted packets are sent to, if it has several.
            "endpointFamily" endpoint_family: EndpointFamily = EndpointFamily::V4,
            /// How often a silent peer gets an empty packet, to keep firewalls open. 0: never.
            "persistentKeepalive" persistent_keepalive: Seconds<0, 65_535> = Seconds::new(0),
            /// Age at which the node's key is replaced. 0: only by `weir encrypt rotate-key`.
            "rotateAfter" rotate_after: Seconds<0, 315_360_000> = Seconds::new(0),
            /// Time for the other nodes to learn a new key before it is used, or, when encryption is
            /// switched off, that they encrypt for this one no more.
            "rotationGrace" rotation_grace: Seconds<1, 3_600> = Seconds::new(60),
            /// File with a secret of the cluster, the same on all nodes, from which pre-shared keys
            /// are made for each pair of nodes. Empty: none.
            "presharedSecretFile" preshared_secret_file: Option<PathBuf> = None,
        }
    }
}

/// The way of pods' packets between their interfaces and the WireGuard device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRouting {
    /// Through the node's network stack.
    Kernel,
    /// From the one interface to the other, by the programs.
    Bpf,
}

choice!(HostRouting { Kernel = "kernel", Bpf = "bpf" });

/// Where WireGuard runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// In the kernel if it can, else in userspace.
    Auto,
    /// In the kernel.
    Kernel,
    /// In a process of the agent's.
    Userspace,
}

choice!(Implementation { Auto = "auto", Kernel = "kernel", Userspace = "userspace" });

/// Who runs the process of a device in userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// The agent starts it.
    Agent,
    /// It is a service of its own.
    Separate,
}

choice!(Process { Agent = "agent", Separate = "separate" });

/// Address family of the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointFamily {
    /// IPv4 where both nodes have it.
    V4,
    /// IPv6 where both nodes have it.
    V6,
}

choice!(EndpointFamily { V4 = "ipv4", V6 = "ipv6" });

/// Name of an interface to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn literal(name: &str) -> Self {
        Self::parse(name).expect("the default is a name")
    }
}

impl Scalar for InterfaceName {
    fn form() -> String {
        "a name for an interface, of at most 15 letters, digits, '-', '_' and '.'".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || text.len() > 15 || !text.bytes().all(allowed) || text.starts_with('.')
        {
            return Err("is no name for an interface".into());
        }
        Ok(Self(text.to_owned()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// A label that an object has: with any value, or with the one given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSelector {
    /// Name of the label.
    pub name: String,
    /// Its value, if only that one counts.
    pub value: Option<String>,
}

impl LabelSelector {
    fn literal(text: &str) -> Self {
        Self::parse(text).expect("the default is a label")
    }
}

impl Scalar for LabelSelector {
    fn form() -> String {
        "a label, as NAME or NAME=VALUE".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.is_empty() || name.bytes().any(|byte| byte.is_ascii_whitespace()) {
            return Err("names no label".into());
        }
        let name = name.to_owned();
        Ok(Self { name, value })
    }

    fn text(&self) -> String {
        match &self.value {
            Some(value) => format!("{}={value}", self.name),
            None => self.name.clone(),
        }
    }
}

impl Scalar for IpNet {
    fn form() -> String {
        "a range of addresses such as 10.244.0.0/16".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let range: Self = text
            .parse()
            .map_err(|_| "is no range of addresses".to_owned())?;
        if range.trunc() != range {
            return Err(format!(
                "has bits behind its prefix: write {}",
                range.trunc()
            ));
        }
        Ok(range)
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Encryption {
    pub(super) fn check(&self, balancer: &LoadBalancer, findings: &mut Vec<Finding>) {
        if self.node && !self.enabled {
            findings.push(Finding::new(
                "encryption.node",
                "has no effect without encryption.enabled",
                "set encryption.enabled to true as well",
            ));
        }
        if self.enabled && self.host_routing == HostRouting::Bpf && !balancer.enabled {
            findings.push(Finding::new(
                "encryption.hostRouting",
                "is bpf while loadBalancer.enabled is false: answers to connections that kube-proxy \
                 or another translates in the node's stack would pass it by",
                "choose kernel, or have Services served by the agent alone",
            ));
        }
        let (port, snat_ports) = (self.wireguard.port.get(), &balancer.snat_ports);
        let taken = u32::from(snat_ports.first)..=u32::from(snat_ports.last);
        if self.enabled && balancer.enabled && taken.contains(&port) {
            findings.push(Finding::new(
                "encryption.wireguard.port",
                "lies in loadBalancer.snatPorts: answers of backends would be taken for WireGuard's",
                "choose a port outside of that range",
            ));
        }
        let mark = self.wireguard.firewall_mark.get();
        if mark & MARK_BITS_OF_KUBERNETES != 0 {
            findings.push(Finding::new(
                "encryption.wireguard.firewallMark",
                format!(
                    "is {mark:#x} and has bit 0x4000 or 0x8000, by which kube-proxy and the kubelet \
                     know packets to masquerade and to drop: WireGuard's own packets would be"
                ),
                "choose a number without these bits, such as 4951 (0x1357)",
            ));
        }
        let mtu = self.wireguard.mtu.get();
        if mtu != 0 && mtu < 1_280 {
            findings.push(Finding::new(
                "encryption.wireguard.mtu",
                "is below 1280, the least that IPv6 works with",
                "choose 0 or a number from 1280 on",
            ));
        }
        // Tables 253 to 255 are the kernel's own.
        if (253..=255).contains(&self.wireguard.route_table.get()) {
            findings.push(Finding::new(
                "encryption.wireguard.routeTable",
                "is a table of the kernel's own (default, main or local)",
                "choose another number",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_labels_and_names_are_read_and_written_back() {
        for range in ["10.244.0.0/16", "fd00:10::/56", "192.0.2.1/32"] {
            assert_eq!(<IpNet as Scalar>::parse(range).unwrap().text(), range);
        }
        for bad in ["10.244.0.1/16", "10.0.0.0", "x/8", "10.0.0.0/33"] {
            <IpNet as Scalar>::parse(bad).unwrap_err();
        }
        for label in ["zone", "zone=a", "example.com/role="] {
            assert_eq!(LabelSelector::parse(label).unwrap().text(), label);
        }
        LabelSelector::parse("=a").unwrap_err();
        for bad in ["", "a/b", "sixteen-letters-", ".x", "é"] {
            InterfaceName::parse(bad).unwrap_err();
        }
    }

    #[test]
    fn settings_that_cannot_work_together_are_found() {
        let blamed = |change: fn(&mut Encryption)| {
            let mut encryption = Encryption::default();
            change(&mut encryption);
            let mut findings = Vec::new();
            encryption.check(&LoadBalancer::default(), &mut findings);
            findings.len()
        };
        assert_eq!(blamed(|_| ()), 0);
        assert_eq!(blamed(|e| e.node = true), 1);
        let mut encryption = Encryption {
            enabled: true,
            host_routing: HostRouting::Bpf,
            ..Encryption::default()
        };
        let refused = |encryption: &Encryption, enabled| {
            let balancer = LoadBalancer {
                enabled,
                ..LoadBalancer::default()
            };
            let mut findings = Vec::new();
            encryption.check(&balancer, &mut findings);
            findings.len()
        };
        assert_eq!([true, false].map(|it| refused(&encryption, it)), [0, 1]);
        encryption.host_routing = HostRouting::Kernel;
        assert_eq!(refused(&encryption, false), 0);
        encryption.wireguard.port = Count::new(LoadBalancer::default().snat_ports.last.into());
        assert_eq!([true, false].map(|it| refused(&encryption, it)), [1, 0]);
        assert_eq!(blamed(|e| e.wireguard.mtu = Count::new(1_000)), 1);
        assert_eq!(blamed(|e| e.wireguard.route_table = Count::new(254)), 1);
    }

    /// Beside kube-proxy, WireGuard's packets left with other source ports than the device's.
    #[test]
    fn a_mark_with_bits_of_kube_proxy_is_refused() {
        // Those above, and of the CNI's: portmap, the AWS CNI, Calico.
        const BITS_OF_OTHERS: u32 = MARK_BITS_OF_KUBERNETES | 0x2000 | 0x80 | 0xffff_0000;
        let findings = |mark: u32| {
            let mut encryption = Encryption::default();
            encryption.wireguard.firewall_mark = Count::new(mark);
            let mut findings = Vec::new();
            encryption.check(&LoadBalancer::default(), &mut findings);
            findings
        };
        for mark in [0x4000, 0x8000, 0x5357, 0x0057_4700] {
            let findings = findings(mark);
            assert_eq!(findings.len(), 1, "{mark:#x}");
            assert_eq!(findings[0].setting, "encryption.wireguard.firewallMark");
            assert!(findings[0].reason.contains(&format!("{mark:#x}")));
        }
        for mark in [1, 0x3fff, 0x0001_0000] {
            assert!(findings(mark).is_empty(), "{mark:#x}");
        }
        let default = Encryption::default().wireguard.firewall_mark.get();
        assert_eq!(default & BITS_OF_OTHERS, 0, "{default:#x}");
    }
}
