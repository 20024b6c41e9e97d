//! The `AF_PACKET` socket of a capture: the system calls, nothing else.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use nix::net::if_::if_nametoindex;

use super::Packet;

/// Longest frame: a veth hands over whole TCP segments that were merged.
const MOST_BYTES: usize = 128 * 1024;
/// `TP_STATUS_CSUMNOTREADY` of `linux/if_packet.h`.
const CHECKSUM_NOT_READY: u32 = 1 << 3;
/// Bytes the kernel may hold for us.
const RECEIVE_BUFFER: libc::c_int = 16 << 20;

/// Opens a raw socket on `interface` of the calling thread's network namespace.
pub fn open(interface: &str) -> Result<OwnedFd> {
    let index = if_nametoindex(interface).with_context(|| format!("find {interface}"))?;
    let every_protocol = (libc::ETH_P_ALL as u16).to_be();
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: takes no pointers. Protocol 0: nothing arrives before the socket is bound.
    let raw = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error()).context("open a packet socket");
    }
    // SAFETY: just opened, and owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
    set_option(
        &socket,
        libc::SOL_SOCKET,
        libc::SO_RCVBUFFORCE,
        &RECEIVE_BUFFER,
    )?;
    // SAFETY: `sockaddr_ll` is plain data, for which all zeros is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = every_protocol;
    address.sll_ifindex = index.cast_signed();
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is as long as said and outlives the call.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if done < 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("bind a packet socket to {interface}"));
    }
    Ok(socket)
}

/// Bounds how long [`receive`] waits.
pub fn set_patience(socket: &OwnedFd, patience: Duration) -> Result<()> {
    let value = libc::timeval {
        tv_sec: patience.as_secs().cast_signed(),
        tv_usec: i64::from(patience.subsec_micros()),
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &value)
}

fn set_option<T>(socket: &OwnedFd, level: i32, option: i32, value: &T) -> Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    let pointer = std::ptr::from_ref(value).cast();
    // SAFETY: the kernel reads `length` bytes of `value`, which has that many.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, pointer, length) };
    if done < 0 {
        return Err(io::Error::last_os_error()).context("set an option of a packet socket");
    }
    Ok(())
}

/// The next packet, or none if there was none for the socket's patience.
pub fn receive(socket: &OwnedFd) -> Result<Option<Packet>> {
    let mut bytes = vec![0; MOST_BYTES];
    // As u64 for the alignment that control messages need.
    let mut control = [0_u64; 16];
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: `msghdr` is plain data, for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: all buffers that `message` points at live until the end of this function.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    if count < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            // The link went away or down: nothing more will come.
            _ if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
            _ => Err(error).context("receive a packet"),
        };
    }
    bytes.truncate(count.unsigned_abs());
    let checksum_unfinished = status(&message) & CHECKSUM_NOT_READY != 0;
    Ok(Some(Packet {
        time: SystemTime::now(),
        bytes,
        checksum_unfinished,
    }))
}

/// `tp_status` of a received message, 0 without one.
fn status(message: &libc::msghdr) -> u32 {
    // SAFETY: the kernel filled `message`, whose control buffer is alive and aligned.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() };
    let is_ours = |h: &&libc::cmsghdr| {
        h.cmsg_level == libc::SOL_PACKET && h.cmsg_type == libc::PACKET_AUXDATA
    };
    header.filter(is_ours).map_or(0, |header| {
        // SAFETY: data of this type begins with `__u32 tp_status`; it need not be aligned.
        unsafe { libc::CMSG_DATA(header).cast::<u32>().read_unaligned() }
    })
}

/// Sends one frame.
pub fn send(socket: &OwnedFd, frame: &[u8]) -> Result<()> {
    // SAFETY: the buffer is readable for its length.
    let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("send a frame of {} bytes", frame.len()));
    }
    ensure!(
        sent.unsigned_abs() == frame.len(),
        "sent {sent} of {} bytes",
        frame.len()
    );
    Ok(())
}

/// Hardware address of `interface` of the calling thread's network namespace.
pub fn hardware_address(interface: &str) -> Result<[u8; 6]> {
    let addresses = nix::ifaddrs::getifaddrs().context("list interfaces")?;
    for entry in addresses.filter(|entry| entry.interface_name == interface) {
        let link = entry
            .address
            .as_ref()
            .and_then(|address| address.as_link_addr()?.addr());
        if let Some(address) = link {
            return Ok(address);
        }
    }
    bail!("there is no interface {interface} with a hardware address")
}
