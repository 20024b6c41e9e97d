//! Amounts of memory, such as `4MiB`.

use super::{Scalar, leading_number};

/// Units of size, largest first, with their bytes.
const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("", 1),
];

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// So many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many MiB.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Scalar for ByteSize {
    fn form() -> String {
        "a size such as 512KiB, 4MiB or a number of bytes".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = leading_number(text)?;
        let unit = unit.trim();
        let (_, size) = SIZE_UNITS
            .into_iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| format!("has the unknown unit {unit:?}"))?;
        number
            .checked_mul(size)
            .map(Self)
            .ok_or_else(|| "is too large".into())
    }

    fn text(&self) -> String {
        let (unit, size) = SIZE_UNITS
            .into_iter()
            .find(|(_, size)| self.0 != 0 && self.0.is_multiple_of(*size))
            .unwrap_or(("", 1));
        format!("{}{unit}", self.0 / size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        let cases = [
            ("4MiB", Ok(4 << 20)),
            ("4 MiB", Ok(4 << 20)),
            ("65536", Ok(65_536)),
            ("1GiB", Ok(1 << 30)),
            ("0", Ok(0)),
            ("4MB", Err("has the unknown unit \"MB\"")),
            ("MiB", Err("does not start with a number")),
            ("99999999999GiB", Err("is too large")),
        ];
        for (text, expected) in cases {
            let read = ByteSize::parse(text);
            assert_eq!(
                read.map(ByteSize::bytes),
                expected.map_err(str::to_owned),
                "{text:?}"
            );
        }
        assert_eq!(ByteSize::from_bytes(65_536).text(), "64KiB");
        assert_eq!(ByteSize::from_bytes(1000).text(), "1000");
    }
}
