//! Entries of a map as bytes, from one layout of their value to another.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use aya::maps::{MapError, MapInfo, MapType};
use aya_obj::generated::{bpf_attr, bpf_cmd};

use crate::datapath::syscall::{self, attributes, bpf};

/// Entries asked for at a time.
const BATCH: usize = 4_096;

/// A map of which only the kernel knows what is in it.
#[derive(Debug)]
pub struct RawMap {
    map: OwnedFd,
    id: u32,
    kind: MapType,
    key_len: usize,
    value_len: usize,
    capacity: u32,
    cpus: usize,
}

impl RawMap {
    /// Opens a pinned map.
    pub fn open(path: &Path) -> Result<Self, MapError> {
        let info = MapInfo::from_pin(path)?;
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| io::Error::other(error));
        Ok(Self {
            map: syscall::open(path).map_err(MapError::IoError)?,
            id: info.id(),
            kind: info.map_type()?,
            key_len: info.key_size() as usize,
            value_len: info.value_size() as usize,
            capacity: info.max_entries(),
            cpus: cpus.map_err(MapError::IoError)?,
        })
    }

    /// True if keys and values are of these lengths in bytes, and an array has this many.
    pub fn is_laid_out(&self, (key_len, value_len): (u32, u32), array_len: Option<u32>) -> bool {
        (self.key_len, self.value_len) == (key_len as usize, value_len as usize)
            && array_len.is_none_or(|len| len == self.capacity)
    }

    /// True if both are one map, pinned twice.
    pub fn is_same(&self, other: &Self) -> bool {
        self.id == other.id
    }

    /// True if entries of the one can be entries of the other: plain ones under the same keys.
    pub fn takes_entries_of(&self, other: &Self) -> bool {
        let plain = self.is_hash() || self.is_array() || self.kind == MapType::LpmTrie;
        plain && self.kind == other.kind && self.key_len == other.key_len
    }

    /// True for an array, whose entries are all there from the start.
    pub fn is_array(&self) -> bool {
        matches!(self.kind, MapType::Array | MapType::PerCpuArray)
    }

    fn is_hash(&self) -> bool {
        matches!(
            self.kind,
            MapType::Hash | MapType::LruHash | MapType::PerCpuHash | MapType::LruPerCpuHash
        )
    }

    /// Values of one entry, and the bytes from one to the next: of per-CPU maps there is one for
    /// each processor, at multiples of eight bytes.
    fn values(&self) -> (usize, usize) {
        match self.kind {
            MapType::PerCpuHash | MapType::LruPerCpuHash | MapType::PerCpuArray => {
                (self.cpus, self.value_len.next_multiple_of(8))
            }
            _ => (1, self.value_len),
        }
    }

    fn entry_len(&self) -> usize {
        let (values, stride) = self.values();
        values * stride
    }

    /// Adds the entries of another map that are not in this one, in the layout of this one. Returns
    /// how many were added. Those of an array replace what is there.
    pub fn add_entries_of(&self, from: &Self) -> io::Result<u64> {
        let mut value = vec![0; self.entry_len()];
        let mut added = 0;
        let mut add = |key: &[u8], found: &[u8]| {
            convert(found, from.values().1, &mut value, self.values().1);
            added += u64::from(self.insert(key, &value)?);
            Ok(())
        };
        if from.is_hash() {
            from.for_each_by_batch(&mut add)?;
        } else {
            from.for_each_by_key(&mut add)?;
        }
        Ok(added)
    }

    /// False if there is an entry of this key, or no room for it in an array.
    fn insert(&self, key: &[u8], value: &[u8]) -> io::Result<bool> {
        const ANY: u64 = 0;
        const NOEXIST: u64 = 1;
        let mut attributes = self.element(key, value.as_ptr());
        attributes.__bindgen_anon_2.flags = if self.is_array() { ANY } else { NOEXIST };
        match bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attributes) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) && self.is_array() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// In the order of the table's buckets: an entry that is added or removed meanwhile is visited or
    /// not, and moves no other one.
    fn for_each_by_batch(&self, visit: &mut Visit<'_>) -> io::Result<()> {
        let mut room = BATCH.min(self.capacity as usize);
        let (mut position, mut next) = (Position::default(), Position::default());
        let mut started = false;
        loop {
            let mut keys = vec![0; room * self.key_len];
            let mut values = vec![0; room * self.entry_len()];
            let mut attributes = attributes();
            attributes.batch.map_fd = self.map.as_raw_fd().cast_unsigned();
            attributes.batch.in_batch = if started {
                position.0.as_ptr() as u64
            } else {
                0
            };
            attributes.batch.out_batch = next.0.as_mut_ptr() as u64;
            attributes.batch.keys = keys.as_mut_ptr() as u64;
            attributes.batch.values = values.as_mut_ptr() as u64;
            attributes.batch.count = room as u32;
            let outcome = bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attributes);
            let ended = match outcome {
                Ok(_) => false,
                Err(error) if error.kind() == io::ErrorKind::NotFound => true,
                // One bucket holds more than there is room for.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    room *= 2;
                    continue;
                }
                Err(error) => return Err(error),
            };
            // SAFETY: the call above was one of batches, so this is the member in use.
            let found = unsafe { attributes.batch.count } as usize;
            let keys = keys.chunks_exact(self.key_len);
            let values = values.chunks_exact(self.entry_len());
            for (key, value) in keys.zip(values).take(found) {
                visit(key, value)?;
            }
            if ended {
                return Ok(());
            }
            (position, next) = (next, position);
            started = true;
        }
    }

    /// Of maps that nobody else writes meanwhile.
    fn for_each_by_key(&self, visit: &mut Visit<'_>) -> io::Result<()> {
        let mut key: Option<Vec<u8>> = None;
        let mut value = vec![0; self.entry_len()];
        for _ in 0..self.capacity {
            let mut next = vec![0; self.key_len];
            let mut attributes =
                self.element(key.as_deref().unwrap_or_default(), next.as_mut_ptr());
            if key.is_none() {
                attributes.__bindgen_anon_2.key = 0;
            }
            match bpf(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attributes) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
            let mut attributes = self.element(&next, value.as_mut_ptr());
            match bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attributes) {
                Ok(_) => visit(&next, &value)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            key = Some(next);
        }
        Ok(())
    }

    fn element(&self, key: &[u8], value: *const u8) -> bpf_attr {
        let mut attributes = attributes();
        attributes.__bindgen_anon_2.map_fd = self.map.as_raw_fd().cast_unsigned();
        attributes.__bindgen_anon_2.key = key.as_ptr() as u64;
        attributes.__bindgen_anon_2.__bindgen_anon_1.value = value as u64;
        attributes
    }
}

type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> io::Result<()> + 'a;

/// Where an iteration stands, in whatever form the kernel keeps it: a number for hash tables, a key
/// for others, none of which is longer.
#[derive(Clone, Copy)]
struct Position([u8; 64]);

impl Default for Position {
    fn default() -> Self {
        Self([0; 64])
    }
}

/// Cuts each value off at the end of the other layout, or fills it up with zeros.
fn convert(from: &[u8], from_stride: usize, to: &mut [u8], to_stride: usize) {
    to.fill(0);
    let common = from_stride.min(to_stride);
    for (from, to) in from
        .chunks_exact(from_stride)
        .zip(to.chunks_exact_mut(to_stride))
    {
        to[..common].copy_from_slice(&from[..common]);
    }
}

#[cfg(test)]
mod tests {
    use super::convert;

    #[test]
    fn values_are_cut_off_or_filled_up_with_zeros() {
        let mut wider = [9; 12];
        convert(&[1, 2, 3, 4], 2, &mut wider, 6);
        assert_eq!(wider, [1, 2, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0]);
        let mut narrower = [9; 4];
        convert(&wider, 6, &mut narrower, 2);
        assert_eq!(narrower, [1, 2, 3, 4]);
    }
}
