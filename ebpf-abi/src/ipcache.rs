//! Whose an address is: ranges of pods and addresses of nodes, found by longest prefix.

use bytemuck::{Pod, Zeroable};

use crate::layout::layout;

/// Number of a node, given by the agent of this node; other nodes number differently. Zero is for
/// ranges of the cluster that no known node has claimed.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Pod, Zeroable)]
pub struct NodeId(pub u32);

/// Value of `IPCACHE4` and `IPCACHE6`; the key is the prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct IpcacheValue {
    /// The node that has the addresses.
    pub node: NodeId,
    /// Bits of [`IpcacheValue::POD`] and those below.
    pub flags: u32,
}

impl IpcacheValue {
    /// Addresses of pods.
    pub const POD: u32 = 1;
    /// An address of the node itself.
    pub const NODE: u32 = 2;
    /// The node is this one.
    pub const LOCAL: u32 = 4;
    /// A peer of the WireGuard device takes the addresses.
    pub const PEER: u32 = 8;
    /// May be reached unencrypted by the operator's word: an allowed range, or an excepted node.
    pub const CLEAR_ALLOWED: u32 = 16;

    /// True if the value has this bit, or one of these.
    #[inline(always)]
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

layout!(NodeId, size = 4);
layout!(IpcacheValue, size = 8, flags @ 4);
