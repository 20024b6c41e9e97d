//! Filling a table.
//!
//! Two phases, chosen by how many slots are free:
//!
//! 1. *Walk* each backend's permutation to its next free slot, as the paper does, but by adding
//!    `skip` and subtracting the size where the paper multiplies and divides, and looking at more
//!    than one slot at a time (see `walk`).
//! 2. *Invert* it. With `F` slots free a walk takes `M/F` steps, so the last √M slots cost half of
//!    all steps of the paper's `M·ln M`. The rank of slot `s` in a permutation is
//!    `(s − offset)·skip⁻¹ mod M`; a backend's next slot is the free one of the lowest rank, found
//!    with `F` multiplications.
//!
//! Both give the same slot, so where the switch lies changes the time and never the table.

use std::ops::Range;

use thiserror::Error;

use crate::TableSize;
use crate::hash::name_hash;
use crate::schedule::Schedule;
use crate::walk::{SMALL_SLOTS, Walk, inverted_slots};

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
    /// One byte for each slot, a quarter of the table, so that it stays in a faster cache; twice for
    /// small tables (see `SmallTaken`).
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
        let slot_count = size.get() as usize;
        let is_small = slot_count <= SMALL_SLOTS;
        slots.resize(slot_count, 0);
        self.walks.clear();
        self.walks
            .extend(self.order.iter().map(|backend| Walk::new(backend, size)));
        self.schedule
            .reset(self.order.iter().map(|backend| backend.weight));
        self.forget_taken(if is_small { 2 * slot_count } else { slot_count });

        let mut turns = Turns {
            walks: &mut self.walks,
            schedule: &mut self.schedule,
            round: 0..0,
            slots,
            left: size.get(),
        };
        let inverted = inverted_slots(size);
        if is_small {
            let (taken, _) = self.taken.split_first_chunk_mut().expect("as resized");
            turns.take_until(size.get() / 2, |walk| walk.take_next_of_two(taken, size));
            turns.take_until(inverted, |walk| walk.take_next_of_four(taken, size));
        } else {
            turns.take_until(inverted, |walk| walk.take_next(&mut self.taken, size));
        }
        list_free(&self.taken[..slot_count], &mut self.free);
        turns.take_until(0, |walk| walk.take_lowest_ranked(&mut self.free, size));
    }

    /// Has the first `len` entries say that nothing is taken.
    fn forget_taken(&mut self, len: usize) {
        let enough = len.max(2 * SMALL_SLOTS);
        if self.taken.len() < enough {
            self.taken.resize(enough, false);
        }
        self.taken[..len].fill(false);
    }
}

/// Lists the few slots that are not taken.
fn list_free(taken: &[bool], free: &mut Vec<u32>) {
    const CHUNK: usize = 16;
    free.clear();
    for (chunk, first) in taken.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
        if chunk != [true; CHUNK] {
            let slots = chunk.iter().zip(first..);
            free.extend(slots.filter(|(taken, _)| !**taken).map(|(_, slot)| slot));
        }
    }
}

/// The turns of a table, taken in order.
struct Turns<'a> {
    walks: &'a mut [Walk],
    schedule: &'a mut Schedule,
    /// What is left of the round that is under way, as indices of walks.
    round: Range<usize>,
    slots: &'a mut [u32],
    /// Slots that are free.
    left: u32,
}

impl Turns<'_> {
    /// Gives slots away, each by a call of `take`, until `left` of them are free.
    #[inline(always)]
    fn take_until(&mut self, left: u32, mut take: impl FnMut(&mut Walk) -> u32) {
        while self.left > left {
            let started = !self.round.is_empty();
            if !started {
                match self.schedule.next_round() {
                    Some(round) => self.round = round,
                    None => return,
                }
            }
            let wanted = self.left - left;
            let turns = wanted.min(self.round.len() as u32);
            // A round that is the only one needs no asking for the next.
            let times = if !started && self.schedule.has_one_round() {
                wanted / turns
            } else {
                1
            };
            let now = self.round.start..self.round.start + turns as usize;
            self.round.start = now.end;
            self.left -= times * turns;
            for _ in 0..times {
                for walk in &mut self.walks[now.clone()] {
                    let slot = take(walk);
                    self.slots[slot as usize] = walk.index;
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
}
