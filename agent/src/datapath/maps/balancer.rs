//! What the load balancer writes: frontends, backends and Maglev tables.

use std::net::IpAddr;

use aya::Ebpf;
use aya::maps::{Array, HashMap, HashOfMaps, MapData, MapError};
use ebpf_abi::backend::{MaglevChunk, maglev_chunks, maglev_position};
use ebpf_abi::frontend::frontend_bit;
use ebpf_abi::{
    Addr4, Addr6, BackendId, BackendValue, Be16, FrontendKey, FrontendValue, Protocol, ServiceId,
};

use super::take;
use crate::datapath::load::LoadError;
use crate::datapath::settings::Settings;
use crate::lb::apply::LbMaps;
use crate::lb::fit::Capacity;
use crate::lb::{BackendAddress, FrontendAddress, FrontendEntry, FrontendReach};
use crate::state::L4Protocol;

/// `BPF_F_INNER_MAP` (include/uapi/linux/bpf.h): arrays of any size fit into one outer map (5.10).
const BPF_F_INNER_MAP: u32 = 1 << 12;

type Table = Array<MapData, MaglevChunk>;

/// Frontends, backends and Maglev tables.
pub struct BalancerMaps {
    frontends4: HashMap<MapData, FrontendKey<Addr4>, FrontendValue>,
    frontends6: HashMap<MapData, FrontendKey<Addr6>, FrontendValue>,
    frontend_bits: Array<MapData, u64>,
    backends4: HashMap<MapData, BackendId, BackendValue<Addr4>>,
    backends6: HashMap<MapData, BackendId, BackendValue<Addr6>>,
    tables: HashOfMaps<MapData, ServiceId, Table>,
    capacity: Capacity,
    settings: Settings,
}

fn wire_protocol(protocol: L4Protocol) -> Protocol {
    match protocol {
        L4Protocol::Tcp => Protocol::TCP,
        L4Protocol::Udp => Protocol::UDP,
    }
}

fn read_protocol(protocol: Protocol) -> L4Protocol {
    if protocol == Protocol::UDP {
        L4Protocol::Udp
    } else {
        L4Protocol::Tcp
    }
}

fn frontend_key<A: ebpf_abi::Address>(address: A, frontend: &FrontendAddress) -> FrontendKey<A> {
    FrontendKey::new(
        address,
        Be16::new(frontend.port),
        wire_protocol(frontend.protocol),
    )
}

fn frontend_of<A: ebpf_abi::Address + Into<IpAddr>>(
    key: FrontendKey<A>,
    value: FrontendValue,
) -> (FrontendAddress, FrontendEntry) {
    let frontend = FrontendAddress {
        ip: key.address.into(),
        port: key.port.get(),
        protocol: read_protocol(key.protocol),
    };
    let reach = if value.flags & FrontendValue::INTERNAL != 0 {
        FrontendReach::Cluster
    } else if value.flags & FrontendValue::NODE_PORT != 0 {
        FrontendReach::NodePort
    } else {
        FrontendReach::Everybody
    };
    let service = value.service;
    (frontend, FrontendEntry { service, reach })
}

fn backend_value<A>(address: A, backend: &BackendAddress) -> BackendValue<A> {
    let flags = if backend.local {
        BackendValue::<A>::LOCAL
    } else {
        0
    };
    BackendValue {
        address,
        port: Be16::new(backend.port),
        flags,
    }
}

fn backend_of<A: Copy + Into<IpAddr>>(value: BackendValue<A>) -> BackendAddress {
    BackendAddress {
        ip: value.address.into(),
        port: value.port.get(),
        local: value.flags & BackendValue::<A>::LOCAL != 0,
    }
}

/// Removing what is gone already is what was wanted.
fn ignore_missing(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Whether this is about the number by which a table is opened that an earlier agent made: that takes
/// `CAP_SYS_ADMIN`, and an agent in a container does not have it.
fn is_denied(error: &MapError) -> bool {
    let denied = std::io::ErrorKind::PermissionDenied;
    matches!(error, MapError::SyscallError(error) if error.io_error.kind() == denied)
}

impl BalancerMaps {
    /// Takes the maps out of the loaded object.
    pub(super) fn take(
        programs: &mut Ebpf,
        capacities: &[(&'static str, u32)],
        settings: &Settings,
    ) -> Result<Self, LoadError> {
        // The kernel says so of every map; an adopted one may be smaller than the object's.
        let least = |maps: &[&str]| {
            let of_these = capacities.iter().filter(|(name, _)| maps.contains(name));
            of_these
                .map(|(_, entries)| *entries as usize)
                .min()
                .unwrap_or(0)
        };
        let mut maps = Self {
            frontends4: take(programs, "FRONTENDS4")?,
            frontends6: take(programs, "FRONTENDS6")?,
            frontend_bits: take(programs, "FRONTEND_BITS")?,
            backends4: take(programs, "BACKENDS4")?,
            backends6: take(programs, "BACKENDS6")?,
            tables: take(programs, "MAGLEV")?,
            capacity: Capacity {
                frontends: least(&["FRONTENDS4", "FRONTENDS6"]),
                backends: least(&["BACKENDS4", "BACKENDS6"]),
                services: least(&["MAGLEV"]),
            },
            settings: settings.clone(),
        };
        maps.announce_adopted().map_err(|source| LoadError::Map {
            name: "FRONTEND_BITS",
            source: Box::new(source),
        })?;
        Ok(maps)
    }

    /// Sets the bits of frontends that are there already: an agent before this one may not have
    /// known the bits.
    fn announce_adopted(&mut self) -> Result<(), MapError> {
        let four: Vec<_> = self.frontends4.keys().collect::<Result<_, _>>()?;
        let six: Vec<_> = self.frontends6.keys().collect::<Result<_, _>>()?;
        let bits4 = four.iter().map(|key| frontend_bit(key.address, key.port));
        let bits6 = six.iter().map(|key| frontend_bit(key.address, key.port));
        bits4.chain(bits6).try_for_each(|bit| self.announce(bit))
    }

    /// Sets a frontend's bit, without which the programs do not look for the frontend.
    fn announce(&mut self, (word, bit): (u32, u64)) -> Result<(), MapError> {
        let bits = self.frontend_bits.get(&word, 0)?;
        if bits & bit != 0 {
            return Ok(());
        }
        self.frontend_bits.set(word, bits | bit, 0)
    }
}

impl LbMaps for BalancerMaps {
    type Error = MapError;

    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn frontends(&self) -> Result<Vec<(FrontendAddress, FrontendEntry)>, MapError> {
        let four = self
            .frontends4
            .iter()
            .map(|entry| entry.map(|(k, v)| frontend_of(k, v)));
        let six = self
            .frontends6
            .iter()
            .map(|entry| entry.map(|(k, v)| frontend_of(k, v)));
        four.chain(six).collect()
    }

    fn backends(&self) -> Result<Vec<(BackendId, BackendAddress)>, MapError> {
        let four = self
            .backends4
            .iter()
            .map(|entry| entry.map(|(k, v)| (k, backend_of(v))));
        let six = self
            .backends6
            .iter()
            .map(|entry| entry.map(|(k, v)| (k, backend_of(v))));
        four.chain(six).collect()
    }

    fn tables(&self) -> Result<Vec<ServiceId>, MapError> {
        self.tables.keys().collect()
    }

    fn table(&self, service: ServiceId) -> Result<Option<Vec<BackendId>>, MapError> {
        let table = match self.tables.get(&service, 0) {
            // It is built anew and swapped in, which needs no more than the outer map.
            Err(error) if is_denied(&error) => return Ok(None),
            table => table?,
        };
        let first = table.get(&0, 0)?;
        let slots = first[0];
        let mut words = Vec::with_capacity(slots as usize + 1);
        words.extend(first);
        for chunk in 1..maglev_chunks(slots) {
            words.extend(table.get(&chunk, 0)?);
        }
        words.truncate(slots as usize + 1);
        Ok(Some(words.into_iter().skip(1).map(BackendId).collect()))
    }

    fn insert_frontend(
        &mut self,
        frontend: &FrontendAddress,
        entry: FrontendEntry,
    ) -> Result<(), MapError> {
        let flags = match entry.reach {
            FrontendReach::Everybody => 0,
            FrontendReach::Cluster => FrontendValue::INTERNAL,
            FrontendReach::NodePort => FrontendValue::NODE_PORT,
        };
        let value = FrontendValue {
            service: entry.service,
            flags,
        };
        match frontend.ip {
            IpAddr::V4(ip) => {
                let key = frontend_key(Addr4::from(ip), frontend);
                self.announce(frontend_bit(key.address, key.port))?;
                self.frontends4.insert(key, value, 0)
            }
            IpAddr::V6(ip) => {
                let key = frontend_key(Addr6::from(ip), frontend);
                self.announce(frontend_bit(key.address, key.port))?;
                self.frontends6.insert(key, value, 0)
            }
        }
    }

    fn remove_frontend(&mut self, frontend: &FrontendAddress) -> Result<(), MapError> {
        ignore_missing(match frontend.ip {
            IpAddr::V4(ip) => self
                .frontends4
                .remove(&frontend_key(Addr4::from(ip), frontend)),
            IpAddr::V6(ip) => self
                .frontends6
                .remove(&frontend_key(Addr6::from(ip), frontend)),
        })
    }

    fn insert_backend(&mut self, id: BackendId, backend: &BackendAddress) -> Result<(), MapError> {
        match backend.ip {
            IpAddr::V4(ip) => self
                .backends4
                .insert(id, backend_value(Addr4::from(ip), backend), 0),
            IpAddr::V6(ip) => self
                .backends6
                .insert(id, backend_value(Addr6::from(ip), backend), 0),
        }
    }

    fn remove_backend(&mut self, id: BackendId, backend: &BackendAddress) -> Result<(), MapError> {
        ignore_missing(match backend.ip {
            IpAddr::V4(_) => self.backends4.remove(&id),
            IpAddr::V6(_) => self.backends6.remove(&id),
        })
    }

    /// Fills a table beside the live one, then swaps it in with one update of the outer map.
    fn swap_table(&mut self, service: ServiceId, slots: &[BackendId]) -> Result<(), MapError> {
        let slot_count = slots.len() as u32;
        let mut table = Table::create(maglev_chunks(slot_count), BPF_F_INNER_MAP)?;
        let mut chunk = [0_u32; ebpf_abi::backend::MAGLEV_CHUNK_WORDS];
        for word in 0..=slot_count {
            let (index, offset) = maglev_position(word);
            chunk[offset] = if word == 0 {
                slot_count
            } else {
                slots[word as usize - 1].0
            };
            if offset + 1 == chunk.len() || word == slot_count {
                table.set(index, chunk, 0)?;
            }
        }
        self.tables.insert(service, &table, 0)
    }

    fn remove_table(&mut self, service: ServiceId) -> Result<(), MapError> {
        ignore_missing(self.tables.remove(&service))
    }

    fn raise_generation(&mut self) -> Result<(), MapError> {
        self.settings.raise_generation()
    }
}
