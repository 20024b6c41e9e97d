//! Why a packet was dropped.

use crate::Counter;

/// Reason of a drop, numbered as in the flow API (`flow.DropReason`).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The packet could not be changed.
    WriteFailed = 141,
    /// The connection table refused the entry.
    ConntrackInsertFailed = 155,
    /// The service has no backend.
    NoBackend = 158,
    /// No free port on the node's address towards this backend.
    NoSnatPort = 167,
    /// The routing table has no way to the backend.
    NoRoute = 169,
    /// A connection that may be known is not found yet, see [`crate::DatapathConfig::carrying_over_until_ns`].
    CarryingOver = 190,
    /// The packet is for a pod of another node and would have left unencrypted.
    Unencrypted = 195,
}

impl DropReason {
    /// All reasons that the programs use.
    pub const ALL: [Self; 7] = [
        Self::WriteFailed,
        Self::ConntrackInsertFailed,
        Self::NoBackend,
        Self::NoSnatPort,
        Self::NoRoute,
        Self::CarryingOver,
        Self::Unencrypted,
    ];

    /// The counter that counts it.
    #[inline(always)]
    pub const fn counter(self) -> Counter {
        match self {
            Self::WriteFailed => Counter::DropWriteFailed,
            Self::ConntrackInsertFailed => Counter::DropConntrackFull,
            Self::NoBackend => Counter::DropNoBackend,
            Self::NoSnatPort => Counter::DropNoSnatPort,
            Self::NoRoute => Counter::DropNoRoute,
            Self::CarryingOver => Counter::DropCarryingOver,
            Self::Unencrypted => Counter::DropUnencrypted,
        }
    }
}
