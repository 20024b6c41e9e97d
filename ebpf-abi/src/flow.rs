//! What the TC programs remember of a flow, to report its start, its end and its progress instead
//! of every packet.

use bytemuck::{Pod, Zeroable};

use crate::event::{ObservationPoint, ReplyState};
use crate::layout::{layout, plain_generic};
use crate::{Addr4, Addr6, Address, Tuple};

/// Key of `FLOWS4` and `FLOWS6`: one direction of a connection at one observation point.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey<A> {
    /// Tuple of the packet, its padding zero.
    pub tuple: Tuple<A>,
    /// [`ObservationPoint`], widened so that the key has no hidden padding.
    pub point: u32,
}

impl<A: Address> FlowKey<A> {
    /// The key for packets with this tuple at this point.
    #[inline(always)]
    pub fn new(tuple: Tuple<A>, point: ObservationPoint) -> Self {
        Self {
            tuple,
            point: u32::from(point.0),
        }
    }
}

/// Value of `FLOWS4` and `FLOWS6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct FlowValue {
    /// Packets so far.
    pub packets: u64,
    /// Bytes so far, counted from the network header.
    pub bytes: u64,
    /// Low 32 bits of `jiffies` at the last report.
    pub reported_at: u32,
    /// TCP flags reported so far.
    pub tcp_flags: u8,
    /// Direction within the connection.
    pub reply: ReplyState,
    /// Nonzero: counted but not reported here, because another hook reports the flow.
    pub quiet: u8,
    /// Zero.
    pub _pad: u8,
}

plain_generic!(FlowKey, fields4 = 16 + 4, fields6 = 40 + 4);
layout!(FlowKey<Addr4>, size = 20, point @ 16);
layout!(FlowKey<Addr6>, size = 44, point @ 40);
layout!(FlowValue, size = 24, reported_at @ 16, tcp_flags @ 20);
