//! The method as the paper prints it, for comparison: Pseudocode 1 of section 3.4.
//!
//! Not for production. Tests use it as the oracle of [`crate::build`], which must give the same
//! tables, and benchmarks as the baseline. It differs from the pseudocode in one respect, to be a
//! fair baseline: an entry of `permutation` is computed when it is looked at, as the matrix of all
//! of them would hold N·M numbers and cost more than the population of the table.

use crate::builder::{Ranked, rank};
use crate::hash::Permutation;
use crate::{Backend, BuildError, TableSize};

/// A slot that nobody has taken; the pseudocode's −1.
const FREE: u32 = u32::MAX;

/// The table of `backends`, whose weights count only as zero or not.
pub fn build_unweighted(backends: &[Backend<'_>], size: TableSize) -> Result<Vec<u32>, BuildError> {
    let mut order = Vec::new();
    rank(backends, size, &mut order)?;
    if order.is_empty() {
        return Ok(Vec::new());
    }
    let mut table = Population::new(&order, size);
    loop {
        for i in 0..order.len() {
            table.turn(i);
            if table.filled == table.entry.len() {
                return Ok(table.entry);
            }
        }
    }
}

/// The table of `backends` with their weights: before each turn all backends are asked for the one
/// that is due first. The order of turns is that of the documentation of `schedule`.
pub fn build_weighted(backends: &[Backend<'_>], size: TableSize) -> Result<Vec<u32>, BuildError> {
    let mut order = Vec::new();
    rank(backends, size, &mut order)?;
    let mut table = Population::new(&order, size);
    let mut turns = vec![0_u64; order.len()];
    while table.filled < table.entry.len() {
        let due = |i: &usize| ((turns[*i] << 32) / u64::from(order[*i].weight), *i);
        let Some(i) = (0..order.len()).min_by_key(due) else {
            return Ok(Vec::new());
        };
        turns[i] += 1;
        table.turn(i);
    }
    Ok(table.entry)
}

/// The variables of the pseudocode, under its names.
struct Population {
    permutation: Vec<Permutation>,
    index: Vec<u32>,
    next: Vec<u64>,
    entry: Vec<u32>,
    filled: usize,
}

impl Population {
    fn new(order: &[Ranked], size: TableSize) -> Self {
        Self {
            permutation: order
                .iter()
                .map(|b| Permutation::new(b.name_hash, size))
                .collect(),
            index: order.iter().map(|backend| backend.index).collect(),
            next: vec![0; order.len()],
            entry: vec![FREE; size.get() as usize],
            filled: 0,
        }
    }

    fn turn(&mut self, i: usize) {
        let mut c = self.preferred(i);
        while self.entry[c] != FREE {
            self.next[i] += 1;
            c = self.preferred(i);
        }
        self.entry[c] = self.index[i];
        self.next[i] += 1;
        self.filled += 1;
    }

    /// `permutation[i][next[i]]`.
    fn preferred(&self, i: usize) -> usize {
        let Permutation { offset, skip } = self.permutation[i];
        let slot = u64::from(offset) + self.next[i] * u64::from(skip);
        (slot % self.entry.len() as u64) as usize
    }
}
