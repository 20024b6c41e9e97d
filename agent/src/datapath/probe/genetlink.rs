//! Asks the kernel's generic netlink for a family and for what a device's driver can do with XDP.

use std::io;

use netlink_sys::constants::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

/// Family that knows the others, with its command and attributes (`linux/genetlink.h`).
const CONTROL: u16 = 16;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;

/// Command and attributes of the family `netdev` (`linux/netdev.h`).
const NETDEV_DEV_GET: u8 = 1;
const NETDEV_IFINDEX: u16 = 1;
const NETDEV_XDP_FEATURES: u16 = 3;

/// The driver runs XDP programs, with PASS, DROP, TX and ABORTED.
pub const XDP_BASIC: u64 = 1;
/// It redirects from XDP, too.
pub const XDP_REDIRECT: u64 = 2;

/// Sizes of the two headers of a message.
const NETLINK_HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;

/// Types of netlink messages and flags of requests (`linux/netlink.h`).
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;

/// The number of a family. Asking makes the kernel load the module that has it.
///
/// # Errors
/// Of the socket; a family the kernel does not have is `Ok(None)`.
pub fn family(name: &str) -> io::Result<Option<u16>> {
    let mut terminated = name.as_bytes().to_vec();
    terminated.push(0);
    let answer = ask(
        CONTROL,
        CONTROL_GET_FAMILY,
        CONTROL_FAMILY_NAME,
        &terminated,
    )?;
    let id = answer
        .as_deref()
        .and_then(|answer| attribute(answer, CONTROL_FAMILY_ID));
    Ok(id
        .and_then(|bytes| bytes.try_into().ok())
        .map(u16::from_ne_bytes))
}

/// What the driver of a device declares about XDP, in bits such as [`XDP_BASIC`].
///
/// # Kernel
/// From 6.3; `Ok(None)` before.
pub fn xdp_features(ifindex: u32) -> io::Result<Option<u64>> {
    let Some(netdev) = family("netdev")? else {
        return Ok(None);
    };
    let answer = ask(
        netdev,
        NETDEV_DEV_GET,
        NETDEV_IFINDEX,
        &ifindex.to_ne_bytes(),
    )?;
    let features = answer
        .as_deref()
        .and_then(|answer| attribute(answer, NETDEV_XDP_FEATURES));
    Ok(features
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_ne_bytes))
}

/// Sends a request with one attribute and returns the attributes of the answer; `None` if what was
/// asked for does not exist.
fn ask(family: u16, command: u8, kind: u16, value: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(family, command, kind, value), 0)?;
    let (message, _) = socket.recv_from_full()?;
    let refused = || io::Error::new(io::ErrorKind::InvalidData, "the answer is cut short");
    let message_kind = message.get(4..6).ok_or_else(refused)?;
    if message_kind != NLMSG_ERROR.to_ne_bytes() {
        return Ok(message
            .get(NETLINK_HEADER + GENERIC_HEADER..)
            .map(<[u8]>::to_vec));
    }
    let code = message
        .get(NETLINK_HEADER..NETLINK_HEADER + 4)
        .ok_or_else(refused)?;
    let code = i32::from_ne_bytes(code.try_into().expect("four bytes"));
    match io::Error::from_raw_os_error(-code) {
        error if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP)) => Ok(None),
        error => Err(error),
    }
}

fn request(family: u16, command: u8, kind: u16, value: &[u8]) -> Vec<u8> {
    let attribute_bytes = 4 + value.len();
    let length = NETLINK_HEADER + GENERIC_HEADER + attribute_bytes.next_multiple_of(4);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(family.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]); // sequence and port: the socket asks one question only
    bytes.extend([command, 1, 0, 0]); // version 1
    bytes.extend((attribute_bytes as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length, 0);
    bytes
}

/// The value of the first attribute of this kind.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (header, _) = attributes.split_at_checked(4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]);
        if kind == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_and_cut_ones_are_not_read_beyond() {
        let mut bytes = request(1, 2, 7, b"abc").split_off(NETLINK_HEADER + GENERIC_HEADER);
        bytes.extend(request(1, 2, 8, b"wxyz").split_off(NETLINK_HEADER + GENERIC_HEADER));
        assert_eq!(attribute(&bytes, 7), Some(&b"abc"[..]));
        assert_eq!(attribute(&bytes, 8), Some(&b"wxyz"[..]));
        assert_eq!(attribute(&bytes, 9), None);
        for end in 0..bytes.len() {
            assert_ne!(
                attribute(&bytes[..end], 8),
                Some(&b"wxyz"[..]),
                "cut at {end}"
            );
        }
        assert_eq!(
            attribute(&[0; 4], 9),
            None,
            "a length of zero does not loop"
        );
    }

    #[test]
    fn the_kernel_knows_its_own_families() {
        assert_eq!(family("nlctrl").unwrap(), Some(CONTROL));
        assert_eq!(family("no-such-family").unwrap(), None);
    }
}
