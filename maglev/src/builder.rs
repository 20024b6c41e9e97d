//! Filling a table.
//!
//! Two phases, chosen by how many slots are free:
//!
//! 1. *Walk* each backend's permutation to its next free slot, as the paper does, but by adding
//!    `skip` and subtracting the size where the paper multiplies and divides, and looking at two
//!    slots at a time, or four in small tables: whether a slot is taken cannot be predicted, and most
//!    of the time of the plain method goes into branches on it that were guessed wrong.
//! 2. *Invert* it. With `F` slots free a walk takes `M/F` steps, so the last √M slots cost half of
//!    all steps of the paper's `M·ln M`. The rank of slot `s` in a permutation is
//!    `(s − offset)·skip⁻¹ mod M`; a backend's next slot is the free one of the lowest rank, found
//!    with `F` multiplications.
//!
//! Both give the same slot, so where the switch lies changes the time and never the table.

use std::hint::select_unpredictable;

use thiserror::Error;

use crate::TableSize;
use crate::hash::{Permutation, name_hash};
use crate::schedule::Schedule;

/// One backend of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend<'a> {
    /// What identifies it on all nodes, such as its address and port. The table depends on it.
    pub name: &'a [u8],
    /// Its share, relative to the others'; 0 gets no slot.
    pub weight: u16,
}

/// Why a table could not be built. The slots are empty then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// Two backends have one name, so neither order nor permutation tells them apart.
    #[error("backends {first} and {second} have the same name")]
    DuplicateName {
        /// Index of the first of the two.
        first: usize,
        /// Index of the second.
        second: usize,
    },
    /// More backends than slots, so that some would get none.
    #[error("{backends} backends do not fit into {slots} slots")]
    TooManyBackends {
        /// Backends of weight above zero.
        backends: usize,
        /// Slots of the table.
        slots: u32,
    },
}

/// Fills `slots` with the table of `backends`: see [`Builder::build`], which keeps its memory and
/// is the better choice for many tables.
pub fn build(
    backends: &[Backend<'_>],
    size: TableSize,
    slots: &mut Vec<u32>,
) -> Result<(), BuildError> {
    Builder::default().build(backends, size, slots)
}

/// Builds tables one after another without allocating for each.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    order: Vec<Ranked>,
    walks: Vec<Walk>,
    schedule: Schedule,
    /// One byte for each slot, a quarter of the table, so that it stays in a faster cache.
    taken: Vec<bool>,
    free: Vec<u32>,
}

/// A backend's place in the order of turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranked {
    pub(crate) name_hash: u64,
    pub(crate) weight: u16,
    /// Index in the input.
    pub(crate) index: u32,
}

impl Builder {
    /// Fills `slots` with one index into `backends` for each slot of a table of `size`.
    ///
    /// Without a backend of weight above zero there is no table: `slots` is left empty.
    pub fn build(
        &mut self,
        backends: &[Backend<'_>],
        size: TableSize,
        slots: &mut Vec<u32>,
    ) -> Result<(), BuildError> {
        slots.clear();
        rank(backends, size, &mut self.order)?;
        match self.order[..] {
            [] => return Ok(()),
            [only] => slots.resize(size.get() as usize, only.index),
            _ => self.fill(size, slots),
        }
        Ok(())
    }

    fn fill(&mut self, size: TableSize, slots: &mut Vec<u32>) {
        slots.resize(size.get() as usize, 0);
        self.taken.clear();
        self.taken.resize(size.get() as usize, false);
        self.free.clear();
        self.walks.clear();
        self.walks
            .extend(self.order.iter().map(|backend| Walk::new(backend, size)));
        self.schedule
            .reset(self.order.iter().map(|backend| backend.weight));

        let inverted = inverted_slots(size);
        let in_cache = size.get() <= CACHED_SLOTS;
        let mut left = size.get();
        while let Some(round) = self.schedule.next_round() {
            for walk in &mut self.walks[round] {
                let slot = if left > inverted && in_cache {
                    walk.take_next_of_four(&mut self.taken, size)
                } else if left > inverted {
                    walk.take_next(&mut self.taken, size)
                } else {
                    if self.free.is_empty() {
                        let slots = self.taken.iter().zip(0..);
                        self.free
                            .extend(slots.filter(|(taken, _)| !**taken).map(|(_, slot)| slot));
                    }
                    walk.take_lowest_ranked(&mut self.free, size)
                };
                slots[slot as usize] = walk.index;
                left -= 1;
                if left == 0 {
                    return;
                }
            }
        }
    }
}

/// Puts the backends that have weight into the order of their turns: heaviest first, then by hash
/// of the name, and by the name itself where two names share a hash.
pub(crate) fn rank(
    backends: &[Backend<'_>],
    size: TableSize,
    order: &mut Vec<Ranked>,
) -> Result<(), BuildError> {
    order.clear();
    order.extend(
        backends
            .iter()
            .zip(0..)
            .filter(|(backend, _)| backend.weight > 0)
            .map(|(backend, index)| Ranked {
                name_hash: name_hash(backend.name),
                weight: backend.weight,
                index,
            }),
    );
    let name = |ranked: &Ranked| backends[ranked.index as usize].name;

    order.sort_unstable_by(|a, b| {
        a.name_hash
            .cmp(&b.name_hash)
            .then_with(|| (name(a), a.index).cmp(&(name(b), b.index)))
    });
    let twins = order
        .windows(2)
        .find(|pair| name(&pair[0]) == name(&pair[1]));
    let refusal = if let Some(pair) = twins {
        let [first, second] = [pair[0].index as usize, pair[1].index as usize];
        Err(BuildError::DuplicateName { first, second })
    } else if order.len() > size.get() as usize {
        Err(BuildError::TooManyBackends {
            backends: order.len(),
            slots: size.get(),
        })
    } else {
        // Stable, so that the order by name holds among equal weights.
        order.sort_by_key(|backend| std::cmp::Reverse(backend.weight));
        Ok(())
    };
    refusal.inspect_err(|_| order.clear())
}

/// Number of last slots that are found by inversion. Where a step of a walk and a multiplication
/// cost the same the best number is √M; half of that measures the same and spares inverses.
fn inverted_slots(size: TableSize) -> u32 {
    size.get().isqrt() / 2
}

/// Tables up to this size are walked four slots at a time: what is noted of their slots stays in the
/// fastest cache, where looking at a slot too many costs less than a wrong guess.
const CACHED_SLOTS: u32 = 16_384;

/// How far a backend has come in its permutation.
#[derive(Clone, Copy, Debug)]
struct Walk {
    /// The next slot of the permutation to look at; all before it are taken.
    next: u32,
    skip: u32,
    /// `skip⁻¹` modulo the size; 0 until it is needed.
    inverse: u32,
    /// `⌊inverse · 2³² / size⌋`.
    quotient: u32,
    index: u32,
}

impl Walk {
    fn new(backend: &Ranked, size: TableSize) -> Self {
        let Permutation { offset, skip } = Permutation::new(backend.name_hash, size);
        Self {
            next: offset,
            skip,
            inverse: 0,
            quotient: 0,
            index: backend.index,
        }
    }

    /// Takes the first free slot of the rest of the permutation. There must be one.
    fn take_next(&mut self, taken: &mut [bool], size: TableSize) -> u32 {
        let stride = reduce(self.skip + self.skip, size);
        let (mut slot, mut other) = (self.next, reduce(self.next + self.skip, size));
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
        self.next = reduce(slot + self.skip, size);
        slot
    }

    /// The same slot as [`Self::take_next`], found with fewer guesses and more slots looked at.
    fn take_next_of_four(&mut self, taken: &mut [bool], size: TableSize) -> u32 {
        let double = reduce(self.skip + self.skip, size);
        let triple = reduce(double + self.skip, size);
        let stride = reduce(double + double, size);
        let mut first = self.next;
        let slot = loop {
            let slots = [
                first,
                reduce(first + self.skip, size),
                reduce(first + double, size),
                reduce(first + triple, size),
            ];
            let [a, b, c, d] = slots.map(|slot| taken[slot as usize]);
            if !(a & b & c & d) {
                let early = select_unpredictable(a, slots[1], slots[0]);
                let late = select_unpredictable(c, slots[3], slots[2]);
                break select_unpredictable(a & b, late, early);
            }
            first = reduce(first + stride, size);
        };
        taken[slot as usize] = true;
        self.next = reduce(slot + self.skip, size);
        slot
    }

    /// The same slot as [`Self::take_next`], out of a list of those that are free.
    fn take_lowest_ranked(&mut self, free: &mut Vec<u32>, size: TableSize) -> u32 {
        if self.inverse == 0 {
            self.inverse = invert(self.skip, size);
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

/// `sum` modulo the size, for a sum below twice the size (and so below 2³²).
fn reduce(sum: u32, size: TableSize) -> u32 {
    // The difference wraps around to a large number if it is not the one in range.
    sum.min(sum.wrapping_sub(size.get()))
}

/// The inverse of `value`, from 1 to the size − 1, modulo the size, by Euclid's extended algorithm.
fn invert(value: u32, size: TableSize) -> u32 {
    let (mut remainder, mut next_remainder) = (size.get(), value);
    let (mut factor, mut next_factor) = (0_i64, 1_i64);
    while next_remainder != 0 {
        let quotient = remainder / next_remainder;
        (remainder, next_remainder) = (next_remainder, remainder - quotient * next_remainder);
        (factor, next_factor) = (next_factor, factor - i64::from(quotient) * next_factor);
    }
    factor.rem_euclid(i64::from(size.get())) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(slots: u32) -> TableSize {
        TableSize::from_prime(slots).unwrap()
    }

    fn table(backends: &[(&str, u16)], slots: u32) -> Result<Vec<u32>, BuildError> {
        let backends: Vec<_> = backends
            .iter()
            .map(|(name, weight)| Backend {
                name: name.as_bytes(),
                weight: *weight,
            })
            .collect();
        let mut table = vec![99];
        build(&backends, size(slots), &mut table).map(|()| table)
    }

    #[test]
    fn golden_tables_do_not_change() {
        let equal = table(
            &[("10.0.1.7:80", 1), ("10.0.2.4:80", 1), ("10.0.2.5:80", 1)],
            13,
        );
        assert_eq!(equal.unwrap(), [1, 2, 2, 0, 1, 0, 2, 1, 1, 1, 0, 0, 2]);
        let weighted = table(&[("a", 5), ("b", 1), ("c", 2)], 17);
        assert_eq!(
            weighted.unwrap(),
            [0, 2, 0, 0, 0, 1, 0, 2, 0, 0, 0, 1, 2, 0, 2, 0, 0]
        );

        let names: Vec<_> = (0..50).map(|i| format!("10.1.0.{i}:8080")).collect();
        let many: Vec<_> = names
            .iter()
            .zip(1..)
            .map(|(n, i)| (n.as_str(), 1 + i % 4))
            .collect();
        let digest = table(&many, 16_381)
            .unwrap()
            .iter()
            .fold(0_u64, |digest, &backend| {
                digest.wrapping_mul(0x0000_0100_0000_01b3) ^ u64::from(backend)
            });
        assert_eq!(digest, 7_792_997_883_902_951_513);
    }

    #[test]
    fn backends_without_weight_get_nothing() {
        assert_eq!(table(&[], 7).unwrap(), []);
        assert_eq!(table(&[("a", 0), ("b", 0)], 7).unwrap(), []);
        assert_eq!(table(&[("a", 0), ("b", 3)], 7).unwrap(), [1; 7]);
        let mixed = table(&[("a", 1), ("b", 0), ("c", 1)], 251).unwrap();
        assert!(!mixed.contains(&1));
    }

    #[test]
    fn as_many_backends_as_slots_get_one_each() {
        let mut full = table(&[("a", 9), ("b", 1), ("c", 2), ("d", 1), ("e", 65_535)], 5).unwrap();
        full.sort_unstable();
        assert_eq!(full, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn bad_input_is_refused() {
        let duplicate = table(&[("b", 1), ("a", 1), ("c", 1), ("a", 2)], 7);
        assert_eq!(
            duplicate,
            Err(BuildError::DuplicateName {
                first: 1,
                second: 3
            })
        );
        let too_many = table(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)], 3);
        assert_eq!(
            too_many,
            Err(BuildError::TooManyBackends {
                backends: 4,
                slots: 3
            })
        );
        // One without weight takes no part, whatever its name.
        assert!(table(&[("a", 1), ("a", 0)], 3).is_ok());
    }

    #[test]
    fn a_failed_build_leaves_no_slots_and_a_usable_builder() {
        let mut builder = Builder::default();
        let mut slots = vec![7];
        let twin = Backend {
            name: b"a",
            weight: 1,
        };
        assert!(builder.build(&[twin, twin], size(3), &mut slots).is_err());
        assert_eq!(slots, []);
        builder.build(&[twin], size(3), &mut slots).unwrap();
        assert_eq!(slots, [0, 0, 0]);
    }

    #[test]
    fn inverses_multiply_to_one() {
        for prime in [3, 5, 251, 65_537, 8_388_593, (1 << 31) - 1] {
            for value in [1, 2, prime / 2, prime / 3 + 1, prime - 2, prime - 1] {
                let product = u64::from(invert(value, size(prime))) * u64::from(value);
                assert_eq!(product % u64::from(prime), 1, "{value} modulo {prime}");
            }
        }
    }
}
