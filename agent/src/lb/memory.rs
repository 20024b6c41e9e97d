//! The maps in memory, for tests: they notice when a packet would see half a service, and fail on
//! demand.

use std::collections::{BTreeMap, BTreeSet};

use ebpf_abi::{BackendId, ServiceId};

use super::apply::LbMaps;
use super::fit::Capacity;
use super::{BackendAddress, FrontendAddress, FrontendEntry};

/// A map operation that was to fail.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused")]
pub struct Refused;

/// What the maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryMaps {
    pub frontends: BTreeMap<FrontendAddress, FrontendEntry>,
    pub backends: BTreeMap<BackendId, BackendAddress>,
    pub tables: BTreeMap<ServiceId, Vec<BackendId>>,
    pub generation: u32,
    /// Writes that will succeed before one fails; nothing for all.
    pub failing_after: Option<usize>,
    /// What there is room for, if it is bounded.
    pub capacity: Option<Capacity>,
    /// An earlier agent made the tables, and this one may not read them.
    pub unreadable: bool,
    /// Where each frontend may lead while the writes go on; nothing to allow any backend.
    pub allowed: Option<BTreeMap<FrontendAddress, BTreeSet<BackendAddress>>>,
}

impl MemoryMaps {
    /// Where a frontend leads, through its table to addresses; nothing if it is not there.
    pub fn leads_to(&self, frontend: &FrontendAddress) -> Option<BTreeSet<BackendAddress>> {
        let entry = self.frontends.get(frontend)?;
        let table = self
            .tables
            .get(&entry.service)
            .unwrap_or_else(|| panic!("{frontend:?} leads to no table: {self:?}"));
        let address = |id| {
            let found = self.backends.get(id);
            *found.unwrap_or_else(|| panic!("{frontend:?} leads to no backend {id:?}: {self:?}"))
        };
        Some(table.iter().map(address).collect())
    }

    /// Carries a write out unless it is the one to fail, and looks through a packet's eyes.
    fn write(&mut self, write: impl FnOnce(&mut Self)) -> Result<(), Refused> {
        match &mut self.failing_after {
            Some(0) => return Err(Refused),
            Some(left) => *left -= 1,
            None => {}
        }
        write(self);
        let Capacity {
            frontends,
            backends,
            services,
        } = LbMaps::capacity(self);
        let fits = self.frontends.len() <= frontends
            && self.backends.len() <= backends
            && self.tables.len() <= services;
        assert!(fits, "more than there is room for");
        for frontend in self.frontends.keys() {
            let backends = self.leads_to(frontend).expect("it is there");
            if let Some(allowed) = &self.allowed {
                let allowed = allowed.get(frontend);
                assert!(
                    allowed.is_some_and(|allowed| backends.is_subset(allowed)),
                    "{frontend:?} leads to {backends:?}, not {allowed:?}"
                );
            }
        }
        Ok(())
    }
}

impl LbMaps for MemoryMaps {
    type Error = Refused;

    fn capacity(&self) -> Capacity {
        self.capacity.unwrap_or(Capacity {
            frontends: usize::MAX,
            backends: usize::MAX,
            services: usize::MAX,
        })
    }

    fn frontends(&self) -> Result<Vec<(FrontendAddress, FrontendEntry)>, Refused> {
        Ok(self.frontends.iter().map(|(k, v)| (*k, *v)).collect())
    }

    fn backends(&self) -> Result<Vec<(BackendId, BackendAddress)>, Refused> {
        Ok(self.backends.iter().map(|(k, v)| (*k, *v)).collect())
    }

    fn tables(&self) -> Result<Vec<ServiceId>, Refused> {
        Ok(self.tables.keys().copied().collect())
    }

    fn table(&self, service: ServiceId) -> Result<Option<Vec<BackendId>>, Refused> {
        let table = self.tables.get(&service).ok_or(Refused)?;
        Ok((!self.unreadable).then(|| table.clone()))
    }

    fn insert_frontend(
        &mut self,
        frontend: &FrontendAddress,
        entry: FrontendEntry,
    ) -> Result<(), Refused> {
        self.write(|maps| {
            maps.frontends.insert(*frontend, entry);
        })
    }

    fn remove_frontend(&mut self, frontend: &FrontendAddress) -> Result<(), Refused> {
        self.write(|maps| {
            maps.frontends.remove(frontend);
        })
    }

    fn insert_backend(&mut self, id: BackendId, backend: &BackendAddress) -> Result<(), Refused> {
        self.write(|maps| {
            maps.backends.insert(id, *backend);
        })
    }

    fn remove_backend(&mut self, id: BackendId, _: &BackendAddress) -> Result<(), Refused> {
        self.write(|maps| {
            maps.backends.remove(&id);
        })
    }

    fn swap_table(&mut self, service: ServiceId, slots: &[BackendId]) -> Result<(), Refused> {
        self.write(|maps| {
            maps.tables.insert(service, slots.to_vec());
        })
    }

    fn remove_table(&mut self, service: ServiceId) -> Result<(), Refused> {
        self.write(|maps| {
            maps.tables.remove(&service);
        })
    }

    fn raise_generation(&mut self) -> Result<(), Refused> {
        self.write(|maps| maps.generation += 1)
    }
}
