//! Table sizes: primes, so that every skip walks through all slots.

use thiserror::Error;

/// The sizes that [`table_size`] chooses from: the largest prime below each power of two from 2⁸ to
/// 2²³.
///
/// Doubling keeps changes of size rare as backends come and go (a change of size moves nearly every
/// slot), and a table fits the power of two that an allocator would round it up to.
pub const LADDER: [TableSize; 16] = [
    TableSize(251),
    TableSize(509),
    TableSize(1_021),
    TableSize(2_039),
    TableSize(4_093),
    TableSize(8_191),
    TableSize(16_381),
    TableSize(32_749),
    TableSize(65_521),
    TableSize(131_071),
    TableSize(262_139),
    TableSize(524_287),
    TableSize(1_048_573),
    TableSize(2_097_143),
    TableSize(4_194_301),
    TableSize(8_388_593),
];

/// Number of slots of a table: a prime from 3 to 2³¹ − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableSize(u32);

/// A number of slots that is no prime from 3 to 2³¹ − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a Maglev table needs a prime number of slots from 3 to 2147483647, not {slots}")]
pub struct NotPrime {
    /// The number asked for.
    pub slots: u32,
}

impl TableSize {
    /// A size that is not on the ladder, for measurements and for tables laid out by others.
    pub fn from_prime(slots: u32) -> Result<Self, NotPrime> {
        let mut divisors = (2..).take_while(|divisor| divisor * divisor <= u64::from(slots));
        let prime = divisors.all(|divisor| u64::from(slots) % divisor != 0);
        if prime && (3..1 << 31).contains(&slots) {
            Ok(Self(slots))
        } else {
            Err(NotPrime { slots })
        }
    }

    /// Number of slots.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The smallest size of the [`LADDER`] with at least `load_factor` slots for each backend, and its
/// top when none is that large.
///
/// Shares then differ by at most one part in `load_factor`: the paper takes 100, so 1 %. No backend
/// at all gets the smallest size.
pub fn table_size(backend_count: usize, load_factor: usize) -> TableSize {
    let wanted = backend_count.saturating_mul(load_factor);
    let fits = |size: &&TableSize| size.0 as usize >= wanted;
    *LADDER
        .iter()
        .find(fits)
        .unwrap_or(&LADDER[LADDER.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ladder_is_the_largest_primes_below_powers_of_two() {
        for (size, power) in LADDER.iter().zip(8..) {
            assert_eq!(TableSize::from_prime(size.0), Ok(*size));
            for above in size.0 + 1..1 << power {
                assert!(
                    TableSize::from_prime(above).is_err(),
                    "{above} is prime too"
                );
            }
        }
    }

    #[test]
    fn size_follows_the_number_of_backends() {
        let cases = [
            (0, 100, 251),
            (1, 100, 251),
            (2, 100, 251),
            (3, 100, 509),
            (163, 100, 16_381),
            (164, 100, 32_749),
            (1_000, 100, 131_071),
            (1_000, 1, 1_021),
            (83_885, 100, 8_388_593),
            (83_886, 100, 8_388_593),
            (usize::MAX, usize::MAX, 8_388_593),
            (5, 0, 251),
        ];
        for (backends, load_factor, slots) in cases {
            let got = table_size(backends, load_factor).get();
            assert_eq!(got, slots, "{backends} backends, {load_factor} slots each");
        }
    }

    #[test]
    fn sizes_that_are_no_primes_are_refused() {
        for slots in [0, 1, 2, 4, 65_536, u32::MAX, 4_294_967_291] {
            assert_eq!(TableSize::from_prime(slots), Err(NotPrime { slots }));
        }
        assert!(TableSize::from_prime((1 << 31) - 1).is_ok());
    }
}
