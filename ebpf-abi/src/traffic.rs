//! How much goes to each node, and whether it is encrypted: the account that shows that nothing
//! leaves in clear text, or why it does.

use bytemuck::{Pod, Zeroable};

use crate::layout::layout;
use crate::{Be16, DatapathConfig, IpcacheValue, NodeId, Protocol};

/// Key of `TRAFFIC`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Pod, Zeroable)]
pub struct TrafficKey {
    /// The node that the packets go to.
    pub node: NodeId,
    /// How they go.
    pub path: TrafficPath,
}

/// How packets go to another node.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Pod, Zeroable)]
pub struct TrafficPath(pub u32);

impl TrafficPath {
    /// Encrypted. Counted before encryption, without what it adds.
    pub const ENCRYPTED: Self = Self(0);
    /// Clear text to pods by the operator's word: to an allowed range, or in a tunnel to a node that
    /// is excepted.
    pub const CLEAR_ALLOWED: Self = Self(1);
    /// Clear text to pods while strict mode is off.
    pub const CLEAR_NOT_STRICT: Self = Self(2);
    /// Clear text to the node itself, as only pods' traffic is encrypted.
    pub const CLEAR_NODE: Self = Self(3);
    /// Clear text inside of a tunnel (VXLAN, Geneve, IP in IP) while strict mode is off.
    pub const CLEAR_TUNNEL: Self = Self(4);
    /// Dropped, because it would have left in clear text.
    pub const DROPPED: Self = Self(5);
    /// Clear text to the node itself, to which the operator excepts this or all.
    pub const CLEAR_EXCEPTED: Self = Self(6);
    /// Clear text to the node itself, which is no peer yet.
    pub const CLEAR_NO_PEER: Self = Self(7);

    /// All of them with the names that users see.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::ENCRYPTED, "encrypted"),
        (Self::CLEAR_ALLOWED, "clear_allowed"),
        (Self::CLEAR_NOT_STRICT, "clear_not_strict"),
        (Self::CLEAR_NODE, "clear_node"),
        (Self::CLEAR_TUNNEL, "clear_tunnel"),
        (Self::DROPPED, "dropped"),
        (Self::CLEAR_EXCEPTED, "clear_excepted"),
        (Self::CLEAR_NO_PEER, "clear_no_peer"),
    ];

    /// The name that users see.
    pub fn name(self) -> &'static str {
        let mut all = Self::ALL.iter();
        all.find(|(known, _)| *known == self)
            .map_or("unknown", |(_, name)| name)
    }
}

/// Value of `TRAFFIC`, one per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct TrafficValue {
    /// Packets, as they are on the wire: a buffer of several segments counts as so many.
    pub packets: u64,
    /// Bytes, from the network header on.
    pub bytes: u64,
}

/// UDP ports of tunnels.
mod tunnel_port {
    use crate::Be16;
    /// VXLAN (RFC 7348).
    pub const VXLAN: Be16 = Be16::new(4_789);
    /// VXLAN, what Linux and flannel use unless told otherwise.
    pub const VXLAN_LINUX: Be16 = Be16::new(8_472);
    /// Geneve (RFC 8926).
    pub const GENEVE: Be16 = Be16::new(6_081);
}

/// What becomes of a packet that is about to leave by an uplink in clear text, `None` if it goes to
/// no other node. One for a pod of this node does, as there is no such pod: it has just ended.
///
/// `tunnelled` says that the packet is itself a tunnel's, which may carry pods' packets;
/// `is_from_pod` that it is one of a pod of this node, and is asked if that matters.
#[inline(always)]
pub fn path_in_clear(
    destination: IpcacheValue,
    tunnelled: bool,
    is_from_pod: impl FnOnce() -> bool,
    config: &DatapathConfig,
) -> Option<TrafficPath> {
    let strict = config.flags & DatapathConfig::STRICT != 0;
    let unless_strict = |path| {
        if strict { TrafficPath::DROPPED } else { path }
    };
    let to_pod = destination.has(IpcacheValue::POD);
    if destination.has(IpcacheValue::LOCAL) && !to_pod {
        None
    } else if (to_pod || tunnelled) && destination.has(IpcacheValue::CLEAR_ALLOWED) {
        Some(TrafficPath::CLEAR_ALLOWED)
    } else if to_pod {
        Some(unless_strict(TrafficPath::CLEAR_NOT_STRICT))
    } else if tunnelled {
        Some(unless_strict(TrafficPath::CLEAR_TUNNEL))
    } else if strict && !destination.has(IpcacheValue::CLEAR_ALLOWED) && is_from_pod() {
        // The route into the device is gone, or never was there.
        Some(TrafficPath::DROPPED)
    } else if config.flags & DatapathConfig::ENCRYPT_NODES == 0 {
        Some(TrafficPath::CLEAR_NODE)
    } else if destination.has(IpcacheValue::CLEAR_ALLOWED | IpcacheValue::PEER) {
        Some(TrafficPath::CLEAR_EXCEPTED)
    } else {
        Some(TrafficPath::CLEAR_NO_PEER)
    }
}

/// True if packets of this protocol may carry others.
///
/// `destination_port` is that of UDP, and ignored for others. `None` is not known, as in a fragment
/// but the first: it may be of a tunnel's packet. So may what is behind a header that extends IPv6's.
#[inline(always)]
pub fn is_tunnel(protocol: Protocol, destination_port: Option<Be16>) -> bool {
    match protocol {
        Protocol::IPIP | Protocol::IPV6 | Protocol::GRE => true,
        extension if extension.extends_ipv6() => true,
        Protocol::UDP => !matches!(
            destination_port,
            Some(port) if port != tunnel_port::VXLAN
                && port != tunnel_port::VXLAN_LINUX
                && port != tunnel_port::GENEVE
        ),
        _ => false,
    }
}

layout!(TrafficPath, size = 4);
layout!(TrafficKey, size = 8, path @ 4);
layout!(TrafficValue, size = 16, bytes @ 8);

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: u32 = DatapathConfig::STRICT;

    fn path(flags: u32, tunnelled: bool, config: u32) -> Option<TrafficPath> {
        path_from(false, flags, tunnelled, config)
    }

    fn path_from(pod: bool, flags: u32, tunnelled: bool, config: u32) -> Option<TrafficPath> {
        let destination = IpcacheValue {
            node: NodeId(7),
            flags,
        };
        let config = DatapathConfig {
            flags: config,
            ..DatapathConfig::default()
        };
        path_in_clear(destination, tunnelled, || pod, &config)
    }

    #[test]
    fn strict_mode_drops_what_is_for_pods_or_may_be() {
        use IpcacheValue as To;
        assert_eq!(path(To::POD, false, STRICT), Some(TrafficPath::DROPPED));
        let peer = To::POD | To::PEER;
        assert_eq!(path(peer, false, STRICT), Some(TrafficPath::DROPPED));
        assert_eq!(path(To::NODE, true, STRICT), Some(TrafficPath::DROPPED));
        assert_eq!(path(To::NODE, false, STRICT), Some(TrafficPath::CLEAR_NODE));
        let allowed = To::POD | To::CLEAR_ALLOWED;
        assert_eq!(
            path(allowed, false, STRICT),
            Some(TrafficPath::CLEAR_ALLOWED)
        );
    }

    #[test]
    fn without_strict_mode_it_is_only_told_apart() {
        use IpcacheValue as To;
        assert_eq!(path(To::POD, false, 0), Some(TrafficPath::CLEAR_NOT_STRICT));
        assert_eq!(path(To::NODE, true, 0), Some(TrafficPath::CLEAR_TUNNEL));
    }

    #[test]
    fn what_nodes_send_each_other_in_clear_text_has_its_reason() {
        use IpcacheValue as To;
        const NODES: u32 = DatapathConfig::ENCRYPT_NODES;
        const CLEAR: u32 = To::CLEAR_ALLOWED;
        for (flags, config, expected) in [
            (To::NODE, 0, TrafficPath::CLEAR_NODE),
            (To::NODE | CLEAR, 0, TrafficPath::CLEAR_NODE),
            (To::NODE | To::PEER, 0, TrafficPath::CLEAR_NODE),
            (To::NODE, NODES, TrafficPath::CLEAR_NO_PEER),
            (To::NODE | CLEAR, NODES, TrafficPath::CLEAR_EXCEPTED),
            (To::NODE | To::PEER, NODES, TrafficPath::CLEAR_EXCEPTED),
        ] {
            assert_eq!(path(flags, false, config | STRICT), Some(expected));
        }
        let tunnelled = path(To::NODE | CLEAR, true, NODES | STRICT);
        assert_eq!(tunnelled, Some(TrafficPath::CLEAR_ALLOWED));
    }

    #[test]
    fn strict_mode_drops_what_pods_send_to_nodes() {
        use IpcacheValue as To;
        let dropped = Some(TrafficPath::DROPPED);
        let peer = To::NODE | To::PEER;
        assert_eq!(path_from(true, peer, false, STRICT), dropped);
        assert_eq!(
            path_from(true, peer, false, 0),
            Some(TrafficPath::CLEAR_NODE)
        );
        let allowed = To::NODE | To::CLEAR_ALLOWED;
        assert_ne!(path_from(true, allowed, false, STRICT), dropped);
    }

    #[test]
    fn what_stays_on_this_node_is_of_no_concern() {
        use IpcacheValue as To;
        assert_eq!(path(To::NODE | To::LOCAL, false, STRICT), None);
    }

    /// It was decrypted, or came from another pod, and its receiver has ended: the node's default route
    /// has it now.
    #[test]
    fn what_leaves_for_a_pod_of_this_node_leaves_in_clear_text() {
        use IpcacheValue as To;
        let own = To::POD | To::LOCAL;
        assert_eq!(path(own, false, STRICT), Some(TrafficPath::DROPPED));
        assert_eq!(path(own, false, 0), Some(TrafficPath::CLEAR_NOT_STRICT));
    }

    #[test]
    fn tunnels_are_told_by_protocol_or_port() {
        let udp = |port| is_tunnel(Protocol::UDP, Some(Be16::new(port)));
        assert!(udp(8_472) && udp(4_789) && udp(6_081) && !udp(53));
        assert!(is_tunnel(Protocol::IPIP, None));
        assert!(!is_tunnel(Protocol::TCP, None) && !is_tunnel(Protocol::ICMPV6, None));
    }

    #[test]
    fn what_cannot_be_told_may_be_a_tunnel() {
        assert!(is_tunnel(Protocol::UDP, None), "a later fragment");
        for extension in [0, 43, 44, 60] {
            assert!(is_tunnel(Protocol(extension), None), "{extension}");
        }
    }
}
