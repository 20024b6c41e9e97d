//! Typed handles on the maps of encryption.

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError, PerCpuHashMap};
use ebpf_abi::{Addr4, Addr6, IpcacheValue, NodeId, TrafficKey, TrafficPath, TrafficValue};
use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::encryption::Prefix;
use crate::encryption::desired::ranges::Ranges;

/// The maps: whose an address is, and how much went where.
pub struct EncryptionMaps {
    pub(super) ipcache4: LpmTrie<MapData, Addr4, IpcacheValue>,
    pub(super) ipcache6: LpmTrie<MapData, Addr6, IpcacheValue>,
    pub(super) traffic: PerCpuHashMap<MapData, TrafficKey, TrafficValue>,
}

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
        let mut writes = 0;
        for (prefix, value) in desired {
            if actual.get(prefix) != Some(value) {
                match prefix.address() {
                    IpAddr::V4(ip) => {
                        self.ipcache4
                            .insert(&key(*prefix, Addr4::from(ip)), value, 0)
                    }
                    IpAddr::V6(ip) => {
                        self.ipcache6
                            .insert(&key(*prefix, Addr6::from(ip)), value, 0)
                    }
                }?;
                writes += 1;
            }
        }
        for prefix in actual.keys().filter(|prefix| !desired.contains_key(prefix)) {
            match prefix.address() {
                IpAddr::V4(ip) => self.ipcache4.remove(&key(*prefix, Addr4::from(ip))),
                IpAddr::V6(ip) => self.ipcache6.remove(&key(*prefix, Addr6::from(ip))),
            }?;
            writes += 1;
        }
        Ok(writes)
    }

    /// What went to each node by each path, all CPUs together.
    pub fn traffic(&self) -> Result<BTreeMap<(NodeId, TrafficPath), TrafficValue>, MapError> {
        let sum = |values: &[TrafficValue]| {
            values
                .iter()
                .fold(TrafficValue::default(), |sum, value| TrafficValue {
                    packets: sum.packets + value.packets,
                    bytes: sum.bytes + value.bytes,
                })
        };
        self.traffic
            .iter()
            .map(|entry| entry.map(|(key, values)| ((key.node, key.path), sum(&values))))
            .collect()
    }

    /// Packets encrypted for a node, all CPUs together.
    pub fn encrypted_packets(&self, node: NodeId) -> Result<u64, MapError> {
        let path = TrafficPath::ENCRYPTED;
        match self.traffic.get(&TrafficKey { node, path }, 0) {
            Ok(values) => Ok(values.iter().map(|value| value.packets).sum()),
            Err(MapError::KeyNotFound) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Forgets what went to a node that is gone.
    pub fn forget(&mut self, node: NodeId) -> Result<(), MapError> {
        let keys: Vec<_> = self.traffic.keys().collect::<Result<_, _>>()?;
        for key in keys.into_iter().filter(|key: &TrafficKey| key.node == node) {
            self.traffic.remove(&key)?;
        }
        Ok(())
    }
}

fn key<A: aya::Pod>(prefix: Prefix, address: A) -> Key<A> {
    Key::new(prefix.length().into(), address)
}

fn prefix(address: IpAddr, length: u32) -> Prefix {
    let length = u8::try_from(length).unwrap_or(u8::MAX);
    Prefix::new(address, length).unwrap_or_else(|_| Prefix::from(address))
}
