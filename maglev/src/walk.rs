//! A backend's way through its permutation, to the next slot that is free.
//!
//! Three ways to find the same slot; which is the fastest depends on how many slots are free and on
//! whether what is noted of them stays in the fastest cache. They look at two slots at a time, or at
//! four: whether a slot is taken cannot be predicted, and most of the time of the plain method goes
//! into branches on it that were guessed wrong.

use std::hint::select_unpredictable;

use crate::TableSize;
use crate::builder::Ranked;
use crate::hash::Permutation;

/// Most slots of a small table: what is noted of them stays in the fastest cache, where looking at a
/// slot too many costs less than a wrong guess. A power of two, so that masking bounds an index.
pub(crate) const SMALL_SLOTS: usize = 16_384;

/// Which slots of a small table are taken. All are noted twice, one table behind the other, so that a
/// sum of two slots is looked up as it is, without taking it modulo the size.
pub(crate) type SmallTaken = [bool; 2 * SMALL_SLOTS];

/// Number of last slots that are found by inversion. Where a step of a walk and a multiplication
/// cost the same the best number is √M; half of that measures the same and spares inverses.
pub(crate) fn inverted_slots(size: TableSize) -> u32 {
    size.get().isqrt() / 2
}

/// How far a backend has come in its permutation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    /// Index of the backend in the input.
    pub(crate) index: u32,
    /// The next slot of the permutation to look at; all before it are taken.
    next: u32,
    /// Multiples of the permutation's `skip` modulo the size, from once to four times.
    skips: [u32; 4],
    /// `skip⁻¹` modulo the size; 0 until it is needed.
    inverse: u32,
    /// `⌊inverse · 2³² / size⌋`.
    quotient: u32,
}

impl Walk {
    pub(crate) fn new(backend: &Ranked, size: TableSize) -> Self {
        let Permutation { offset, skip } = Permutation::new(backend.name_hash, size);
        let double = reduce(skip + skip, size);
        let triple = reduce(double + skip, size);
        Self {
            index: backend.index,
            next: offset,
            skips: [skip, double, triple, reduce(double + double, size)],
            inverse: 0,
            quotient: 0,
        }
    }

    /// Takes the first free slot of the rest of the permutation. There must be one.
    #[inline(always)]
    pub(crate) fn take_next(&mut self, taken: &mut [bool], size: TableSize) -> u32 {
        let [skip, stride, ..] = self.skips;
        let (mut slot, mut other) = (self.next, reduce(self.next + skip, size));
        loop {
            let (slot_taken, other_taken) = (taken[slot as usize], taken[other as usize]);
            if !(slot_taken & other_taken) {
                slot = select_unpredictable(slot_taken, other, slot);
                break;
            }
            slot = reduce(slot + stride, size);
            other = reduce(other + stride, size);
        }
        taken[slot as usize] = true;
        self.next = reduce(slot + skip, size);
        slot
    }

    /// The same slot as [`Self::take_next`], in a small table.
    #[inline(always)]
    pub(crate) fn take_next_of_two(&mut self, taken: &mut SmallTaken, size: TableSize) -> u32 {
        let [skip, stride, ..] = self.skips;
        let mut first = self.next;
        let step = loop {
            let [a, b] = [first, first + skip].map(|slot| taken[small(slot)]);
            if !(a & b) {
                break select_unpredictable(a, skip, 0);
            }
            first = reduce(first + stride, size);
        };
        self.take(reduce(first + step, size), taken, size)
    }

    /// Likewise with fewer guesses and more slots looked at, for tables that are half full.
    #[inline(always)]
    pub(crate) fn take_next_of_four(&mut self, taken: &mut SmallTaken, size: TableSize) -> u32 {
        let [skip, double, triple, stride] = self.skips;
        let mut first = self.next;
        let step = loop {
            let slots = [first, first + skip, first + double, first + triple];
            let [a, b, c, d] = slots.map(|slot| taken[small(slot)]);
            if !(a & b & c & d) {
                let early = select_unpredictable(a, skip, 0);
                let late = select_unpredictable(c, triple, double);
                break select_unpredictable(a & b, late, early);
            }
            first = reduce(first + stride, size);
        };
        self.take(reduce(first + step, size), taken, size)
    }

    /// Takes a slot of a small table, and goes on behind it.
    #[inline(always)]
    fn take(&mut self, slot: u32, taken: &mut SmallTaken, size: TableSize) -> u32 {
        taken[small(slot)] = true;
        taken[small(slot + size.get())] = true;
        self.next = reduce(slot + self.skips[0], size);
        slot
    }

    /// The same slot as [`Self::take_next`], out of a list of those that are free.
    pub(crate) fn take_lowest_ranked(&mut self, free: &mut Vec<u32>, size: TableSize) -> u32 {
        if self.inverse == 0 {
            self.inverse = invert(self.skips[0], size);
            self.quotient = ((u64::from(self.inverse) << 32) / u64::from(size.get())) as u32;
        }
        let (mut lowest, mut position) = (u32::MAX, 0);
        for (at, &slot) in free.iter().enumerate() {
            let rank = self.rank(slot, size);
            let lower = rank < lowest;
            lowest = select_unpredictable(lower, rank, lowest);
            position = select_unpredictable(lower, at, position);
        }
        free.swap_remove(position)
    }

    /// How many steps of the permutation lie between `next` and `slot`. Needs the inverse.
    fn rank(&self, slot: u32, size: TableSize) -> u32 {
        let difference = slot.wrapping_sub(self.next);
        let distance = difference.min(difference.wrapping_add(size.get()));
        // Shoup's multiplication by a constant: the quotient is too small by one at most.
        let whole = ((u64::from(self.quotient) * u64::from(distance)) >> 32) as u32;
        let product = self.inverse.wrapping_mul(distance);
        reduce(product.wrapping_sub(whole.wrapping_mul(size.get())), size)
    }
}

/// The index of a slot of a small table, or of a sum of two; the mask changes none of them.
#[inline(always)]
fn small(slot: u32) -> usize {
    slot as usize & (2 * SMALL_SLOTS - 1)
}

/// `sum` modulo the size, for a sum below twice the size (and so below 2³²).
#[inline(always)]
fn reduce(sum: u32, size: TableSize) -> u32 {
    // The difference wraps around to a large number if it is not the one in range.
    sum.min(sum.wrapping_sub(size.get()))
}

/// The inverse of `value`, from 1 to the size − 1, modulo the size, by Euclid's extended algorithm.
fn invert(value: u32, size: TableSize) -> u32 {
    let (mut remainder, mut next_remainder) = (size.get(), value);
    // No factor is larger than the size, which is below 2³¹.
    let (mut factor, mut next_factor) = (0_i32, 1_i32);
    while next_remainder != 0 {
        let quotient = remainder / next_remainder;
        (remainder, next_remainder) = (next_remainder, remainder - quotient * next_remainder);
        (factor, next_factor) = (next_factor, factor - quotient.cast_signed() * next_factor);
    }
    factor.rem_euclid(size.get().cast_signed()).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverses_multiply_to_one() {
        for prime in [3, 5, 251, 65_537, 8_388_593, (1 << 31) - 1] {
            for value in [1, 2, prime / 2, prime / 3 + 1, prime - 2, prime - 1] {
                let size = TableSize::from_prime(prime).unwrap();
                let product = u64::from(invert(value, size)) * u64::from(value);
                assert_eq!(product % u64::from(prime), 1, "{value} modulo {prime}");
            }
        }
    }
}
