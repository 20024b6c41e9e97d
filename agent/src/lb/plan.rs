//! The steps from what the maps hold to what is desired. Pure.
//!
//! The order is a contract, for a packet may come between any two steps and the agent may die
//! there:
//!
//! 1. frontends that go, so that nothing leads to what is removed below;
//! 2. backends that come;
//! 3. tables, which name only backends that are there;
//! 4. frontends that come, which lead only to tables that are there;
//! 5. tables that go;
//! 6. backends that go, which no table names any more;
//! 7. the generation, so that connections to them are moved at their next packet, and those that are
//!    only being opened to a backend that no table names any more.
//!
//! A frontend that changes from one Service to another may lead to the first one's new backends
//! between 3 and 4, if those change in the same pass.

use std::collections::{BTreeMap, BTreeSet};

use ebpf_abi::{BackendId, ServiceId};

use super::desired::{Desired, DesiredService};
use super::{
    BackendAddress, FrontendAddress, FrontendEntry, FrontendKind, FrontendReach, ServiceKey,
};

/// What the maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// Frontends.
    pub frontends: BTreeMap<FrontendAddress, FrontendEntry>,
    /// Backends, those that only keep the connections they have included.
    pub backends: BTreeMap<BackendId, BackendAddress>,
    /// All tables. Nothing is known of one that an earlier agent made and this one may not read: it
    /// is not what is wanted, whatever that is, and it may name any backend.
    pub tables: BTreeMap<ServiceId, Option<Table>>,
    /// Backends were removed and the generation was not raised since. Not in the maps: a new agent
    /// raises the generation anyway when it sets its addresses.
    pub removed_unseen: bool,
    /// Slots of each backend in them; follows from the above, kept for those who ask.
    pub shares: BTreeMap<ServiceId, BTreeMap<BackendId, u32>>,
}

impl Actual {
    /// The table of a service, if it is there and its content is known.
    pub fn table(&self, service: ServiceId) -> Option<&Table> {
        self.tables.get(&service)?.as_ref()
    }

    /// Whether a table names a backend, or may.
    fn may_lead_to(&self, backend: BackendId) -> bool {
        let names = |table: &Table| table.backends.contains(&backend);
        let mut tables = self.tables.values();
        tables.any(|table| table.as_ref().is_none_or(names))
    }
}

/// What decides the content of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Backends in it.
    pub backends: BTreeSet<BackendId>,
    /// Number of slots.
    pub slots: u32,
}

/// One write to the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Remove a frontend.
    RemoveFrontend(FrontendAddress),
    /// Add a backend.
    InsertBackend(BackendId, BackendAddress),
    /// Build a service's table and swap it in.
    SwapTable {
        /// The service.
        service: ServiceId,
        /// Its backends.
        backends: Vec<(BackendId, BackendAddress)>,
        /// Slots; zero without backends.
        slots: u32,
    },
    /// Add a frontend or lead it elsewhere.
    InsertFrontend(FrontendAddress, FrontendEntry),
    /// Remove a service's table.
    RemoveTable(ServiceId),
    /// Remove a backend.
    RemoveBackend(BackendId, BackendAddress),
    /// Have all connections checked.
    RaiseGeneration,
}

/// Numbers of services and backends. They mean something only on this node, and only the maps
/// remember them: a new agent learns them from there.
#[derive(Debug, Default)]
pub struct Ids {
    services: BTreeMap<ServiceKey, ServiceId>,
    backends: BTreeMap<BackendAddress, BackendId>,
    next_service: u32,
    next_backend: u32,
}

impl Ids {
    /// Learns the numbers in use. A service's number is the one its frontends lead to, unless
    /// frontends of another lead there too: filling its table would mislead those.
    pub fn recover(actual: &Actual, desired: &Desired) -> Self {
        let mut ids = Self::default();
        let mut claims: BTreeMap<ServiceId, BTreeSet<&ServiceKey>> = BTreeMap::new();
        for (key, service) in &desired.services {
            for entry in service
                .frontends
                .keys()
                .filter_map(|f| actual.frontends.get(f))
            {
                claims.entry(entry.service).or_default().insert(key);
            }
        }
        for (id, claimants) in claims {
            if let [key] = claimants.into_iter().collect::<Vec<_>>()[..] {
                ids.services.entry(key.clone()).or_insert(id);
            }
        }
        let in_tables = actual.tables.keys().map(|id| id.0);
        let in_frontends = actual.frontends.values().map(|entry| entry.service.0);
        ids.next_service = in_tables.chain(in_frontends).max().unwrap_or(0);
        for (id, address) in &actual.backends {
            ids.backends.entry(*address).or_insert(*id);
        }
        ids.next_backend = actual.backends.keys().map(|id| id.0).max().unwrap_or(0);
        ids
    }

    /// The number of a service, if it has one.
    pub fn service_id(&self, key: &ServiceKey) -> Option<ServiceId> {
        self.services.get(key).copied()
    }

    /// The number of a backend, if it has one.
    pub fn backend_id(&self, address: &BackendAddress) -> Option<BackendId> {
        self.backends.get(address).copied()
    }

    fn service(&mut self, key: &ServiceKey) -> ServiceId {
        *self.services.entry(key.clone()).or_insert_with(|| {
            self.next_service += 1;
            ServiceId(self.next_service)
        })
    }

    /// An agent never uses a number twice, so that a connection that remembers one does not take
    /// another backend for its own. A new agent cannot know the numbers of backends that were removed
    /// before; that is why the programs compare the address as well.
    fn backend(&mut self, address: &BackendAddress) -> BackendId {
        *self.backends.entry(*address).or_insert_with(|| {
            self.next_backend += 1;
            BackendId(self.next_backend)
        })
    }
}

/// Plans all steps. `external_cluster_ip` opens ClusterIPs to clients outside.
pub fn plan(
    desired: &Desired,
    actual: &Actual,
    ids: &mut Ids,
    load_factor: usize,
    external_cluster_ip: bool,
) -> Vec<Step> {
    ids.services
        .retain(|key, _| desired.services.contains_key(key));
    let mut wanted = Wanted::default();
    for (key, service) in &desired.services {
        wanted.add(
            ids.service(key),
            service,
            ids,
            load_factor,
            external_cluster_ip,
        );
    }
    let mut steps = Vec::new();
    steps.extend(
        actual
            .frontends
            .keys()
            .filter(|frontend| !wanted.frontends.contains_key(frontend))
            .map(|frontend| Step::RemoveFrontend(*frontend)),
    );
    steps.extend(
        wanted
            .backends
            .iter()
            .filter(|(id, address)| actual.backends.get(id) != Some(address))
            .map(|(id, address)| Step::InsertBackend(*id, *address)),
    );
    steps.extend(
        wanted
            .tables
            .iter()
            .filter(|(id, table)| actual.table(**id) != Some(*table))
            .map(|(id, table)| wanted.swap(*id, table)),
    );
    steps.extend(
        wanted
            .frontends
            .iter()
            .filter(|(frontend, entry)| actual.frontends.get(frontend) != Some(entry))
            .map(|(frontend, entry)| Step::InsertFrontend(*frontend, *entry)),
    );
    steps.extend(
        actual
            .tables
            .keys()
            .filter(|id| !wanted.tables.contains_key(id))
            .map(|id| Step::RemoveTable(*id)),
    );
    let removed: Vec<Step> = actual
        .backends
        .iter()
        .filter(|(id, _)| !wanted.backends.contains_key(id))
        .map(|(id, address)| Step::RemoveBackend(*id, *address))
        .collect();
    ids.backends
        .retain(|_, id| wanted.backends.contains_key(id));
    let some_removed = !removed.is_empty();
    steps.extend(removed);
    if some_removed || wanted.stops_leading_to_some(actual) || actual.removed_unseen {
        steps.push(Step::RaiseGeneration);
    }
    steps
}

/// What the maps should hold.
#[derive(Default)]
struct Wanted {
    frontends: BTreeMap<FrontendAddress, FrontendEntry>,
    /// Some services lead to these no more.
    draining: BTreeSet<BackendId>,
    backends: BTreeMap<BackendId, BackendAddress>,
    tables: BTreeMap<ServiceId, Table>,
}

impl Wanted {
    fn add(
        &mut self,
        id: ServiceId,
        service: &DesiredService,
        ids: &mut Ids,
        load_factor: usize,
        external_cluster_ip: bool,
    ) {
        for (frontend, kind) in &service.frontends {
            let reach = match kind {
                FrontendKind::ClusterIp if !external_cluster_ip => FrontendReach::Cluster,
                FrontendKind::NodePort => FrontendReach::NodePort,
                _ => FrontendReach::Everybody,
            };
            self.frontends
                .insert(*frontend, FrontendEntry { service: id, reach });
        }
        let mut table = Table::default();
        for address in service.backends.keys() {
            let backend = ids.backend(address);
            self.backends.insert(backend, *address);
            table.backends.insert(backend);
        }
        // Nobody new is led there; who is there already finds it.
        for address in &service.draining {
            if let Some(backend) = ids.backend_id(address) {
                self.backends.insert(backend, *address);
                self.draining.insert(backend);
            }
        }
        if !table.backends.is_empty() {
            table.slots = maglev::table_size(table.backends.len(), load_factor).get();
        }
        self.tables.insert(id, table);
    }

    /// True if a backend stays that tables named, or may have, and none is to name.
    fn stops_leading_to_some(&self, actual: &Actual) -> bool {
        let is_named = |id: &BackendId| {
            let mut tables = self.tables.values();
            tables.any(|table| table.backends.contains(id))
        };
        let mut draining = self.draining.iter();
        draining.any(|id| actual.may_lead_to(*id) && !is_named(id))
    }

    fn swap(&self, service: ServiceId, table: &Table) -> Step {
        let backends = table
            .backends
            .iter()
            .filter_map(|id| Some((*id, *self.backends.get(id)?)))
            .collect();
        Step::SwapTable {
            service,
            backends,
            slots: table.slots,
        }
    }
}

#[cfg(test)]
mod tests;
