//! The maps by type: typed handles on those that the agent reads or writes, the layouts of all.

mod balancer;

use std::mem::size_of;

use aya::Ebpf;
use aya::maps::{Array, Map, MapData, MapError};
use ebpf_abi::frontend::FRONTEND_WORDS;
use ebpf_abi::{
    Addr4, Addr6, BackendId, BackendValue, ConntrackValue, Counter, DatapathConfig, FlowKey,
    FlowValue, FrontendKey, FrontendValue, IpcacheValue, ServiceId, SocketKey, SocketValue,
    TrafficKey, TrafficValue, Tuple,
};

use super::counters::Counters;
use super::encryption_maps::{EncryptionMaps, TrafficAccount};
use super::events::Events;
use super::load::LoadError;
use super::settings::Settings;
use crate::config::Config;

pub use balancer::BalancerMaps;

/// Maps whose fill level the agent knows, because it alone writes them.
const BALANCER_MAPS: [&str; 5] = [
    "FRONTENDS4",
    "FRONTENDS6",
    "BACKENDS4",
    "BACKENDS6",
    "MAGLEV",
];

/// All maps that userspace reads or writes.
pub struct Maps {
    /// What the load balancer writes.
    pub balancer: BalancerMaps,
    /// Settings.
    pub settings: Settings,
    /// Counters.
    pub counters: Counters,
    /// Flow events.
    pub events: Events,
    /// How many lost ones agents have told of.
    pub events_lost_told: Array<MapData, u64>,
    /// Whose addresses are, and how much went where.
    pub encryption: EncryptionMaps,
    /// Entries that the load balancer's maps can hold, by name.
    pub capacities: Vec<(&'static str, u32)>,
}

fn take<T>(programs: &mut Ebpf, name: &'static str) -> Result<T, LoadError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let missing = || LoadError::Map {
        name,
        source: Box::new(MapError::InvalidName { name: name.into() }),
    };
    programs
        .take_map(name)
        .ok_or_else(missing)?
        .try_into()
        .map_err(|source| LoadError::Map {
            name,
            source: Box::new(source),
        })
}

/// What the kernel says of the maps that the load balancer can fill. An adopted map may hold more
/// or less than the object asks for.
fn capacities(programs: &Ebpf) -> Result<Vec<(&'static str, u32)>, LoadError> {
    let capacity = |name: &'static str| {
        let (Map::HashMap(map) | Map::HashOfMaps(map)) = programs.map(name)? else {
            return None;
        };
        Some(
            map.info()
                .map(|info| (name, info.max_entries()))
                .map_err(|source| LoadError::Map {
                    name,
                    source: Box::new(source),
                }),
        )
    };
    BALANCER_MAPS.into_iter().filter_map(capacity).collect()
}

impl Maps {
    /// Takes the maps out of the loaded object.
    pub(super) fn take(programs: &mut Ebpf, config: &Config) -> Result<Self, LoadError> {
        let capacities = capacities(programs)?;
        let settings =
            Settings::new(take(programs, "CONFIG")?, config).map_err(|source| LoadError::Map {
                name: "CONFIG",
                source: Box::new(source),
            })?;
        let balancer = BalancerMaps::take(programs, &capacities, &settings)?;
        Ok(Self {
            balancer,
            settings,
            counters: Counters::new(take(programs, "COUNTERS")?),
            events: Events::new(take(programs, "EVENTS")?),
            events_lost_told: take(programs, "EVENTS_LOST_TOLD")?,
            encryption: EncryptionMaps {
                ipcache4: take(programs, "IPCACHE4")?,
                ipcache6: take(programs, "IPCACHE6")?,
                account: TrafficAccount::new(take(programs, "TRAFFIC")?),
            },
            capacities,
        })
    }

    /// Entries of a pinned map that is an array.
    pub(super) fn array_len(name: &str) -> Option<u32> {
        match name {
            "FRONTEND_BITS" => Some(FRONTEND_WORDS as u32),
            "COUNTERS" => Some(Counter::COUNT as u32),
            "EVENTS_LOST_TOLD" | "CONFIG" => Some(1),
            _ => None,
        }
    }

    /// Key and value size of a pinned map, in bytes.
    pub(super) fn layout(name: &str) -> (u32, u32) {
        const fn sizes<K, V>() -> (u32, u32) {
            (size_of::<K>() as u32, size_of::<V>() as u32)
        }
        match name {
            "FRONTENDS4" => sizes::<FrontendKey<Addr4>, FrontendValue>(),
            "FRONTENDS6" => sizes::<FrontendKey<Addr6>, FrontendValue>(),
            "BACKENDS4" => sizes::<BackendId, BackendValue<Addr4>>(),
            "BACKENDS6" => sizes::<BackendId, BackendValue<Addr6>>(),
            "MAGLEV" => sizes::<ServiceId, u32>(),
            "CONNTRACK4" => sizes::<Tuple<Addr4>, ConntrackValue<Addr4>>(),
            "CONNTRACK6" => sizes::<Tuple<Addr6>, ConntrackValue<Addr6>>(),
            "FLOWS4" => sizes::<FlowKey<Addr4>, FlowValue>(),
            "FLOWS6" => sizes::<FlowKey<Addr6>, FlowValue>(),
            "SOCKETS4" => sizes::<SocketKey<Addr4>, SocketValue<Addr4>>(),
            "SOCKETS6" => sizes::<SocketKey<Addr6>, SocketValue<Addr6>>(),
            // A prefix length in front of the address.
            "IPCACHE4" => sizes::<[u32; 2], IpcacheValue>(),
            "IPCACHE6" => sizes::<[u32; 5], IpcacheValue>(),
            "TRAFFIC" => sizes::<TrafficKey, TrafficValue>(),
            "COUNTERS" | "EVENTS_LOST_TOLD" | "FRONTEND_BITS" => sizes::<u32, u64>(),
            "CONFIG" => sizes::<u32, DatapathConfig>(),
            // A ring buffer has neither.
            _ => (0, 0),
        }
    }
}
