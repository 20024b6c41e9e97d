//! Whose turn it is: weights as frequencies of turns.
//!
//! The paper gives backends weights "by altering the relative frequency of the backends' turns".
//! Here turn number `t` (from 0) of a backend of weight `w` is due at the time `t / w`, and turns
//! are taken in the order of those times. Equal weights give the paper's rounds. At any moment a
//! backend that has had `n` turns of a time `T` satisfies `n = ⌈T·w⌉`, so for weights that sum up
//! to `W`, of `M` slots each of `N` backends gets
//!
//! - at most one slot more than its exact share `M·w/W`,
//! - at least `(1 − N/M)` of it, 99 % for `M = 100 N`, and always at least one slot.
//!
//! Backends of one weight are due together, so turns are scheduled by weight class: the queue has
//! as many entries as there are different weights. In most tables that is one, and no queue at all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// Fraction bits of a due time: a turn count below 2³¹ shifted by them still fits 64 bits.
const FRACTION_BITS: u32 = 32;

/// All backends of one weight, as a range of the sorted backends.
#[derive(Clone, Debug)]
struct Class {
    members: Range<usize>,
    weight: u16,
    turns: u64,
}

/// The queue of rounds. A round is one turn of every member of a class.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schedule {
    classes: Vec<Class>,
    due: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Schedule {
    /// Starts over for backends that are sorted by weight, heaviest first; no weight is zero.
    pub(crate) fn reset(&mut self, weights: impl Iterator<Item = u16>) {
        self.classes.clear();
        self.due.clear();
        for (position, weight) in weights.enumerate() {
            match self.classes.last_mut() {
                Some(class) if class.weight == weight => class.members.end = position + 1,
                _ => self.classes.push(Class {
                    members: position..position + 1,
                    weight,
                    turns: 0,
                }),
            }
        }
        self.due
            .extend((0..self.classes.len()).map(|class| Reverse((0, class))));
    }

    /// True if every round is that of all backends.
    pub(crate) fn has_one_round(&self) -> bool {
        self.classes.len() == 1
    }

    /// The members whose turn it is now; the heavier class first among those due together.
    /// `None` only if there are no backends.
    pub(crate) fn next_round(&mut self) -> Option<Range<usize>> {
        if let [only] = &self.classes[..] {
            return Some(only.members.clone());
        }
        let mut next = self.due.peek_mut()?;
        let class = &mut self.classes[next.0.1];
        class.turns += 1;
        next.0.0 = (class.turns << FRACTION_BITS) / u64::from(class.weight);
        Some(class.members.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members of the first `count` rounds, as `first member × number of members`.
    fn rounds(weights: &[u16], count: usize) -> Vec<(usize, usize)> {
        let mut schedule = Schedule::default();
        schedule.reset(weights.iter().copied());
        (0..count)
            .map_while(|_| schedule.next_round())
            .map(|m| (m.start, m.len()))
            .collect()
    }

    #[test]
    fn equal_weights_take_turns_all_together() {
        assert_eq!(rounds(&[7, 7, 7], 2), [(0, 3), (0, 3)]);
    }

    #[test]
    fn a_double_weight_has_two_turns_to_one() {
        assert_eq!(
            rounds(&[2, 1, 1], 5),
            [(0, 1), (1, 2), (0, 1), (0, 1), (1, 2)]
        );
    }

    #[test]
    fn weights_scale_freely() {
        assert_eq!(rounds(&[3, 2], 50), rounds(&[30_000, 20_000], 50));
    }

    #[test]
    fn no_backends_have_no_turns() {
        assert_eq!(rounds(&[], 1), []);
    }
}
