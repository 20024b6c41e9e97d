//! The record that the programs write to the ring buffer `EVENTS`.

use bytemuck::{Pod, Zeroable};

use crate::layout::layout;
use crate::{Addr6, BackendId, Be16, Protocol, ServiceId};

/// Class of an event, numbered as in the flow API (`CiliumEventType.type`).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct EventKind(pub u8);

impl EventKind {
    /// A packet was dropped.
    pub const DROP: Self = Self(1);
    /// A packet passed an observation point.
    pub const TRACE: Self = Self(4);
    /// A socket's destination was translated.
    pub const SOCKET: Self = Self(7);
}

/// Where a packet was seen, numbered as the flow API's trace sub-types (to-endpoint is 0).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct ObservationPoint(pub u8);

impl ObservationPoint {
    /// On its way into a pod.
    pub const TO_ENDPOINT: Self = Self(0);
    /// On its way to the node itself.
    pub const TO_HOST: Self = Self(2);
    /// Just left a pod, towards the node's stack.
    pub const FROM_ENDPOINT: Self = Self(5);
    /// Came in from the network.
    pub const FROM_NETWORK: Self = Self(10);
    /// Leaves for the network.
    pub const TO_NETWORK: Self = Self(11);
    /// Came out of the device that decrypts.
    pub const FROM_CRYPTO: Self = Self(12);
    /// Goes to the device that encrypts.
    pub const TO_CRYPTO: Self = Self(13);
    /// No packet: a socket's destination was translated.
    pub const SOCKET: Self = Self(255);
}

/// What is known of the direction of a packet within its connection.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct ReplyState(pub u8);

impl ReplyState {
    /// Not known.
    pub const UNKNOWN: Self = Self(0);
    /// From the side that opened the connection.
    pub const ORIGINAL: Self = Self(1);
    /// From the side that accepted it.
    pub const REPLY: Self = Self(2);
}

/// Why this event was written, numbered as the flow API's trace reasons in the data path.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct ReportReason(pub u8);

impl ReportReason {
    /// First packet of this direction at this point.
    pub const NEW: Self = Self(0);
    /// TCP flags not seen before, or the report interval passed.
    pub const ESTABLISHED: Self = Self(1);
}

/// One observed packet, drop or socket translation.
///
/// Addresses are widened to sixteen bytes ([`crate::Address::widen`]); `family` tells how to read
/// them. ICMP carries type and code in the ports, see [`crate::packet::Packet`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct FlowEvent {
    /// `CLOCK_MONOTONIC` of this node.
    pub monotonic_ns: u64,
    /// Packets of this direction at this point so far, this one included.
    pub packets: u64,
    /// Bytes of them, counted from the network header.
    pub bytes: u64,
    /// Source address as the packet carried it when it reached the hook.
    pub source: Addr6,
    /// Destination address, likewise.
    pub destination: Addr6,
    /// Source address after translation; equal to `source` if there was none.
    pub translated_source: Addr6,
    /// Destination address after translation.
    pub translated_destination: Addr6,
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// Source port after translation.
    pub translated_source_port: Be16,
    /// Destination port after translation.
    pub translated_destination_port: Be16,
    /// Interface the hook sits on; zero for sockets.
    pub ifindex: u32,
    /// Service whose frontend the packet was sent to; zero for none.
    pub service: ServiceId,
    /// Backend of the connection; zero for none.
    pub backend: BackendId,
    /// Class of the event.
    pub kind: EventKind,
    /// Where it was seen.
    pub point: ObservationPoint,
    /// [`crate::DropReason`] of a drop, else zero.
    pub drop_reason: u8,
    /// 4 or 6, see [`crate::Family`].
    pub family: u8,
    /// Transport protocol.
    pub protocol: Protocol,
    /// TCP flags of this packet.
    pub tcp_flags: u8,
    /// Direction within the connection.
    pub reply: ReplyState,
    /// Why it is reported.
    pub reason: ReportReason,
    /// Zero.
    pub _pad: u32,
    /// Id of the socket (`bpf_get_socket_cookie`), socket events only.
    pub socket_cookie: u64,
    /// cgroup v2 id of the calling process, socket events only.
    pub cgroup_id: u64,
}

layout!(EventKind, size = 1);
layout!(ObservationPoint, size = 1);
layout!(ReplyState, size = 1);
layout!(ReportReason, size = 1);
layout!(
    FlowEvent,
    size = 136,
    source @ 24,
    translated_source @ 56,
    source_port @ 88,
    ifindex @ 96,
    kind @ 108,
    protocol @ 112,
    socket_cookie @ 120,
    cgroup_id @ 128,
);
