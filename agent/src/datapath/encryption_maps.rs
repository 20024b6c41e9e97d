//! Typed handles on the maps of encryption.

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError, PerCpuHashMap};
use ebpf_abi::{Addr4, Addr6, IpcacheValue, NodeId, TrafficKey, TrafficValue};
use itertools::{EitherOrBoth, Itertools};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::encryption::Prefix;
use crate::encryption::desired::ranges::{Ranges, by_prefix};
use crate::encryption::snapshot::handle::{Account, ReadAccount};

/// The maps: whose an address is, and how much went where.
pub struct EncryptionMaps {
    pub(super) ipcache4: LpmTrie<MapData, Addr4, IpcacheValue>,
    pub(super) ipcache6: LpmTrie<MapData, Addr6, IpcacheValue>,
    /// How much went where.
    pub account: TrafficAccount,
}

type TrafficMap = PerCpuHashMap<MapData, TrafficKey, TrafficValue>;

/// `TRAFFIC`, shared between the one who forgets nodes and those who read. Cheap to clone.
#[derive(Clone)]
pub struct TrafficAccount(Arc<Mutex<TrafficMap>>);

impl EncryptionMaps {
    /// All ranges.
    pub fn ranges(&self) -> Result<Ranges, MapError> {
        let four = self.ipcache4.iter().map(|entry| {
            entry.map(|(key, value)| (prefix(IpAddr::from(key.data()), key.prefix_len()), value))
        });
        let six = self.ipcache6.iter().map(|entry| {
            entry.map(|(key, value)| (prefix(IpAddr::from(key.data()), key.prefix_len()), value))
        });
        four.chain(six).collect()
    }

    /// Brings the ranges in step, writing only what differs: what is new comes first, so that no
    /// address is unguarded in between. Returns the number of writes.
    pub fn set_ranges(&mut self, desired: &Ranges) -> Result<usize, MapError> {
        let actual = self.ranges()?;
        self.write_ranges(&actual, desired)
    }

    /// Likewise, where it is known what they are.
    pub fn write_ranges(&mut self, actual: &Ranges, desired: &Ranges) -> Result<usize, MapError> {
        let mut writes = 0;
        let mut gone = Vec::new();
        for range in actual.iter().merge_join_by(desired, by_prefix) {
            match range {
                EitherOrBoth::Left((prefix, _)) => gone.push(*prefix),
                EitherOrBoth::Both((_, is), (_, wanted)) if is == wanted => {}
                EitherOrBoth::Both(_, (prefix, value)) | EitherOrBoth::Right((prefix, value)) => {
                    self.insert(*prefix, *value)?;
                    writes += 1;
                }
            }
        }
        for prefix in gone {
            self.remove(prefix)?;
            writes += 1;
        }
        Ok(writes)
    }

    fn insert(&mut self, prefix: Prefix, value: IpcacheValue) -> Result<(), MapError> {
        match prefix.address() {
            IpAddr::V4(ip) => self
                .ipcache4
                .insert(&key(prefix, Addr4::from(ip)), value, 0),
            IpAddr::V6(ip) => self
                .ipcache6
                .insert(&key(prefix, Addr6::from(ip)), value, 0),
        }
    }

    fn remove(&mut self, prefix: Prefix) -> Result<(), MapError> {
        match prefix.address() {
            IpAddr::V4(ip) => self.ipcache4.remove(&key(prefix, Addr4::from(ip))),
            IpAddr::V6(ip) => self.ipcache6.remove(&key(prefix, Addr6::from(ip))),
        }
    }
}

impl TrafficAccount {
    pub(super) fn new(map: TrafficMap) -> Self {
        Self(Arc::new(Mutex::new(map)))
    }

    /// What went to each node by each path, all CPUs together.
    pub fn read(&self) -> Result<Account, MapError> {
        let sum = |values: &[TrafficValue]| {
            values
                .iter()
                .fold(TrafficValue::default(), |sum, value| TrafficValue {
                    packets: sum.packets + value.packets,
                    bytes: sum.bytes + value.bytes,
                })
        };
        self.lock()
            .iter()
            .map(|entry| entry.map(|(key, values)| ((key.node, key.path), sum(&values))))
            .collect()
    }

    /// Forgets what went to a node that is gone.
    pub fn forget(&self, node: NodeId) -> Result<(), MapError> {
        let mut map = self.lock();
        let keys: Vec<_> = map.keys().collect::<Result<_, _>>()?;
        for key in keys.into_iter().filter(|key: &TrafficKey| key.node == node) {
            map.remove(&key)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, TrafficMap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadAccount for TrafficAccount {
    fn account(&self) -> anyhow::Result<Account> {
        Ok(self.read()?)
    }
}

fn key<A: aya::Pod>(prefix: Prefix, address: A) -> Key<A> {
    Key::new(prefix.length().into(), address)
}

fn prefix(address: IpAddr, length: u32) -> Prefix {
    let length = u8::try_from(length).unwrap_or(u8::MAX);
    Prefix::new(address, length).unwrap_or_else(|_| Prefix::from(address))
}
