//! From a backend's name to its permutation of the slots.
//!
//! Our own hash, so that no dependency or release of the standard library can change a table:
//! 64-bit FNV-1a over the bytes of the name, then the finalizer of `splitmix64` (Steele, Lea and
//! Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014) for `offset` and, with
//! another increment, for `skip`. FNV-1a alone barely moves its high bits for the last byte, and
//! backends' names differ in the last bytes only.

use crate::TableSize;

const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Identity of a backend within a table.
pub(crate) fn name_hash(name: &[u8]) -> u64 {
    name.iter().fold(FNV_OFFSET_BASIS, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
    })
}

/// A backend's order of preference over all slots: `offset`, `offset + skip`, `offset + 2·skip`, …
/// modulo the size. As the size is prime and `skip` is not zero, each slot occurs exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permutation {
    /// First slot, below the size.
    pub(crate) offset: u32,
    /// Step to the next one, from 1 to the size − 1.
    pub(crate) skip: u32,
}

impl Permutation {
    /// The permutation of the backend with this [`name_hash`].
    pub(crate) fn new(name_hash: u64, size: TableSize) -> Self {
        Self {
            offset: scale(mix(name_hash.wrapping_add(GOLDEN_GAMMA)), size.get()),
            skip: 1 + scale(
                mix(name_hash.wrapping_add(GOLDEN_GAMMA << 1)),
                size.get() - 1,
            ),
        }
    }
}

/// A bijection of 64 bits in which every bit of the input moves every bit of the output.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Maps 64 uniform bits to `0..limit`; like a modulo, without the division.
fn scale(bits: u64, limit: u32) -> u32 {
    (((bits >> 32) * u64::from(limit)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_hash_is_fnv_1a() {
        assert_eq!(name_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(name_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(name_hash(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn mix_is_the_finalizer_of_splitmix64() {
        assert_eq!(mix(GOLDEN_GAMMA), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn permutations_stay_in_range_and_differ_in_both_parts() {
        let size = TableSize::from_prime(251).unwrap();
        let all: Vec<_> = (0..=u8::MAX)
            .map(|byte| Permutation::new(name_hash(&[byte]), size))
            .collect();
        assert!(
            all.iter()
                .all(|p| p.offset < 251 && (1..251).contains(&p.skip))
        );
        let distinct = |part: fn(&Permutation) -> u32| {
            all.iter()
                .map(part)
                .collect::<std::collections::BTreeSet<_>>()
                .len()
        };
        // 256 draws out of 251 values leave about 160 of them distinct.
        assert!(distinct(|p| p.offset) > 130);
        assert!(distinct(|p| p.skip) > 130);
    }
}
