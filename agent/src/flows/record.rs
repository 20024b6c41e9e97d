//! What the store keeps of a flow: the kernel's record, and the names its addresses had then.
//!
//! [`FlowRecord`] answers questions in the terms of the flow API (which address is the source, is
//! this a reply, ...). Filters and the conversion to protobuf both ask here, so they cannot differ.

use std::net::IpAddr;
use std::sync::Arc;

use ebpf_abi::event::{EventKind, ObservationPoint, ReplyState};
use ebpf_abi::{Addr6, Family, FlowEvent, Protocol};
use uuid::Uuid;
use weir_proto::flow::{SocketTranslationPoint, TrafficDirection, Verdict};

use super::identity::IdentityId;
use crate::state::{ObjectName, Workload};

/// The name of the cluster as long as there is only one.
pub const CLUSTER_NAME: &str = "default";

/// IP protocols that the flow API can name and `ebpf_abi` has no constant for.
pub mod protocol {
    use ebpf_abi::Protocol;

    /// IGMP (RFC 9776).
    pub const IGMP: Protocol = Protocol(2);
    /// VRRP (RFC 9568).
    pub const VRRP: Protocol = Protocol(112);
    /// SCTP (RFC 9260).
    pub const SCTP: Protocol = Protocol(132);
}

/// An element of the stream of flows.
#[derive(Debug)]
pub enum Entry {
    /// Something was observed.
    Flow(FlowRecord),
    /// Something was observed and lost.
    Lost(LostRecord),
}

impl Entry {
    /// Nanoseconds since the Unix epoch.
    pub fn time_ns(&self) -> u64 {
        match self {
            Self::Flow(record) => record.time_ns,
            Self::Lost(lost) => lost.last_ns,
        }
    }
}

/// Places that can lose an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostSource {
    /// The ring buffer between kernel and agent was full.
    Kernel,
    /// The record could not be decoded.
    Decoder,
    /// A reader was overtaken by the writer of the store.
    Store,
}

/// Notice of a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRecord {
    /// Who lost.
    pub source: LostSource,
    /// How many events.
    pub count: u64,
    /// Begin of the span in which they were lost, nanoseconds since the Unix epoch.
    pub first_ns: u64,
    /// End of that span.
    pub last_ns: u64,
}

/// The node that observed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// Its labels as `key=value`, sorted.
    pub labels: Vec<String>,
}

/// What was known of an address when the record arrived. Shared by all its records.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EndpointInfo {
    /// Numeric identity.
    pub identity: IdentityId,
    /// Namespace of the pod; empty if it is none.
    pub namespace: Arc<str>,
    /// Name of the pod; empty if it is none.
    pub pod_name: String,
    /// Identity labels as `source:key=value`, sorted.
    pub labels: Vec<String>,
    /// Owner of the pod.
    pub workload: Option<Workload>,
    /// Cluster of the pod; empty if it is none.
    pub cluster_name: &'static str,
}

impl EndpointInfo {
    /// True if the address is known to be a pod's.
    pub fn is_pod(&self) -> bool {
        !self.pod_name.is_empty()
    }
}

/// One of the two ends of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The sender of the packet.
    Source,
    /// Its receiver.
    Destination,
}

/// One observation, with names.
#[derive(Debug)]
pub struct FlowRecord {
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// Unique among all records of all agents.
    pub uuid: Uuid,
    /// The kernel's record. [`Self::family`] relies on its checked family.
    pub event: FlowEvent,
    /// The node that observed.
    pub node: Arc<NodeInfo>,
    /// Name of the interface, if there is one and it is known.
    pub interface: Option<Arc<str>>,
    /// What is known of the source.
    pub source: Arc<EndpointInfo>,
    /// What is known of the destination.
    pub destination: Arc<EndpointInfo>,
    /// Service whose frontend the source is.
    pub source_service: Option<Arc<ObjectName>>,
    /// Service whose frontend the destination is.
    pub destination_service: Option<Arc<ObjectName>>,
}

impl FlowRecord {
    /// Address family of all its addresses.
    pub fn family(&self) -> Family {
        family(&self.event)
    }

    /// The address of one end.
    ///
    /// As the packet carried it, with two exceptions. For a socket the destination is where its
    /// packets really go. An answer that this node translates for a backend elsewhere goes from the
    /// frontend to the client, as the request came: on the wire it is for a port of this node, which
    /// stands for the client and says nothing to anybody.
    pub fn address(&self, side: Side) -> IpAddr {
        address(&self.event, side)
    }

    /// The source address after translation, if there was one.
    pub fn source_xlated(&self) -> Option<IpAddr> {
        let event = &self.event;
        (event.translated_source != event.source && event.translated_source != Addr6::default())
            .then(|| event.translated_source.narrow(self.family()))
    }

    /// The port of one end in host order; `None` if the protocol has no ports.
    pub fn port(&self, side: Side) -> Option<u16> {
        port(&self.event, side)
    }

    /// What is known of one end.
    pub fn endpoint(&self, side: Side) -> &EndpointInfo {
        match side {
            Side::Source => &self.source,
            Side::Destination => &self.destination,
        }
    }

    /// The service whose frontend one end is.
    pub fn service(&self, side: Side) -> Option<&ObjectName> {
        match side {
            Side::Source => self.source_service.as_deref(),
            Side::Destination => self.destination_service.as_deref(),
        }
    }

    /// True for a socket's translation, where there is no packet.
    pub fn is_socket(&self) -> bool {
        self.event.kind == EventKind::SOCKET
    }

    /// True for a dropped packet.
    pub fn is_drop(&self) -> bool {
        self.event.kind == EventKind::DROP
    }

    /// True if it was seen where packets are encrypted or decrypted. What other places see may be
    /// encrypted on its way too, which is not known there: a pod's interface knows no routes.
    pub fn is_encrypted(&self) -> bool {
        let at_device = matches!(
            self.event.point,
            ObservationPoint::TO_CRYPTO | ObservationPoint::FROM_CRYPTO
        );
        self.event.kind == EventKind::TRACE && at_device
    }

    /// What became of the packet.
    pub fn verdict(&self) -> Verdict {
        match self.event.kind {
            EventKind::DROP => Verdict::Dropped,
            EventKind::SOCKET => Verdict::Translated,
            _ => Verdict::Forwarded,
        }
    }

    /// Class and subclass of the event, in the numbers of the flow API.
    pub fn event_type(&self) -> (i32, i32) {
        let sub_type = match self.event.kind {
            EventKind::DROP => i32::from(self.event.drop_reason),
            EventKind::SOCKET => SocketTranslationPoint::SockXlatePointPostDirectionFwd as i32,
            _ => i32::from(self.event.point.0),
        };
        (i32::from(self.event.kind.0), sub_type)
    }

    /// Whether the packet comes from the side that accepted the connection; `None` if not known.
    ///
    /// The flow API never says it of drops and sockets.
    pub fn is_reply(&self) -> Option<bool> {
        match (self.event.kind, self.event.reply) {
            (EventKind::TRACE, ReplyState::ORIGINAL) => Some(false),
            (EventKind::TRACE, ReplyState::REPLY) => Some(true),
            _ => None,
        }
    }

    /// Direction of the connection as seen from the local pod, if the event was seen at one.
    pub fn traffic_direction(&self) -> TrafficDirection {
        let leaves_pod = match self.event.point {
            ObservationPoint::FROM_ENDPOINT => true,
            ObservationPoint::TO_ENDPOINT => false,
            _ if self.is_drop() => false,
            _ => return TrafficDirection::Unknown,
        };
        let reply = match self.is_reply() {
            Some(reply) => reply,
            None if self.is_drop() => false,
            None => return TrafficDirection::Unknown,
        };
        if leaves_pod == reply {
            TrafficDirection::Ingress
        } else {
            TrafficDirection::Egress
        }
    }

    /// TCP flags of the packet; `None` without a TCP packet.
    pub fn tcp_flags(&self) -> Option<u8> {
        (self.event.protocol == Protocol::TCP && !self.is_socket()).then_some(self.event.tcp_flags)
    }
}

/// The checked family of a decoded event.
pub(super) fn family(event: &FlowEvent) -> Family {
    if event.family == Family::V6 as u8 {
        Family::V6
    } else {
        Family::V4
    }
}

/// True for the answer of a backend that this node turns into one of the frontend to the client.
fn is_translated_reply(event: &FlowEvent) -> bool {
    event.kind == EventKind::TRACE
        && event.reply == ReplyState::REPLY
        && event.translated_source != Addr6::default()
        && event.translated_destination != event.destination
}

/// True if what is shown of one end is what it was translated to.
fn shows_translated(event: &FlowEvent, side: Side) -> bool {
    is_translated_reply(event) || event.kind == EventKind::SOCKET && side == Side::Destination
}

/// See [`FlowRecord::address`].
pub(super) fn address(event: &FlowEvent, side: Side) -> IpAddr {
    let address = match (side, shows_translated(event, side)) {
        (Side::Source, false) => event.source,
        (Side::Source, true) => event.translated_source,
        (Side::Destination, false) => event.destination,
        (Side::Destination, true) => event.translated_destination,
    };
    address.narrow(family(event))
}

/// See [`FlowRecord::port`].
pub(super) fn port(event: &FlowEvent, side: Side) -> Option<u16> {
    if !matches!(
        event.protocol,
        Protocol::TCP | Protocol::UDP | protocol::SCTP
    ) {
        return None;
    }
    let port = match (side, shows_translated(event, side)) {
        (Side::Source, false) => event.source_port,
        (Side::Source, true) => event.translated_source_port,
        (Side::Destination, false) => event.destination_port,
        (Side::Destination, true) => event.translated_destination_port,
    };
    Some(port.get())
}

#[cfg(test)]
pub(crate) mod tests;
