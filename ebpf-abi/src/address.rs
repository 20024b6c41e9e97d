//! Addresses and ports as they are on the wire.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::{Pod, Zeroable};

use crate::layout::layout;

/// A 16-bit integer in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Pod, Zeroable)]
pub struct Be16(pub u16);

impl Be16 {
    /// Converts from host order.
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// The value in host order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

impl fmt::Debug for Be16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.get(), f)
    }
}

/// An IPv4 address, its four bytes in wire order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Pod, Zeroable)]
pub struct Addr4(pub u32);

/// An IPv6 address, its sixteen bytes in wire order.
///
/// Held as words because byte arrays compile to byte loads in eBPF, and aligned to 4 because that
/// is all a packet guarantees.
#[repr(transparent)]
#[derive(Clone, Copy, Eq, Default, Pod, Zeroable)]
pub struct Addr6(pub [u32; 4]);

impl PartialEq for Addr6 {
    /// Word by word: comparing the arrays becomes a call to `bcmp` in eBPF, and a call costs stack
    /// that older kernels do not have to spare.
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
    }
}

impl Hash for Addr6 {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// Address family, numbered as the version field of the IP header.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Addr4 {}
    impl Sealed for super::Addr6 {}
}

/// What the packet path needs to know of an address, so that one source serves both families.
pub trait Address: sealed::Sealed + Copy + PartialEq + Pod + 'static {
    /// The family of this address.
    const FAMILY: Family;

    /// The one's-complement sum of the address' 16-bit words, as they lie in memory (RFC 1071).
    fn checksum_words(self) -> u32;

    /// A 32-bit digest for hashing; equal addresses give equal digests.
    fn fold(self) -> u32;

    /// The address as sixteen bytes, IPv4 in the first four and zeros behind it.
    fn widen(self) -> Addr6;
}

impl Address for Addr4 {
    const FAMILY: Family = Family::V4;

    #[inline(always)]
    fn checksum_words(self) -> u32 {
        (self.0 >> 16) + (self.0 & 0xffff)
    }

    #[inline(always)]
    fn fold(self) -> u32 {
        self.0
    }

    #[inline(always)]
    fn widen(self) -> Addr6 {
        Addr6([self.0, 0, 0, 0])
    }
}

impl Address for Addr6 {
    const FAMILY: Family = Family::V6;

    #[inline(always)]
    fn checksum_words(self) -> u32 {
        let [a, b, c, d] = self.0;
        Addr4(a).checksum_words()
            + Addr4(b).checksum_words()
            + Addr4(c).checksum_words()
            + Addr4(d).checksum_words()
    }

    #[inline(always)]
    fn fold(self) -> u32 {
        let [a, b, c, d] = self.0;
        // Rotations keep 2001:db8::1:2 and 2001:db8::2:1 apart.
        a ^ b.rotate_left(7) ^ c.rotate_left(15) ^ d.rotate_left(23)
    }

    #[inline(always)]
    fn widen(self) -> Addr6 {
        self
    }
}

impl From<Ipv4Addr> for Addr4 {
    fn from(address: Ipv4Addr) -> Self {
        Self(u32::from_ne_bytes(address.octets()))
    }
}

impl From<Addr4> for Ipv4Addr {
    fn from(address: Addr4) -> Self {
        Self::from(address.0.to_ne_bytes())
    }
}

impl From<Ipv6Addr> for Addr6 {
    fn from(address: Ipv6Addr) -> Self {
        Self(bytemuck::cast(address.octets()))
    }
}

impl From<Addr6> for Ipv6Addr {
    fn from(address: Addr6) -> Self {
        Self::from(bytemuck::cast::<_, [u8; 16]>(address.0))
    }
}

impl From<Addr4> for IpAddr {
    fn from(address: Addr4) -> Self {
        Self::V4(address.into())
    }
}

impl From<Addr6> for IpAddr {
    fn from(address: Addr6) -> Self {
        Self::V6(address.into())
    }
}

impl Addr6 {
    /// Reads a field that holds either family, as [`Address::widen`] made it.
    pub fn narrow(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => Addr4(self.0[0]).into(),
            Family::V6 => self.into(),
        }
    }
}

impl fmt::Debug for Addr4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Ipv4Addr::from(*self), f)
    }
}

impl fmt::Debug for Addr6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Ipv6Addr::from(*self), f)
    }
}

layout!(Be16, size = 2);
layout!(Addr4, size = 4);
layout!(Addr6, size = 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_bytes_in_wire_order() {
        let address = Addr4::from(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(bytemuck::bytes_of(&address), [192, 0, 2, 1]);
        let address: Addr6 = "2001:db8::1".parse::<Ipv6Addr>().unwrap().into();
        assert_eq!(bytemuck::bytes_of(&address)[..4], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(Be16::new(0x1234).0.to_ne_bytes(), [0x12, 0x34]);
    }

    #[test]
    fn a_widened_address_narrows_back() {
        let four: IpAddr = "203.0.113.9".parse().unwrap();
        let six: IpAddr = "2001:db8::9".parse().unwrap();
        let (IpAddr::V4(four4), IpAddr::V6(six6)) = (four, six) else {
            unreachable!()
        };
        assert_eq!(Addr4::from(four4).widen().narrow(Family::V4), four);
        assert_eq!(Addr6::from(six6).widen().narrow(Family::V6), six);
    }
}
