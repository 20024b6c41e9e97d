//! The ring that holds the newest entries, addressed by their position in the stream.
//!
//! Pure and synchronous. Positions count from zero since the start and are never reused, so a
//! reader that comes back late learns exactly how many entries it missed.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

/// The newest entries of a stream, in arrival order.
#[derive(Debug)]
pub struct Ring<T> {
    entries: VecDeque<Arc<T>>,
    capacity: NonZeroUsize,
    /// Position of the next entry.
    next: u64,
}

/// What reading from a position gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Entries between the position and the first one read that had been overwritten already.
    pub overtaken: u64,
    /// Position to go on from.
    pub next: u64,
}

impl<T> Ring<T> {
    /// An empty ring.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            entries: VecDeque::with_capacity(capacity.get()),
            capacity,
            next: 0,
        }
    }

    /// Appends an entry and returns the one that had to go for it.
    pub fn push(&mut self, entry: Arc<T>) -> Option<Arc<T>> {
        let overwritten = if self.entries.len() == self.capacity.get() {
            self.entries.pop_front()
        } else {
            None
        };
        self.entries.push_back(entry);
        self.next += 1;
        overwritten
    }

    /// Positions that can be read.
    pub fn positions(&self) -> Range<u64> {
        self.next - self.entries.len() as u64..self.next
    }

    /// Entries it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity.get()
    }

    /// Appends up to `limit` entries from a position on, and before `end`, to `out`.
    pub fn read(&self, position: u64, limit: usize, end: u64, out: &mut Vec<Arc<T>>) -> Read {
        let held = self.positions();
        let end = held.end.min(end).max(position);
        let first = held.start.clamp(position, end);
        let last = end.min(first + limit as u64);
        out.extend(self.slice(first..last).cloned());
        Read {
            overtaken: first - position,
            next: last,
        }
    }

    /// Appends the held entries of a range of positions to `out`, and returns where they start.
    pub fn read_range(&self, range: Range<u64>, out: &mut Vec<Arc<T>>) -> u64 {
        let held = self.positions();
        let first = range.start.clamp(held.start, held.end);
        out.extend(self.slice(first..range.end.clamp(first, held.end)).cloned());
        first
    }

    /// A range that is not empty must be held.
    fn slice(&self, range: Range<u64>) -> impl Iterator<Item = &Arc<T>> {
        let oldest = self.positions().start;
        let range = if range.is_empty() {
            oldest..oldest
        } else {
            range
        };
        self.entries
            .range((range.start - oldest) as usize..(range.end - oldest) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(capacity: usize, pushed: u64) -> Ring<u64> {
        let mut ring = Ring::new(NonZeroUsize::new(capacity).unwrap());
        (0..pushed).for_each(|entry| drop(ring.push(Arc::new(entry))));
        ring
    }

    fn read(ring: &Ring<u64>, position: u64, limit: usize, end: u64) -> (Vec<u64>, u64, u64) {
        let mut out = Vec::new();
        let read = ring.read(position, limit, end, &mut out);
        (
            out.iter().map(|entry| **entry).collect(),
            read.overtaken,
            read.next,
        )
    }

    #[test]
    fn the_newest_entries_are_kept_in_order() {
        let cases = [(0, 0..0), (3, 0..3), (4, 0..4), (5, 1..5), (100, 96..100)];
        for (pushed, held) in cases {
            let ring = ring(4, pushed);
            assert_eq!(ring.positions(), held, "{pushed}");
            assert_eq!(read(&ring, 0, 10, u64::MAX).0, held.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_reader_learns_how_many_entries_it_missed() {
        let ring = ring(4, 10);
        let cases = [
            ((2, 10, u64::MAX), (vec![6, 7, 8, 9], 4, 10)),
            ((6, 2, u64::MAX), (vec![6, 7], 0, 8)),
            ((10, 2, u64::MAX), (vec![], 0, 10)),
            // Entries behind its end are not the reader's, neither read nor missed.
            ((2, 10, 8), (vec![6, 7], 4, 8)),
            ((2, 10, 5), (vec![], 3, 5)),
            ((5, 10, 5), (vec![], 0, 5)),
            ((8, 10, 5), (vec![], 0, 8)),
        ];
        for ((position, limit, end), expected) in cases {
            assert_eq!(
                read(&ring, position, limit, end),
                expected,
                "{position} {limit} {end}"
            );
        }
    }

    #[test]
    fn a_range_is_cut_to_what_is_held() {
        let ring = ring(4, 10);
        let cases = [
            (0..5, 6, vec![]),
            (5..8, 6, vec![6, 7]),
            (8..20, 8, vec![8, 9]),
        ];
        for (range, first, expected) in cases {
            let mut out = Vec::new();
            assert_eq!(ring.read_range(range.clone(), &mut out), first, "{range:?}");
            assert_eq!(
                out.iter().map(|entry| **entry).collect::<Vec<_>>(),
                expected,
                "{range:?}"
            );
        }
    }

    #[test]
    fn an_overwritten_entry_is_handed_back() {
        let mut ring = ring(2, 2);
        assert_eq!(ring.push(Arc::new(2)).as_deref(), Some(&0));
    }
}
