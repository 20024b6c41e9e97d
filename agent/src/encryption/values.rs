//! Numbers and names of the kernel's networking, each with a type of its own, so that a mark is
//! never taken for a table. Pure.

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A value that the kernel would refuse or that would hit what others own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no {what}: {reason}")]
pub struct InvalidValue {
    /// What it was to be.
    pub what: &'static str,
    /// What was given.
    pub value: String,
    /// Why it cannot be.
    pub reason: &'static str,
}

impl InvalidValue {
    fn new(what: &'static str, value: impl Into<String>, reason: &'static str) -> Self {
        Self {
            what,
            value: value.into(),
            reason,
        }
    }
}

/// Name of a network interface: 1 to 15 bytes, no slash, colon, percent sign or white space.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Longest name the kernel takes, in bytes.
    pub const MAX_BYTES: usize = 15;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = InvalidValue;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| Err(InvalidValue::new("interface name", name, reason));
        if name.is_empty() || name.len() > Self::MAX_BYTES {
            return refuse("the kernel wants 1 to 15 bytes");
        }
        if name == "." || name == ".." {
            return refuse("it is a folder's name");
        }
        // A percent sign makes the kernel number the device; the others it refuses.
        if !name.is_ascii() || name.contains(['/', ':', '%']) {
            return refuse("it must be ASCII without slash, colon and percent sign");
        }
        if name.contains(|c: char| c.is_ascii_whitespace() || c.is_ascii_control()) {
            return refuse("it has white space or control characters");
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A UDP or TCP port, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

impl Port {
    /// The port as a number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl TryFrom<u16> for Port {
    type Error = InvalidValue;

    fn try_from(port: u16) -> Result<Self, Self::Error> {
        NonZeroU16::new(port)
            .map(Self)
            .ok_or_else(|| InvalidValue::new("port", port.to_string(), "0 means any"))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Mark of a packet or socket (`SO_MARK`), never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FirewallMark(NonZeroU32);

impl FirewallMark {
    /// The mark as a number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl TryFrom<u32> for FirewallMark {
    type Error = InvalidValue;

    fn try_from(mark: u32) -> Result<Self, Self::Error> {
        NonZeroU32::new(mark)
            .map(Self)
            .ok_or_else(|| InvalidValue::new("firewall mark", mark.to_string(), "0 means unmarked"))
    }
}

impl fmt::Display for FirewallMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Number of a routing table, never one of the kernel's own (0 and 253 to 255).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteTable(u32);

impl RouteTable {
    /// The table's number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for RouteTable {
    type Error = InvalidValue;

    fn try_from(table: u32) -> Result<Self, Self::Error> {
        match table {
            0 | 253..=255 => Err(InvalidValue::new(
                "routing table",
                table.to_string(),
                "0 and 253 to 255 (default, main, local) belong to the kernel",
            )),
            _ => Ok(Self(table)),
        }
    }
}

impl fmt::Display for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Place of a rule among all; lower ones are asked first. Before those of the tables main and
/// default (32766 and 32767), after that of the table local (0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RulePriority(u32);

impl RulePriority {
    /// The priority as a number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for RulePriority {
    type Error = InvalidValue;

    fn try_from(priority: u32) -> Result<Self, Self::Error> {
        match priority {
            1..=32765 => Ok(Self(priority)),
            _ => Err(InvalidValue::new(
                "rule priority",
                priority.to_string(),
                "rules of ours stand between those of the tables local (0) and main (32766)",
            )),
        }
    }
}

impl fmt::Display for RulePriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A range of addresses, its host bits zero: `10.1.2.3/16` is `10.1.0.0/16`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "IpNet")]
pub struct Prefix(IpNet);

impl Prefix {
    /// The range of `length` bits that `address` lies in.
    ///
    /// # Errors
    /// A length beyond the family's.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, InvalidValue> {
        IpNet::new(address, length).map(Self::from).map_err(|_| {
            let value = format!("{address}/{length}");
            InvalidValue::new("prefix", value, "the length is beyond the family's")
        })
    }

    /// All addresses of a family.
    pub fn all(family_of: IpAddr) -> Self {
        let net = IpNet::new(family_of, 0).expect("no length is shorter than 0");
        Self::from(net)
    }

    /// First address of the range.
    pub fn address(self) -> IpAddr {
        self.0.addr()
    }

    /// Last address of the range.
    pub fn last_address(self) -> IpAddr {
        self.0.broadcast()
    }

    /// Bits that all addresses of the range share.
    pub fn length(self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether it is one address.
    pub fn is_single(self) -> bool {
        self.0.prefix_len() == self.0.max_prefix_len()
    }

    /// Whether it is a range of IPv4 addresses.
    pub fn is_ipv4(self) -> bool {
        matches!(self.0, IpNet::V4(_))
    }

    /// Whether `address` lies in the range.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// The range as others have it.
    pub fn net(self) -> IpNet {
        self.0
    }

    /// Whether all of `other` lies in this range.
    pub fn covers(self, other: Self) -> bool {
        self.0.contains(&other.0)
    }

    /// This range and all that cover it, the narrowest first.
    pub fn and_wider(self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.0), IpNet::supernet).map(Self)
    }

    /// Whether an address lies in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }
}

impl From<IpNet> for Prefix {
    fn from(net: IpNet) -> Self {
        Self(net.trunc())
    }
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        Self(IpNet::from(address))
    }
}

impl FromStr for Prefix {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<IpNet>().map(Self::from).map_err(|_| {
            InvalidValue::new("prefix", text, "write an address and a length: 10.1.0.0/16")
        })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_would_refuse_or_change_are_refused() {
        for good in ["weir0", "wg", "a-b_c.d@e", "fifteen-bytes-x"] {
            assert!(good.parse::<InterfaceName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "weir%d",
            "a b",
            "a:b",
            "a\nb",
            "sixteen-bytes-xx",
            "ü",
        ] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_of_others_are_refused() {
        for table in [0, 253, 254, 255] {
            assert!(RouteTable::try_from(table).is_err(), "{table}");
        }
        assert!(RouteTable::try_from(51871).is_ok());
        for priority in [0, 32766, 32767, u32::MAX] {
            assert!(RulePriority::try_from(priority).is_err(), "{priority}");
        }
        assert!(RulePriority::try_from(100).is_ok());
        assert!(Port::try_from(0).is_err());
        assert!(FirewallMark::try_from(0).is_err());
        let mark = FirewallMark::try_from(0xe1f).expect("not 0");
        assert_eq!(mark.to_string(), "0xe1f");
    }

    #[test]
    fn a_prefix_has_no_host_bits() {
        let prefix: Prefix = "10.1.2.3/16".parse().expect("valid");
        assert_eq!(prefix.to_string(), "10.1.0.0/16");
        assert_eq!(
            prefix,
            Prefix::new([10, 1, 9, 9].into(), 16).expect("valid")
        );
        assert!(Prefix::new([10, 1, 9, 9].into(), 33).is_err());
        let one = Prefix::from(IpAddr::from([10, 1, 7, 7]));
        assert!(prefix.overlaps(one) && one.overlaps(prefix));
        assert!(!one.overlaps("10.2.0.0/16".parse().expect("valid")));
        assert!(!one.overlaps("::/0".parse().expect("valid")));
    }
}
