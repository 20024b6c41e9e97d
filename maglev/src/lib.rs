//! Maglev lookup tables: which backend a new flow goes to.
//!
//! The algorithm is that of Eisenbud et al., *Maglev: A Fast and Reliable Software Network Load
//! Balancer*, NSDI 2016, section 3.4. Each backend has a permutation of the table's slots, drawn
//! from a hash of its name; the backends take turns, each taking the first slot of its permutation
//! that is still free, until the table is full. The result is balanced (an even share each, to
//! within one slot) and stable (when a backend leaves, nearly all slots of the others stay).
//!
//! Place in the paths: `lb` builds a table on the path of a change; the data path only indexes it.
//!
//! What this crate adds to the paper, each documented where it is done:
//! - the size of a table follows the number of its backends ([`table_size`]);
//! - backends have weights (section 3.4 names them and leaves the method open; see `schedule`);
//! - the last free slots are found by inverting the permutations rather than by walking them (see
//!   `builder`): the same table, built in about half the time. [`plain`] is the unadorned method.
//!
//! # What may be relied on
//! A table is a function of the *set* of names and weights and of the size: the order of the input,
//! the node, the architecture and the release change nothing. All nodes of a cluster therefore send
//! a flow to the same backend, whichever of them it enters by. The test
//! `golden_tables_do_not_change` pins that down; changing it breaks connections during upgrades.
//!
//! ```
//! use maglev::{Backend, build, table_size};
//!
//! let backends = [b"10.0.1.7:80", b"10.0.2.4:80"].map(|name| Backend { name, weight: 1 });
//! let mut slots = Vec::new();
//! build(&backends, table_size(backends.len(), 100), &mut slots)?;
//! assert_eq!(slots.len(), 251);
//! assert_eq!(slots.iter().filter(|&&backend| backend == 0).count().abs_diff(125), 0);
//! # Ok::<(), maglev::BuildError>(())
//! ```

mod builder;
mod hash;
pub mod plain;
mod schedule;
mod size;
mod walk;

pub use builder::{Backend, BuildError, Builder, build};
pub use size::{LADDER, NotPrime, TableSize, table_size};
