//! Settings of the load balancer.

use super::problem::Finding;
use super::section::section;
use super::value::{Count, Scalar, Seconds};

section! {
    /// Balancing of services.
    pub struct LoadBalancer {
        settings {
            /// Whether services are balanced. Off: packets are only looked at (and encrypted), and
            /// services are left to whatever else serves them, such as kube-proxy. Switching it off
            /// takes all services away from this node, as if they were deleted.
            "enabled" enabled: bool = true,
            /// Whether Services are Weir's alone. `false`: kube-proxy runs on the node too, and is left the
            /// addresses at which a Service asks for what Weir does not do yet (`sessionAffinity: ClientIP`,
            /// traffic policies `Local`). `true`: they are served without.
            "kubeProxyReplacement" kube_proxy_replacement: bool = true,
            /// IPv4 connections the node remembers. The oldest are forgotten beyond it. Each
            /// connection takes two entries of about 144 bytes, made in advance. A change takes
            /// effect when the node is rebooted, or after `weir-agent uninstall`.
            "connectionsV4" connections_v4: Count<1_024, 8_388_608> = Count::new(262_144),
            /// IPv6 connections the node remembers; entries are about 192 bytes. A change takes
            /// effect like that of `connectionsV4`.
            "connectionsV6" connections_v6: Count<1_024, 8_388_608> = Count::new(131_072),
            /// Ports of the node's own address for connections to backends on other nodes. Outside
            /// the NodePorts (30000-32767), and outside the ports the node gives its own clients
            /// (`net.ipv4.ip_local_port_range`, usually 32768-60999).
            "snatPorts" snat_ports: PortRange = PortRange { first: 10_000, last: 29_999 },
            /// A TCP connection without a packet for so long is forgotten. Longer than the
            /// keep-alive interval of its peers (2 hours unless they changed it).
            "tcpIdleTimeout" tcp_idle_timeout: Seconds<10, 864_000> = Seconds::new(8_000),
            /// A UDP conversation without a packet for so long is forgotten.
            "udpIdleTimeout" udp_idle_timeout: Seconds<1, 864_000> = Seconds::new(120),
            /// Whether clients outside the cluster may use ClusterIPs.
            "externalClusterIP" external_cluster_ip: bool = false,
        }
        sections {
            /// The tables that spread connections over backends.
            "maglev" maglev: Maglev,
        }
    }
}

section! {
    /// The tables that spread connections over backends.
    pub struct Maglev {
        settings {
            /// Slots per backend, at least. The shares of backends differ by about one part in so
            /// many; memory grows with it.
            "loadFactor" load_factor: Count<10, 1_000> = Count::new(100),
        }
    }
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// Lowest port.
    pub first: u16,
    /// Highest port; not below `first`.
    pub last: u16,
}

impl PortRange {
    /// What Kubernetes gives to NodePorts unless its API server was told otherwise.
    pub const NODE_PORTS: Self = Self {
        first: 30_000,
        last: 32_767,
    };

    /// Whether any port is in both.
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Number of ports.
    pub const fn count(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }
}

impl Scalar for PortRange {
    fn form() -> String {
        "two ports such as 10000-29999".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').ok_or("has no '-' between two ports")?;
        let port = |text: &str| match text.trim().parse::<u16>() {
            Ok(0) | Err(_) => Err(format!(
                "has {:?}, which is no port from 1 to 65535",
                text.trim()
            )),
            Ok(port) => Ok(port),
        };
        let range = Self {
            first: port(first)?,
            last: port(last)?,
        };
        if range.first > range.last {
            return Err("ends before it starts".into());
        }
        Ok(range)
    }

    fn text(&self) -> String {
        format!("{}-{}", self.first, self.last)
    }
}

/// Fewer ports make collisions common when a service's clients are few and fast.
const SNAT_PORTS_MIN: u32 = 256;

impl LoadBalancer {
    pub(super) fn check(&self, findings: &mut Vec<Finding>) {
        const SETTING: &str = "loadBalancer.snatPorts";
        let ports = self.snat_ports;
        if ports.overlaps(PortRange::NODE_PORTS) {
            findings.push(Finding::new(
                SETTING,
                "contains NodePorts",
                format!("stay out of {}", PortRange::NODE_PORTS.text()),
            ));
        }
        if ports.first < 1024 {
            findings.push(Finding::new(
                SETTING,
                "contains ports of system services",
                "start at 1024 or higher",
            ));
        }
        if ports.count() < SNAT_PORTS_MIN {
            findings.push(Finding::new(
                SETTING,
                format!("has only {} ports", ports.count()),
                format!(
                    "give at least {SNAT_PORTS_MIN}: one is needed per connection to a backend"
                ),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_are_read() {
        let cases = [
            ("10000-29999", Ok((10_000, 29_999))),
            ("5-5", Ok((5, 5))),
            ("10000 - 29999", Ok((10_000, 29_999))),
            ("10000", Err("has no '-' between two ports")),
            ("29999-10000", Err("ends before it starts")),
            ("0-5", Err("has \"0\", which is no port from 1 to 65535")),
            (
                "1-65536",
                Err("has \"65536\", which is no port from 1 to 65535"),
            ),
            ("a-b", Err("has \"a\", which is no port from 1 to 65535")),
        ];
        for (text, expected) in cases {
            let read = PortRange::parse(text).map(|range| (range.first, range.last));
            assert_eq!(read, expected.map_err(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn ranges_overlap_when_they_share_a_port() {
        let range = |first, last| PortRange { first, last };
        assert!(range(1, 10).overlaps(range(10, 20)));
        assert!(range(5, 6).overlaps(range(1, 10)));
        assert!(!range(1, 9).overlaps(range(10, 20)));
        assert_eq!(range(1, 65_535).count(), 65_535);
    }

    #[test]
    fn snat_ports_that_collide_with_others_are_found() {
        let reasons = |first, last| {
            let mut findings = Vec::new();
            LoadBalancer {
                snat_ports: PortRange { first, last },
                ..LoadBalancer::default()
            }
            .check(&mut findings);
            findings
                .into_iter()
                .map(|finding| finding.reason)
                .collect::<Vec<_>>()
        };
        assert!(reasons(10_000, 29_999).is_empty());
        assert!(reasons(61_000, 65_535).is_empty());
        assert_eq!(reasons(10_000, 30_000), ["contains NodePorts"]);
        assert_eq!(reasons(32_767, 40_000), ["contains NodePorts"]);
        assert_eq!(
            reasons(80, 90),
            ["contains ports of system services", "has only 11 ports"]
        );
    }
}
