//! Sockets: a process that dials a service is connected to a backend, once, instead of having every
//! packet translated.
//!
//! The backend of a stream is a random slot of the service's table, which is a weighted random choice;
//! that of datagrams follows from the socket. Packets from outside use the hash so that all nodes
//! agree, which sockets need not.

use aya_ebpf::bindings::{BPF_ANY, bpf_sock_addr};
use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_prandom_u32, bpf_get_socket_cookie,
};
use aya_ebpf::programs::SockAddrContext;
use ebpf_abi::event::{EventKind, ObservationPoint, ReplyState};
use ebpf_abi::{
    Addr4, Addr6, BackendId, Be16, Counter, DropReason, FrontendKey, Protocol, ServiceId,
    SocketKey, SocketValue, hash,
};

use crate::access::{config, count, entry};
use crate::emit;
use crate::family::Ip;
use crate::maps::{SOCKETS4, SOCKETS6};
use crate::steps::{frontend, select};

/// Let the call go on.
const ALLOW: i32 = 1;
/// Refuse it; the process sees `EPERM`.
const REFUSE: i32 = 0;

const SOCKETS: usize = 65_536;

/// The third word of an IPv4 address mapped into IPv6; the two before it are zero (RFC 4291,
/// section 2.5.5.2).
const MAPPED_PREFIX: u32 = 0xffff_u32.to_be();

/// An address family's side of the socket table.
trait SocketIp: Ip {
    fn sockets() -> &'static LruHashMap<SocketKey<Self>, SocketValue<Self>, SOCKETS>;
}

impl SocketIp for Addr4 {
    #[inline(always)]
    fn sockets() -> &'static LruHashMap<SocketKey<Self>, SocketValue<Self>, SOCKETS> {
        &SOCKETS4
    }
}

impl SocketIp for Addr6 {
    #[inline(always)]
    fn sockets() -> &'static LruHashMap<SocketKey<Self>, SocketValue<Self>, SOCKETS> {
        &SOCKETS6
    }
}

/// Address and port in a call's arguments.
#[derive(Clone, Copy)]
struct Peer<A> {
    address: A,
    port: Be16,
}

enum Answer<A> {
    /// Not a service.
    Unchanged,
    /// Talk to this instead.
    Use(Peer<A>),
    /// A service without backends.
    Refuse,
}

/// `connect` and `sendmsg` on an IPv4 socket.
#[inline(always)]
pub fn dial4(ctx: &SockAddrContext) -> i32 {
    let call = Call(ctx.sock_addr);
    match translate(
        &call,
        Peer {
            address: call.address4(),
            port: call.port(),
        },
    ) {
        Answer::Unchanged => ALLOW,
        Answer::Use(peer) => {
            call.set_address4(peer.address);
            call.set_port(peer.port);
            ALLOW
        }
        Answer::Refuse => REFUSE,
    }
}

/// `connect` and `sendmsg` on an IPv6 socket, which may dial IPv4 by a mapped address.
#[inline(always)]
pub fn dial6(ctx: &SockAddrContext) -> i32 {
    let call = Call(ctx.sock_addr);
    let address = call.address6();
    let port = call.port();
    if let Some(mapped) = mapped_ipv4(address) {
        return match translate(
            &call,
            Peer {
                address: mapped,
                port,
            },
        ) {
            Answer::Unchanged => ALLOW,
            Answer::Use(peer) => {
                call.set_mapped_address4(peer.address);
                call.set_port(peer.port);
                ALLOW
            }
            Answer::Refuse => REFUSE,
        };
    }
    match translate(&call, Peer { address, port }) {
        Answer::Unchanged => ALLOW,
        Answer::Use(peer) => {
            call.set_address6(peer.address);
            call.set_port(peer.port);
            ALLOW
        }
        Answer::Refuse => REFUSE,
    }
}

/// `recvmsg` and `getpeername` on an IPv4 socket: show the address that was dialled.
#[inline(always)]
pub fn answer4(ctx: &SockAddrContext) -> i32 {
    let call = Call(ctx.sock_addr);
    if let Some(dialled) = dialled(
        &call,
        Peer {
            address: call.address4(),
            port: call.port(),
        },
    ) {
        call.set_address4(dialled.address);
        call.set_port(dialled.port);
    }
    ALLOW
}

/// Likewise on an IPv6 socket.
#[inline(always)]
pub fn answer6(ctx: &SockAddrContext) -> i32 {
    let call = Call(ctx.sock_addr);
    let address = call.address6();
    let port = call.port();
    if let Some(mapped) = mapped_ipv4(address) {
        if let Some(dialled) = dialled(
            &call,
            Peer {
                address: mapped,
                port,
            },
        ) {
            call.set_mapped_address4(dialled.address);
            call.set_port(dialled.port);
        }
    } else if let Some(dialled) = dialled(&call, Peer { address, port }) {
        call.set_address6(dialled.address);
        call.set_port(dialled.port);
    }
    ALLOW
}

#[inline(always)]
fn mapped_ipv4(address: Addr6) -> Option<Addr4> {
    let [a, b, c, d] = address.0;
    (a | b == 0 && c == MAPPED_PREFIX).then_some(Addr4(d))
}

/// One dialled frontend and, once chosen, the backend that takes its place.
struct Dial<A> {
    dialled: Peer<A>,
    backend: Peer<A>,
    service: ServiceId,
    backend_id: BackendId,
    protocol: Protocol,
}

#[inline(always)]
fn translate<A: SocketIp>(call: &Call, dialled: Peer<A>) -> Answer<A> {
    let protocol = call.protocol();
    if !matches!(protocol, Protocol::TCP | Protocol::UDP) {
        return Answer::Unchanged;
    }
    let Some(config) = config() else {
        return Answer::Unchanged;
    };
    let key = FrontendKey::new(dialled.address, dialled.port, protocol);
    let Some(frontend) = frontend::from_inside(&key, config) else {
        return Answer::Unchanged;
    };
    let service = frontend.service;
    let hash = match protocol {
        Protocol::UDP => conversation(call, &dialled),
        // SAFETY: takes no argument and has no precondition.
        _ => unsafe { bpf_get_prandom_u32() },
    };
    let Some((backend_id, backend)) = select::backend::<A>(service, hash) else {
        count(DropReason::NoBackend.counter());
        let dial = Dial {
            dialled,
            backend: dialled,
            service,
            backend_id: BackendId(0),
            protocol,
        };
        report(call, &dial, EventKind::DROP);
        return Answer::Refuse;
    };
    let backend = Peer {
        address: backend.address,
        port: backend.port,
    };
    let dial = Dial {
        dialled,
        backend,
        service,
        backend_id,
        protocol,
    };
    remember(call, &dial);
    count(Counter::SocketsTranslated);
    report(call, &dial, EventKind::SOCKET);
    Answer::Use(backend)
}

/// The same for all datagrams that a socket sends to one frontend: whoever takes the first is asked for
/// the next, connected or not.
#[inline(always)]
fn conversation<A: SocketIp>(call: &Call, dialled: &Peer<A>) -> u32 {
    let cookie = call.cookie();
    let of_socket = hash::again(cookie as u32 ^ (cookie >> 32) as u32);
    hash::again(of_socket ^ dialled.address.fold() ^ u32::from(dialled.port.get()))
}

/// Notes the frontend for `recvmsg` and `getpeername`. If the table refuses, the process sees the
/// backend's address there: less comfortable, never wrong traffic.
#[inline(always)]
fn remember<A: SocketIp>(call: &Call, dial: &Dial<A>) {
    let key = SocketKey::new(call.cookie(), dial.backend.address, dial.backend.port);
    let value = SocketValue {
        address: dial.dialled.address,
        service: dial.service,
        port: dial.dialled.port,
        _pad: 0,
    };
    let _ = A::sockets().insert(&key, &value, BPF_ANY.into());
}

#[inline(always)]
fn dialled<A: SocketIp>(call: &Call, peer: Peer<A>) -> Option<Peer<A>> {
    let key = SocketKey::new(call.cookie(), peer.address, peer.port);
    let frontend = entry(A::sockets(), &key)?;
    Some(Peer {
        address: frontend.address,
        port: frontend.port,
    })
}

/// Reports a translation, or the refusal to dial a service without backends.
#[inline(never)]
fn report<A: SocketIp>(call: &Call, dial: &Dial<A>, kind: EventKind) {
    let (cookie, cgroup) = (call.cookie(), call.cgroup());
    emit::write(|event| {
        event.kind = kind;
        if kind == EventKind::DROP {
            event.drop_reason = DropReason::NoBackend as u8;
        }
        event.point = ObservationPoint::SOCKET;
        event.family = A::FAMILY as u8;
        event.protocol = dial.protocol;
        event.destination = dial.dialled.address.widen();
        event.destination_port = dial.dialled.port;
        event.translated_destination = dial.backend.address.widen();
        event.translated_destination_port = dial.backend.port;
        event.service = dial.service;
        event.backend = dial.backend_id;
        event.reply = ReplyState::ORIGINAL;
        event.socket_cookie = cookie;
        event.cgroup_id = cgroup;
    });
}

/// The arguments of a socket call. The kernel allows four-byte accesses to these fields.
struct Call(*mut bpf_sock_addr);

impl Call {
    #[inline(always)]
    fn address4(&self) -> Addr4 {
        // SAFETY: the kernel's context, readable at this field in IPv4 hooks.
        Addr4(unsafe { (*self.0).user_ip4 })
    }

    #[inline(always)]
    fn set_address4(&self, address: Addr4) {
        // SAFETY: writable at this field in IPv4 hooks.
        unsafe { (*self.0).user_ip4 = address.0 }
    }

    #[inline(always)]
    fn address6(&self) -> Addr6 {
        // SAFETY: readable at these fields in IPv6 hooks; volatile keeps the four loads four bytes
        // wide, as the verifier asks.
        Addr6(unsafe {
            let words = &raw const (*self.0).user_ip6;
            [
                (&raw const (*words)[0]).read_volatile(),
                (&raw const (*words)[1]).read_volatile(),
                (&raw const (*words)[2]).read_volatile(),
                (&raw const (*words)[3]).read_volatile(),
            ]
        })
    }

    #[inline(always)]
    fn set_address6(&self, address: Addr6) {
        let [a, b, c, d] = address.0;
        // SAFETY: writable at these fields in IPv6 hooks; volatile as above.
        unsafe {
            let words = &raw mut (*self.0).user_ip6;
            (&raw mut (*words)[0]).write_volatile(a);
            (&raw mut (*words)[1]).write_volatile(b);
            (&raw mut (*words)[2]).write_volatile(c);
            (&raw mut (*words)[3]).write_volatile(d);
        }
    }

    /// Replaces the IPv4 address inside a mapped one, whose prefix stays.
    #[inline(always)]
    fn set_mapped_address4(&self, address: Addr4) {
        // SAFETY: writable at this field in IPv6 hooks.
        unsafe { (&raw mut (*self.0).user_ip6[3]).write_volatile(address.0) }
    }

    #[inline(always)]
    fn port(&self) -> Be16 {
        // SAFETY: readable at this field in every hook. The port is the low half of the word.
        Be16(unsafe { (*self.0).user_port } as u16)
    }

    #[inline(always)]
    fn set_port(&self, port: Be16) {
        // SAFETY: writable at this field in every hook.
        unsafe { (*self.0).user_port = port.0.into() }
    }

    #[inline(always)]
    fn protocol(&self) -> Protocol {
        // SAFETY: readable at this field in every hook.
        Protocol(unsafe { (*self.0).protocol } as u8)
    }

    #[inline(always)]
    fn cookie(&self) -> u64 {
        // SAFETY: the kernel's own context.
        unsafe { bpf_get_socket_cookie(self.0.cast()) }
    }

    #[inline(always)]
    fn cgroup(&self) -> u64 {
        // SAFETY: takes no argument and has no precondition.
        unsafe { bpf_get_current_cgroup_id() }
    }
}
