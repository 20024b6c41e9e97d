//! The WireGuard device for kernels that have none: a TUN device whose packets a process of ours
//! encrypts.
//!
//! boringtun does the protocol ([`boringtun::noise`]); this module moves the packets. Its own
//! device was no choice: it cannot change a peer without resetting its session. One thread reads
//! each queue of the TUN device and sends ([`send`]), one reads each socket and delivers
//! ([`receive`]), one looks at the clock ([`timers`]) and one is told what to change over the
//! socket that every WireGuard tool knows ([`uapi`]).
//!
//! What costs most is not encryption but the way through the kernel, so as little as possible goes
//! that way packet by packet: TCP streams come and go in pieces of up to 64 KiB ([`offload`]), and
//! datagrams leave and arrive many at a time ([`outbox`], [`socket`]). Nothing waits for that: what
//! is there goes as soon as nothing follows at once.
//!
//! Runs in a process of its own ([`serve`]), so that the agent can be restarted and packets go on.
//! Invariant: no packet from outside makes a thread panic; one that is not understood is dropped.

pub mod serve;

mod offload;
mod outbox;
mod peer;
mod receive;
mod send;
mod socket;
mod table;
mod timers;
mod tun;
mod uapi;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::table::Table;
use self::tun::Queue;

/// Largest packet, and datagram.
const MAX_PACKET: usize = 65535;

/// The device: what it is told to be, shared by all threads.
struct Tunnel {
    table: RwLock<Table>,
    /// One per sending thread; receiving threads write to them, too.
    queues: Vec<Queue>,
}

impl Tunnel {
    fn new(queues: Vec<Queue>) -> Arc<Self> {
        let table = RwLock::default();
        Arc::new(Self { table, queues })
    }

    /// A thread that panicked while it held the lock has changed one field at most; every one is
    /// valid by itself.
    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}
