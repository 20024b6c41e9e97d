//! Are the checksums of a frame right? Written apart from the data path's own code on purpose:
//! this is the judge, not the accused.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use super::packet::{Ip, TCP, UDP};

/// Checks the IPv4 header and the TCP or UDP checksum; false if the frame has none of them.
///
/// # Errors
///
/// When one is wrong.
pub fn check(frame: &[u8]) -> Result<bool> {
    let Some(ip) = Ip::of(frame) else {
        return Ok(false);
    };
    let about = || {
        format!(
            "of {} -> {} (protocol {})",
            ip.source, ip.destination, ip.protocol
        )
    };
    ensure!(
        fold(sum(ip.header)) == 0xffff || ip.header.is_empty(),
        "IPv4 checksum {}",
        about()
    );
    if ip.fragment || !matches!(ip.protocol, TCP | UDP) {
        return Ok(!ip.header.is_empty());
    }
    let none = ip.protocol == UDP && ip.payload.get(6..8) == Some(&[0, 0]);
    if none {
        ensure!(
            ip.source.is_ipv4(),
            "UDP without a checksum over IPv6 {}",
            about()
        );
        return Ok(true);
    }
    let pseudo = address_sum(ip.source)
        + address_sum(ip.destination)
        + u64::from(ip.protocol)
        + ip.payload.len() as u64;
    let total = fold(pseudo + sum(ip.payload));
    ensure!(
        total == 0xffff,
        "transport checksum {} adds up to {total:#06x}",
        about()
    );
    Ok(true)
}

fn address_sum(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    }
}

/// Sum of the 16-bit big-endian words, the last padded with zero.
fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    bytes.chunks(2).map(word).sum()
}

fn fold(mut sum: u64) -> u64 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 UDP datagram "hi" from 10.0.0.1:1000 to 10.0.0.2:2000, checksums worked out by hand.
    fn datagram() -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00]);
        frame.extend([
            0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0x66, 0xcd, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        frame.extend([0x03, 0xe8, 0x07, 0xd0, 0, 10, 0x77, 0xb6, b'h', b'i']);
        frame
    }

    #[test]
    fn right_checksums_are_right() {
        assert!(check(&datagram()).unwrap());
    }

    #[test]
    fn padding_of_the_frame_does_not_count() {
        let mut frame = datagram();
        frame.extend([0xff; 16]);
        assert!(check(&frame).unwrap());
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        for at in 14..datagram().len() {
            let mut frame = datagram();
            frame[at] ^= 0x10;
            assert!(check(&frame).is_err(), "byte {at}");
        }
    }
}
