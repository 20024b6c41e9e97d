//! Secondary indexes: from what a packet or an object refers to, to the objects meant.
//!
//! Each index maps a key to all that claim it, in an order that says who wins: clusters do hold two
//! objects with one address or port, at least for a while, and the loser must come forward again
//! when the winner goes.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// Claims where the first name in their own order wins, whatever came first in time, so that all
/// nodes agree.
#[derive(Clone, Debug)]
pub(super) struct OrderedIndex<K, N>(HashMap<K, BTreeSet<N>>);

impl<K, N> Default for OrderedIndex<K, N> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq, N: Ord + Clone> OrderedIndex<K, N> {
    pub(super) fn insert(&mut self, key: K, name: &N) {
        self.0.entry(key).or_default().insert(name.clone());
    }

    pub(super) fn remove(&mut self, key: &K, name: &N) {
        if let Some(claims) = self.0.get_mut(key) {
            claims.remove(name);
            if claims.is_empty() {
                self.0.remove(key);
            }
        }
    }

    /// All that claim the key, the winner first.
    pub(super) fn get(&self, key: &K) -> impl Iterator<Item = &N> {
        self.0.get(key).into_iter().flatten()
    }
}
