//! What the cgroup programs remember of a translated socket, to show the process the address it
//! dialled.

use crate::layout::{layout, plain_generic};
use crate::{Addr4, Addr6, Address, Be16, ServiceId};

/// Key of `SOCKETS4` and `SOCKETS6`: a socket and the backend it talks to.
///
/// The backend is part of the key because an unconnected UDP socket may talk to several.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketKey<A> {
    /// `bpf_get_socket_cookie`, its low half first; two words so that neither family needs padding.
    pub cookie: [u32; 2],
    /// Address of the backend.
    pub address: A,
    /// Port of the backend.
    pub port: Be16,
    /// Zero.
    pub _pad: u16,
}

impl<A: Address> SocketKey<A> {
    /// The key of a socket talking to a backend.
    #[inline(always)]
    pub fn new(cookie: u64, address: A, port: Be16) -> Self {
        Self {
            cookie: [cookie as u32, (cookie >> 32) as u32],
            address,
            port,
            _pad: 0,
        }
    }
}

/// Value of `SOCKETS4` and `SOCKETS6`: the frontend that the process dialled.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketValue<A> {
    /// Address of the frontend.
    pub address: A,
    /// Service of the frontend.
    pub service: ServiceId,
    /// Port of the frontend.
    pub port: Be16,
    /// Zero.
    pub _pad: u16,
}

plain_generic!(SocketKey, fields4 = 8 + 4 + 2 + 2, fields6 = 8 + 16 + 2 + 2);
plain_generic!(
    SocketValue,
    fields4 = 4 + 4 + 2 + 2,
    fields6 = 16 + 4 + 2 + 2
);
layout!(SocketKey<Addr4>, size = 16, address @ 8, port @ 12);
layout!(SocketKey<Addr6>, size = 28, address @ 8, port @ 24);
layout!(SocketValue<Addr4>, size = 12, service @ 4, port @ 8);
layout!(SocketValue<Addr6>, size = 24, service @ 16, port @ 20);
