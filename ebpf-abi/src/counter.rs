//! Per-CPU counters, one element of `COUNTERS` each.

/// Index into `COUNTERS`. Append-only.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// A connection through a frontend was added to the connection table.
    ConnectionsNew = 0,
    /// A packet was left to TC because no neighbour was known, or the route leaves elsewhere.
    XdpLeftToTc = 1,
    /// A frame was too short for the headers it announces, or contradicts itself.
    Malformed = 2,
    /// A VLAN-tagged frame, passed untouched.
    PassedVlan = 3,
    /// A fragment, passed untouched.
    PassedFragment = 4,
    /// IPv6 extension headers we do not walk, passed untouched.
    PassedExtensionHeader = 5,
    /// TTL or hop limit too low to forward; left to the stack, which answers with ICMP.
    PassedTtl = 6,
    /// Flow events that found the ring buffer full: the events lost in the kernel.
    EventsLost = 7,
    /// Flow events written to the ring buffer.
    EventsSent = 8,
    /// Packets dropped: frontend without backends.
    DropNoBackend = 9,
    /// Packets dropped: no free port for the node's address.
    DropNoSnatPort = 10,
    /// Packets dropped: the connection table refused an entry.
    DropConntrackFull = 11,
    /// Packets dropped: no route to the backend.
    DropNoRoute = 12,
    /// Packets dropped: writing the header failed.
    DropWriteFailed = 13,
    /// Connections whose backend was removed, counted at their next packet: they move to another
    /// backend of the frontend, or end with it.
    ConnectionsMoved = 14,
    /// Sockets translated at connect or sendmsg.
    SocketsTranslated = 15,
    /// Packets dropped: for a pod of another node, and not encrypted.
    DropUnencrypted = 16,
    /// Packets dropped: not found while connections are carried over from another layout.
    DropCarryingOver = 17,
    /// Packets that left in clear text and that the account of traffic between nodes had no room for.
    TrafficUnaccounted = 18,
}

impl Counter {
    /// Number of counters, the size of the map.
    pub const COUNT: usize = 19;

    /// All counters with the name that status and metrics show.
    pub const ALL: [(Self, &'static str); Self::COUNT] = [
        (Self::ConnectionsNew, "connections_new"),
        (Self::XdpLeftToTc, "xdp_left_to_tc"),
        (Self::Malformed, "malformed"),
        (Self::PassedVlan, "passed_vlan"),
        (Self::PassedFragment, "passed_fragment"),
        (Self::PassedExtensionHeader, "passed_extension_header"),
        (Self::PassedTtl, "passed_ttl"),
        (Self::EventsLost, "events_lost"),
        (Self::EventsSent, "events_sent"),
        (Self::DropNoBackend, "drop_no_backend"),
        (Self::DropNoSnatPort, "drop_no_snat_port"),
        (Self::DropConntrackFull, "drop_conntrack_full"),
        (Self::DropNoRoute, "drop_no_route"),
        (Self::DropWriteFailed, "drop_write_failed"),
        (Self::ConnectionsMoved, "connections_moved"),
        (Self::SocketsTranslated, "sockets_translated"),
        (Self::DropUnencrypted, "drop_unencrypted"),
        (Self::DropCarryingOver, "drop_carrying_over"),
        (Self::TrafficUnaccounted, "traffic_unaccounted"),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_listed_at_its_own_index() {
        for (index, (counter, _)) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
        }
    }
}
