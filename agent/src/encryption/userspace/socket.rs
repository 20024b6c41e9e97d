//! The sockets that carry encrypted packets.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn,
    SockaddrIn6, SockaddrLike, SockaddrStorage, bind, recvmsg, sendmsg, setsockopt, socket,
    sockopt,
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
    /// Datagrams leave many at a time. Some kernels cannot by some interfaces.
    trains: AtomicBool,
    closed: AtomicBool,
}

/// Datagrams that were received as one, one behind the other.
pub(super) struct Received {
    /// Of all.
    pub length: usize,
    /// Of each but the last one, which may be shorter.
    pub segment: usize,
    pub from: SocketAddr,
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
            trains: AtomicBool::new(true),
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
        let to = self.as_seen_by_socket(to);
        let _lost = self.each[by % self.each.len()].send_to(packet, to);
    }

    /// Sends datagrams of this length, the last one perhaps shorter, at once if that can be done.
    pub fn send_train(&self, by: usize, datagrams: &[u8], segment: usize, to: SocketAddr) {
        let at_once = datagrams.len() > segment && self.trains.load(Ordering::Relaxed);
        if at_once {
            match self.send_segments(by, datagrams, segment, to) {
                // The interface has nobody to compute checksums; before 6.11 the kernel does not.
                Err(nix::errno::Errno::EIO) => self.trains.store(false, Ordering::Relaxed),
                // Longer than the path takes in one piece: only single ones become fragments.
                Err(nix::errno::Errno::EINVAL | nix::errno::Errno::EMSGSIZE) => {}
                _ => return,
            }
        }
        for datagram in datagrams.chunks(segment.max(1)) {
            self.send(by, datagram, to);
        }
    }

    fn send_segments(
        &self,
        by: usize,
        datagrams: &[u8],
        segment: usize,
        to: SocketAddr,
    ) -> nix::Result<()> {
        let socket = self.each[by % self.each.len()].as_raw_fd();
        let (bytes, segment) = ([IoSlice::new(datagrams)], segment as u16);
        let cut = [ControlMessage::UdpGsoSegments(&segment)];
        let to = SockaddrStorage::from(self.as_seen_by_socket(to));
        sendmsg(socket, &bytes, &cut, MsgFlags::empty(), Some(&to))?;
        Ok(())
    }

    fn as_seen_by_socket(&self, address: SocketAddr) -> SocketAddr {
        match address {
            SocketAddr::V4(v4) if self.ipv6 => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            address => address,
        }
    }

    /// Waits for datagrams at one of the sockets; `None` once they are closed.
    pub fn receive(&self, at: usize, buffer: &mut [u8]) -> Option<Received> {
        while !self.closed.load(Ordering::Relaxed) {
            // Errors are those of packets sent before (ICMP), or the time that is up.
            if let Ok(Some(received)) = receive_segments(&self.each[at], buffer) {
                return Some(received);
            }
        }
        None
    }

    /// Ends every [`Self::receive`] within [`CLOSE_CHECK`].
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// `None` if it came from no address.
fn receive_segments(socket: &UdpSocket, buffer: &mut [u8]) -> nix::Result<Option<Received>> {
    // Room for one control message with a number, aligned as one has to be.
    let mut control = [0_u64; 4];
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(bytemuck::bytes_of_mut(&mut control)),
        MsgFlags::empty(),
    )?;
    let segment = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::UdpGroSegments(bytes) => usize::try_from(bytes).ok(),
        _ => None,
    });
    let from = message.address.and_then(|address| {
        let v4 = address
            .as_sockaddr_in()
            .map(|v4| SocketAddr::V4((*v4).into()));
        v4.or_else(|| {
            address
                .as_sockaddr_in6()
                .map(|v6| SocketAddr::V6((*v6).into()))
        })
    });
    Ok(from.map(|from| Received {
        length: message.bytes,
        segment: segment.unwrap_or(message.bytes),
        from: canonical(from),
    }))
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
    // Datagrams that follow each other come as one, where the kernel can do that.
    let _one_by_one = setsockopt(&opened, sockopt::UdpGroSegment, &true);
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
