//! The programs' counters, summed over CPUs.

use aya::maps::{MapData, MapError, PerCpuArray};
use ebpf_abi::Counter;

/// Reads `COUNTERS`.
pub struct Counters {
    map: PerCpuArray<MapData, u64>,
}

impl Counters {
    /// Takes over the map.
    pub fn new(map: PerCpuArray<MapData, u64>) -> Self {
        Self { map }
    }

    /// One counter.
    pub fn get(&self, counter: Counter) -> Result<u64, MapError> {
        self.map
            .get(&(counter as u32), 0)
            .map(|values| values.iter().sum())
    }

    /// All counters with their names.
    pub fn all(&self) -> Result<Vec<(&'static str, u64)>, MapError> {
        Counter::ALL
            .iter()
            .map(|(counter, name)| Ok((*name, self.get(*counter)?)))
            .collect()
    }
}
