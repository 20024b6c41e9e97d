//! Log lines of a debug build, at the points where a packet's way is decided. An ordinary build has
//! none of it: no instruction, no map.
//!
//! One line per decision, never one per packet of an established connection. Levels: `warn` for what
//! is dropped, `debug` for connections that begin or move, `trace` for what is left to the stack. Not
//! inlined, as a line takes two hundred bytes of stack.

#[cfg(feature = "log")]
pub use lines::{dropped, left_alone, moved, opened};
#[cfg(not(feature = "log"))]
pub use nothing::{dropped, left_alone, moved, opened};

#[cfg(feature = "log")]
mod lines {
    use aya_log_ebpf::{debug, trace, warn};
    use ebpf_abi::packet::{Packet, Unbalanced};
    use ebpf_abi::{ConntrackValue, DropReason};

    use crate::family::Ip;
    use crate::hook::Hook;

    /// A packet was dropped.
    #[inline(never)]
    pub fn dropped<A: Ip>(hook: &impl Hook, packet: &Packet<A>, reason: DropReason) {
        let tuple = &packet.tuple;
        warn!(
            hook,
            "dropped, reason {}: {:i} port {} -> {:i} port {}",
            reason as u8,
            tuple.source.shown(),
            tuple.source_port.get(),
            tuple.destination.shown(),
            tuple.destination_port.get(),
        );
    }

    /// A connection was opened to a backend.
    #[inline(never)]
    pub fn opened<A: Ip>(hook: &impl Hook, packet: &Packet<A>, entry: &ConntrackValue<A>) {
        debug!(
            hook,
            "connection of {:i} port {} goes to {:i} port {}",
            packet.tuple.source.shown(),
            packet.tuple.source_port.get(),
            entry.rewrite.destination.shown(),
            entry.rewrite.destination_port.get(),
        );
    }

    /// A connection lost its backend and goes to another one.
    #[inline(never)]
    pub fn moved<A: Ip>(hook: &impl Hook, packet: &Packet<A>) {
        debug!(
            hook,
            "connection of {:i} port {} lost its backend",
            packet.tuple.source.shown(),
            packet.tuple.source_port.get(),
        );
    }

    /// A packet is none that could be balanced.
    #[inline(never)]
    pub fn left_alone(hook: &impl Hook, reason: Unbalanced) {
        let reason = match reason {
            // Most packets that are not for services.
            Unbalanced::NotIp | Unbalanced::OtherTransport => return,
            Unbalanced::Vlan => "VLAN tag",
            Unbalanced::Malformed => "malformed",
            Unbalanced::Fragment => "fragment",
            Unbalanced::ExtensionHeader => "extension header",
        };
        trace!(hook, "left to the stack: {}", reason);
    }
}

#[cfg(not(feature = "log"))]
mod nothing {
    use ebpf_abi::packet::{Packet, Unbalanced};
    use ebpf_abi::{ConntrackValue, DropReason};

    use crate::family::Ip;
    use crate::hook::Hook;

    #[inline(always)]
    pub fn dropped<A: Ip>(_: &impl Hook, _: &Packet<A>, _: DropReason) {}

    #[inline(always)]
    pub fn opened<A: Ip>(_: &impl Hook, _: &Packet<A>, _: &ConntrackValue<A>) {}

    #[inline(always)]
    pub fn moved<A: Ip>(_: &impl Hook, _: &Packet<A>) {}

    #[inline(always)]
    pub fn left_alone(_: &impl Hook, _: Unbalanced) {}
}
