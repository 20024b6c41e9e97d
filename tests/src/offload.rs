//! Switching TX checksum offload off on a veth.
//!
//! A veth hands packets over with unfinished checksums, which an XDP program on the other end sees
//! as wrong ones. Real network cards finish them; a veth does once its offload is off.

use std::io;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `ETHTOOL_STXCSUM` of `linux/ethtool.h`.
const SET_TX_CHECKSUM: u32 = 0x17;

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Makes `interface` of the calling thread's network namespace finish the checksums it sends.
///
/// # Errors
///
/// When there is no such interface or its driver refuses.
pub fn finish_checksums(interface: &str) -> Result<()> {
    ensure!(
        interface.len() < libc::IFNAMSIZ,
        "interface name {interface:?} is too long"
    );
    let mut value = EthtoolValue {
        command: SET_TX_CHECKSUM,
        data: 0,
    };
    // SAFETY: `ifreq` is plain data, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .context("open a socket for ethtool requests")?;
    // SAFETY: the kernel reads `request` and the `EthtoolValue` it points at; both outlive the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if done < 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("switch TX checksum offload of {interface} off"));
    }
    Ok(())
}
