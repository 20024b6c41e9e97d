//! Carries steps out and keeps account of what the maps hold.
//!
//! The account changes with each step that succeeded, so after a failure the next plan starts from
//! what really is there.

use std::collections::{BTreeMap, BTreeSet};

use ebpf_abi::{BackendId, ServiceId};
use maglev::{Backend, BuildError, Builder, TableSize};

use super::fit::Capacity;
use super::plan::{Actual, Step, Table};
use super::{BackendAddress, FrontendAddress, FrontendEntry};

/// The maps, as the load balancer needs them.
pub trait LbMaps {
    /// What a map operation fails with.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Entries that there is room for.
    fn capacity(&self) -> Capacity;
    /// All frontends.
    fn frontends(&self) -> Result<Vec<(FrontendAddress, FrontendEntry)>, Self::Error>;
    /// All backends.
    fn backends(&self) -> Result<Vec<(BackendId, BackendAddress)>, Self::Error>;
    /// All services that have a table.
    fn tables(&self) -> Result<Vec<ServiceId>, Self::Error>;
    /// The slots of a service's table; nothing if this agent may not read them.
    fn table(&self, service: ServiceId) -> Result<Option<Vec<BackendId>>, Self::Error>;
    /// Adds or changes a frontend.
    fn insert_frontend(
        &mut self,
        frontend: &FrontendAddress,
        entry: FrontendEntry,
    ) -> Result<(), Self::Error>;
    /// Removes a frontend.
    fn remove_frontend(&mut self, frontend: &FrontendAddress) -> Result<(), Self::Error>;
    /// Adds a backend.
    fn insert_backend(
        &mut self,
        id: BackendId,
        backend: &BackendAddress,
    ) -> Result<(), Self::Error>;
    /// Removes a backend.
    fn remove_backend(
        &mut self,
        id: BackendId,
        backend: &BackendAddress,
    ) -> Result<(), Self::Error>;
    /// Replaces a service's table as a whole.
    fn swap_table(&mut self, service: ServiceId, slots: &[BackendId]) -> Result<(), Self::Error>;
    /// Removes a service's table.
    fn remove_table(&mut self, service: ServiceId) -> Result<(), Self::Error>;
    /// Has every connection checked at its next packet.
    fn raise_generation(&mut self) -> Result<(), Self::Error>;
}

/// A step failed. Those before it are done, those after it are not.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError<E: std::error::Error + 'static> {
    /// The kernel refused a map operation.
    #[error("cannot carry out {step}")]
    Map {
        /// What was tried.
        step: String,
        /// Why it failed.
        source: E,
    },
    /// A table cannot be built.
    #[error("cannot build the table of service {service}")]
    Table {
        /// Number of the service.
        service: u32,
        /// Why.
        source: BuildError,
    },
    /// A table size is not one of the ladder.
    #[error("cannot build the table of service {service}")]
    Size {
        /// Number of the service.
        service: u32,
        /// Why.
        source: maglev::NotPrime,
    },
}

/// Reads back what the maps hold.
pub fn read_back<M: LbMaps>(maps: &M) -> Result<Actual, M::Error> {
    let mut actual = Actual {
        frontends: maps.frontends()?.into_iter().collect(),
        backends: maps.backends()?.into_iter().collect(),
        ..Actual::default()
    };
    for service in maps.tables()? {
        let slots = maps.table(service)?;
        if let Some(slots) = &slots {
            actual.shares.insert(service, shares(slots));
        }
        let table = slots.map(|slots| Table {
            slots: slots.len() as u32,
            backends: slots.into_iter().collect::<BTreeSet<_>>(),
        });
        actual.tables.insert(service, table);
    }
    Ok(actual)
}

fn shares(slots: &[BackendId]) -> BTreeMap<BackendId, u32> {
    let mut shares = BTreeMap::new();
    for id in slots {
        *shares.entry(*id).or_insert(0) += 1;
    }
    shares
}

/// Carries out steps, with memory that is kept from table to table.
#[derive(Default)]
pub struct Applier {
    builder: Builder,
    indexes: Vec<u32>,
    slots: Vec<BackendId>,
}

impl Applier {
    /// Carries out all steps or stops at the first that fails.
    pub fn apply<M: LbMaps>(
        &mut self,
        steps: &[Step],
        maps: &mut M,
        actual: &mut Actual,
    ) -> Result<(), ApplyError<M::Error>> {
        steps
            .iter()
            .try_for_each(|step| self.step(step, maps, actual))
    }

    fn step<M: LbMaps>(
        &mut self,
        step: &Step,
        maps: &mut M,
        actual: &mut Actual,
    ) -> Result<(), ApplyError<M::Error>> {
        let failed = |source| ApplyError::Map {
            step: format!("{step:?}"),
            source,
        };
        match step {
            Step::RemoveFrontend(frontend) => {
                maps.remove_frontend(frontend).map_err(failed)?;
                actual.frontends.remove(frontend);
            }
            Step::InsertBackend(id, backend) => {
                maps.insert_backend(*id, backend).map_err(failed)?;
                actual.backends.insert(*id, *backend);
            }
            Step::SwapTable {
                service,
                backends,
                slots,
            } => {
                self.fill(*service, backends, *slots)?;
                maps.swap_table(*service, &self.slots).map_err(failed)?;
                actual.shares.insert(*service, self.shares(backends));
                let table = Table {
                    backends: backends.iter().map(|(id, _)| *id).collect(),
                    slots: *slots,
                };
                actual.tables.insert(*service, Some(table));
            }
            Step::InsertFrontend(frontend, entry) => {
                maps.insert_frontend(frontend, *entry).map_err(failed)?;
                actual.frontends.insert(*frontend, *entry);
            }
            Step::RemoveTable(service) => {
                maps.remove_table(*service).map_err(failed)?;
                actual.tables.remove(service);
                actual.shares.remove(service);
            }
            Step::RemoveBackend(id, backend) => {
                maps.remove_backend(*id, backend).map_err(failed)?;
                actual.backends.remove(id);
                actual.removed_unseen = true;
            }
            Step::RaiseGeneration => {
                maps.raise_generation().map_err(failed)?;
                actual.removed_unseen = false;
            }
        }
        Ok(())
    }

    /// Slots of each backend of the table that was filled. Counted by place: a look-up for each of
    /// millions of slots takes longer than to build the table.
    fn shares(&self, backends: &[(BackendId, BackendAddress)]) -> BTreeMap<BackendId, u32> {
        let mut counts = vec![0; backends.len()];
        for index in &self.indexes {
            counts[*index as usize] += 1;
        }
        let counted = backends.iter().zip(counts);
        let counted = counted.map(|((id, _), count)| (*id, count));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// Fills `self.slots`. Backends are named by address and port, which all nodes know alike;
    /// their numbers are this node's own.
    fn fill<E: std::error::Error>(
        &mut self,
        service: ServiceId,
        backends: &[(BackendId, BackendAddress)],
        slots: u32,
    ) -> Result<(), ApplyError<E>> {
        const EQUAL_WEIGHT: u16 = 1;
        self.slots.clear();
        self.indexes.clear();
        if backends.is_empty() {
            return Ok(());
        }
        let size = TableSize::from_prime(slots).map_err(|source| ApplyError::Size {
            service: service.0,
            source,
        })?;
        let names: Vec<String> = backends
            .iter()
            .map(|(_, backend)| format!("{} {}", backend.ip, backend.port))
            .collect();
        let named: Vec<Backend<'_>> = names
            .iter()
            .map(|name| Backend {
                name: name.as_bytes(),
                weight: EQUAL_WEIGHT,
            })
            .collect();
        self.builder
            .build(&named, size, &mut self.indexes)
            .map_err(|source| ApplyError::Table {
                service: service.0,
                source,
            })?;
        self.slots
            .extend(self.indexes.iter().map(|index| backends[*index as usize].0));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
