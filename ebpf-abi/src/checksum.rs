//! Internet checksum arithmetic (RFC 1071, RFC 1624).
//!
//! Sums are one's-complement sums of 16-bit words *as they lie in memory*; byte order cancels out,
//! so nothing here swaps bytes.

use crate::{Address, Be16};

/// Folds a sum into 16 bits, adding the carries back.
#[inline(always)]
pub fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// What changing words that sum to `old` into words that sum to `new` adds to a sum.
///
/// One's-complement subtraction: the complement of `old` added to `new`.
#[inline(always)]
pub fn delta(old: u32, new: u32) -> u16 {
    fold(u32::from(!fold(old)) + u32::from(fold(new)))
}

/// What replacing two addresses adds to the sum over a header that holds both.
#[inline(always)]
pub fn address_delta<A: Address>(old: [A; 2], new: [A; 2]) -> u16 {
    delta(
        old[0].checksum_words() + old[1].checksum_words(),
        new[0].checksum_words() + new[1].checksum_words(),
    )
}

/// What replacing two ports adds to the sum over a transport header.
#[inline(always)]
pub fn port_delta(old: [Be16; 2], new: [Be16; 2]) -> u16 {
    delta(
        u32::from(old[0].0) + u32::from(old[1].0),
        u32::from(new[0].0) + u32::from(new[1].0),
    )
}

/// Updates a checksum field for a change of the covered words (RFC 1624, equation 3).
#[inline(always)]
pub fn update(checksum: u16, delta: u16) -> u16 {
    !fold(u32::from(!checksum) + u32::from(delta))
}

/// Likewise for UDP, where a computed zero is sent as all ones because zero means "no checksum"
/// (RFC 768).
#[inline(always)]
pub fn update_udp(checksum: u16, delta: u16) -> u16 {
    match update(checksum, delta) {
        0 => 0xffff,
        updated => updated,
    }
}

/// Full checksum over `bytes` and a starting sum. For tests and userspace; programs only update.
pub fn compute(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        let word = u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        sum = u32::from(fold(sum)) + u32::from(word);
    }
    !fold(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Addr4, Addr6};

    #[test]
    fn matches_the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(
            compute(&bytes, 0).to_ne_bytes(),
            (!0xddf2_u16).to_be_bytes()
        );
    }

    proptest! {
        #[test]
        fn an_update_equals_a_full_recomputation(
            old in any::<[u32; 4]>(), new in any::<[u32; 2]>(), rest in any::<[u8; 11]>(),
        ) {
            let before: Vec<u8> = bytemuck::cast::<_, [u8; 16]>(old).into_iter().chain(rest).collect();
            let mut after = before.clone();
            after[..4].copy_from_slice(&new[0].to_ne_bytes());
            after[4..8].copy_from_slice(&new[1].to_ne_bytes());
            let delta = address_delta(
                [Addr4(old[0]), Addr4(old[1])],
                [Addr4(new[0]), Addr4(new[1])],
            );
            let updated = update(compute(&before, 0), delta);
            let full = compute(&after, 0);
            // 0 and 0xffff are the same number in one's complement.
            prop_assert!(updated == full || (updated ^ full == 0xffff && (full == 0 || updated == 0)));
        }

        #[test]
        fn wide_addresses_sum_like_their_bytes(old in any::<[u32; 4]>(), new in any::<[u32; 4]>()) {
            let delta_words = address_delta([Addr6(old), Addr6([0; 4])], [Addr6(new), Addr6([0; 4])]);
            let sum = |words: [u32; 4]| u32::from(!compute(bytemuck::bytes_of(&words), 0));
            let expected = delta(sum(old), sum(new));
            prop_assert_eq!(fold(u32::from(delta_words)) % 0xffff, expected % 0xffff);
        }
    }

    #[test]
    fn a_udp_checksum_is_never_written_as_zero() {
        for checksum in 1..=u16::MAX {
            assert_ne!(update_udp(checksum, !checksum), 0);
        }
    }
}
