//! The sockets that carry encrypted packets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, bind, setsockopt,
    socket, sockopt,
};

use crate::encryption::{FirewallMark, Port};

/// After this time without a packet a reader looks whether its socket is still wanted.
const CLOSE_CHECK: Duration = Duration::from_millis(250);

/// Room for packets that wait, in bytes. The kernel caps it at `net.core.rmem_max`.
const BUFFER: usize = 4 << 20;

/// Sockets on one port, one per receiving thread: the kernel spreads the senders over them.
pub(super) struct Sockets {
    pub port: Port,
    each: Vec<UdpSocket>,
    ipv6: bool,
    closed: AtomicBool,
}

impl Sockets {
    /// Opens `count` sockets.
    ///
    /// # Errors
    /// `EADDRINUSE` if anyone else has the port.
    pub fn open(port: Port, mark: Option<FirewallMark>, count: usize) -> io::Result<Self> {
        // Alone first: sockets that share a port also share it with those of others.
        let ipv6 = match open_one(port, mark, true, false) {
            Ok(_) => true,
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => false,
            Err(error) => return Err(error),
        };
        if !ipv6 {
            open_one(port, mark, false, false)?;
        }
        let each = (0..count)
            .map(|_| open_one(port, mark, ipv6, true))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            port,
            each,
            ipv6,
            closed: AtomicBool::new(false),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.each.len()
    }

    /// Marks the packets from here on.
    pub fn set_mark(&self, mark: Option<FirewallMark>) -> io::Result<()> {
        for socket in &self.each {
            setsockopt(socket, sockopt::Mark, &mark.map_or(0, FirewallMark::get))?;
        }
        Ok(())
    }

    /// Sends by one of the sockets. A packet that cannot be sent is lost, as on any wire.
    pub fn send(&self, by: usize, packet: &[u8], to: SocketAddr) {
        let to = match to {
            SocketAddr::V4(v4) if self.ipv6 => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            to => to,
        };
        let _lost = self.each[by % self.each.len()].send_to(packet, to);
    }

    /// Waits for a datagram at one of the sockets; `None` once they are closed.
    pub fn receive(&self, at: usize, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        while !self.closed.load(Ordering::Relaxed) {
            // Errors are those of packets sent before (ICMP), or the time that is up.
            if let Ok((length, from)) = self.each[at].recv_from(buffer) {
                return Some((length, canonical(from)));
            }
        }
        None
    }

    /// Ends every [`Self::receive`] within [`CLOSE_CHECK`].
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// Without the disguise that IPv4 addresses wear at an IPv6 socket.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn open_one(
    port: Port,
    mark: Option<FirewallMark>,
    ipv6: bool,
    shared: bool,
) -> io::Result<UdpSocket> {
    let (family, address) = if ipv6 {
        (AddressFamily::Inet6, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    } else {
        (AddressFamily::Inet, IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    };
    let opened: OwnedFd = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    if ipv6 {
        setsockopt(&opened, sockopt::Ipv6V6Only, &false)?;
    }
    setsockopt(&opened, sockopt::ReusePort, &shared)?;
    setsockopt(&opened, sockopt::RcvBuf, &BUFFER)?;
    setsockopt(&opened, sockopt::SndBuf, &BUFFER)?;
    if let Some(mark) = mark {
        setsockopt(&opened, sockopt::Mark, &mark.get())?;
    }
    bind_to(&opened, SocketAddr::new(address, port.get()))?;
    let opened = UdpSocket::from(opened);
    opened.set_read_timeout(Some(CLOSE_CHECK))?;
    Ok(opened)
}

fn bind_to(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    fn to(socket: &OwnedFd, address: &dyn SockaddrLike) -> nix::Result<()> {
        bind(socket.as_raw_fd(), address)
    }
    match address {
        SocketAddr::V4(v4) => to(socket, &SockaddrIn::from(v4))?,
        SocketAddr::V6(v6) => to(socket, &SockaddrIn6::from(v6))?,
    }
    Ok(())
}
